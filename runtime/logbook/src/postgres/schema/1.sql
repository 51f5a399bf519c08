-- Versions count records, and times are in microseconds. Ids sort as bytes, as in the rest of waft.
DO $$ BEGIN
    -- A user without the right to create schemas may already have this one.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'waft') THEN CREATE SCHEMA waft; END IF;
END $$;

-- One row.
CREATE TABLE waft.meta (
    key INTEGER PRIMARY KEY CHECK (key = 1),
    schema BIGINT NOT NULL
);

-- Each append updates the row of its run. Pages keep free space for that, and no index has a column that an append changes
-- while the state stays the same, so an append writes no index.
CREATE TABLE waft.runs (
    key BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    shard TEXT COLLATE "C" NOT NULL,
    flow TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
) WITH (fillfactor = 70);

CREATE INDEX runs_open ON waft.runs (shard, started_at, id) WHERE state IN ('running', 'suspending');
CREATE INDEX runs_ended ON waft.runs (key) WHERE state IN ('success', 'rolled-back');
CREATE INDEX runs_youngest ON waft.runs (started_at DESC, id DESC);

-- The following tables have no foreign keys: appends and deletions lock the row of the run first, and a lookup of the run
-- for each row would cost more than the row.

-- One row for all records of one append: `first` is the version that they follow.
CREATE TABLE waft.records (
    run BIGINT NOT NULL,
    first BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (run, first)
);

CREATE TABLE waft.snapshots (
    run BIGINT PRIMARY KEY,
    version BIGINT NOT NULL,
    body BYTEA NOT NULL
);

-- `first` is that of the records in the same append, and `number` counts the logs of the append.
CREATE TABLE waft.logs (
    run BIGINT NOT NULL,
    first BIGINT NOT NULL,
    number BIGINT NOT NULL,
    task TEXT NOT NULL,
    firing BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    action TEXT NOT NULL,
    at BIGINT NOT NULL,
    worker TEXT,
    body BYTEA NOT NULL,
    PRIMARY KEY (run, first, number)
);

-- The digests of modules and values that a run refers to.
CREATE TABLE waft.content (
    run BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    PRIMARY KEY (run, digest)
);

-- One row, which a check of the logbook writes.
CREATE TABLE waft.checks (
    key INTEGER PRIMARY KEY CHECK (key = 1),
    number BIGINT NOT NULL
);
