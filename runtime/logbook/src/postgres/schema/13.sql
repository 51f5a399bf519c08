-- Results that a namespace remembers; an empty namespace is that of flows in none. They refer to no run: the run that computed
-- one may be deleted before it. A result that does not expire has the largest time.
CREATE TABLE waft.remembered (
    namespace TEXT COLLATE "C" NOT NULL,
    key BYTEA NOT NULL,
    run TEXT COLLATE "C" NOT NULL,
    task TEXT COLLATE "C" NOT NULL,
    firing BIGINT NOT NULL,
    at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    size BIGINT NOT NULL,
    -- The digests of its values in the store, one after the other.
    content BYTEA,
    body BYTEA NOT NULL,
    PRIMARY KEY (namespace, key)
);

CREATE INDEX remembered_by_run ON waft.remembered (run);
CREATE INDEX remembered_by_age ON waft.remembered (namespace, at) INCLUDE (size);
CREATE INDEX remembered_by_expiry ON waft.remembered (expires_at);
