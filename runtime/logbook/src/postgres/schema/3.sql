-- What stands for the records of a run that were let go: the run after them.
CREATE TABLE waft.beginnings (
    run BIGINT PRIMARY KEY,
    version BIGINT NOT NULL,
    body BYTEA NOT NULL
);

-- How the flow of a run was changed in records that were let go, and how many edits it was made with by then.
CREATE TABLE waft.revisions (
    run BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    at BIGINT NOT NULL,
    edits BIGINT NOT NULL,
    PRIMARY KEY (run, revision)
);
