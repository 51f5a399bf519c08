-- Trim points: the snapshot of a run that replaces its deleted oldest records.
CREATE TABLE waft.beginnings (
    run BIGINT PRIMARY KEY,
    version BIGINT NOT NULL,
    body BYTEA NOT NULL
);

-- The revisions of a flow in deleted records, each with the number of edits up to it.
CREATE TABLE waft.revisions (
    run BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    at BIGINT NOT NULL,
    edits BIGINT NOT NULL,
    PRIMARY KEY (run, revision)
);
