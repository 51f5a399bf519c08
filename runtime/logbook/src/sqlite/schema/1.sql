-- Versions count records, and times are in microseconds. States are text, so that people can read them.
CREATE TABLE runs (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    shard TEXT NOT NULL,
    flow TEXT NOT NULL,
    state TEXT NOT NULL,
    version INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT;

CREATE INDEX runs_open ON runs (shard, started_at, id) WHERE state IN ('running', 'suspending');
CREATE INDEX runs_ended ON runs (changed_at) WHERE state IN ('success', 'rolled-back');
CREATE INDEX runs_youngest ON runs (started_at DESC, id DESC);

-- One row for all records of one append: `first` is the version that they follow.
CREATE TABLE records (
    run INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    first INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (run, first)
) STRICT, WITHOUT ROWID;

-- Not a column of the runs, whose rows each append rewrites.
CREATE TABLE snapshots (
    run INTEGER PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- `first` is that of the records in the same append, and `number` counts the logs of the append.
CREATE TABLE logs (
    run INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    first INTEGER NOT NULL,
    number INTEGER NOT NULL,
    task TEXT NOT NULL,
    firing INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    action TEXT NOT NULL,
    at INTEGER NOT NULL,
    worker TEXT,
    body BLOB NOT NULL,
    PRIMARY KEY (run, first, number)
) STRICT, WITHOUT ROWID;

-- The digests of modules and values that a run refers to.
CREATE TABLE content (
    run INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    digest BLOB NOT NULL,
    PRIMARY KEY (run, digest)
) STRICT, WITHOUT ROWID;

-- One row, which a check of the logbook writes.
CREATE TABLE checks (
    key INTEGER PRIMARY KEY CHECK (key = 1),
    number INTEGER NOT NULL
) STRICT;
