-- Trim points: the snapshot of a run that replaces its deleted oldest records.
CREATE TABLE beginnings (
    run INTEGER PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- The revisions of a flow in deleted records, each with the number of edits up to it.
CREATE TABLE revisions (
    run INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    at INTEGER NOT NULL,
    edits INTEGER NOT NULL,
    PRIMARY KEY (run, revision)
) STRICT, WITHOUT ROWID;
