-- Counts and times are those of records and microseconds. Ids sort as bytes, as they do everywhere else.
DO $$ BEGIN
    -- Whoever has no right to make schemas may have been given this one.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'waft') THEN CREATE SCHEMA waft; END IF;
END $$;

-- One row.
CREATE TABLE waft.meta (
    key INTEGER PRIMARY KEY CHECK (key = 1),
    schema BIGINT NOT NULL
);

-- Each append writes its run's row anew. Pages are left with room for that, and no index holds what an append changes
-- while the state stays: so indices are not written.
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

-- What follows has no foreign keys: an append holds its run's row when it writes them, and so does what forgets it, and
-- a look at the run for each row would cost more than the row.

-- One row for all records of one append: `first` is the version before the first of them.
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

-- `first` is that of the records it came with, and `number` counts within them.
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

-- One row, which is written to see whether that works.
CREATE TABLE waft.checks (
    key INTEGER PRIMARY KEY CHECK (key = 1),
    number BIGINT NOT NULL
);
