-- What was asked of the servers that share this logbook. `subject` is the id of a run, the digest of a module or the name of a token.
CREATE TABLE waft.audit (
    key BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    caller TEXT NOT NULL,
    peer TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT,
    status INTEGER NOT NULL
);

CREATE INDEX audit_subject ON waft.audit (subject, key) WHERE subject IS NOT NULL;
CREATE INDEX audit_at ON waft.audit (at);
