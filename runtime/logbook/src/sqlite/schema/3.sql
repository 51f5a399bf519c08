-- What stands for the records of a run that were let go: the run after them.
CREATE TABLE beginnings (
    run INTEGER PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- How the flow of a run was changed in records that were let go, and how many edits it was made with by then.
CREATE TABLE revisions (
    run INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    at INTEGER NOT NULL,
    edits INTEGER NOT NULL,
    PRIMARY KEY (run, revision)
) STRICT, WITHOUT ROWID;
