-- Results that a namespace remembers; an empty namespace is that of flows in none. They refer to no run: the run that computed
-- one may be deleted before it. A result that does not expire has the largest time.
CREATE TABLE remembered (
    namespace TEXT NOT NULL,
    key BLOB NOT NULL,
    run TEXT NOT NULL,
    task TEXT NOT NULL,
    firing INTEGER NOT NULL,
    at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    size INTEGER NOT NULL,
    -- The digests of its values in the store, one after the other.
    content BLOB,
    body BLOB NOT NULL,
    PRIMARY KEY (namespace, key)
) STRICT;

CREATE INDEX remembered_by_run ON remembered (run);
CREATE INDEX remembered_by_age ON remembered (namespace, at, size);
CREATE INDEX remembered_by_expiry ON remembered (expires_at);
