-- What was asked of the servers that share this logbook. `subject` is the id of a run, the digest of a module or the name of a token.
CREATE TABLE audit (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    caller TEXT NOT NULL,
    peer TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT,
    status INTEGER NOT NULL
) STRICT;

CREATE INDEX audit_subject ON audit (subject, key) WHERE subject IS NOT NULL;
CREATE INDEX audit_at ON audit (at);
