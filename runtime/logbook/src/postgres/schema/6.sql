-- The tokens with which programs and people use a server. `hash` is of the token, and `scopes` has a space between words.
CREATE TABLE waft.tokens (
    name TEXT COLLATE "C" PRIMARY KEY,
    hash BYTEA NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);
