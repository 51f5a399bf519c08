-- The warehouse of the example. README.md says how to make it.

CREATE TABLE orders (
    -- The page of a firing of a run: the idempotency key of the call that loaded the row.
    batch text NOT NULL,
    id text NOT NULL,
    customer text NOT NULL,
    cents bigint NOT NULL CHECK (cents >= 0),
    PRIMARY KEY (batch, id)
);

-- Guests see the password of this user, so it may do no more than they need.
GRANT SELECT, INSERT, DELETE ON orders TO etl;
