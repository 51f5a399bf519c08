-- What an attempt used, apart from its log. An attempt may have no log, and then an empty body.
ALTER TABLE logs ADD COLUMN usage BLOB;
-- The digest of the HTTP exchanges of an attempt that are in the store.
ALTER TABLE logs ADD COLUMN exchanges BLOB;
