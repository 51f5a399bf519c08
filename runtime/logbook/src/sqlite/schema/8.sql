-- The namespace that a token is limited to; NULL for a token for all of them.
ALTER TABLE tokens ADD COLUMN namespace TEXT;
