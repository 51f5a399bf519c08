-- What an attempt used, apart from its log. An attempt may have no log, and then an empty body.
ALTER TABLE waft.logs ADD COLUMN usage bytea;
-- The digest of the HTTP exchanges of an attempt that are in the store.
ALTER TABLE waft.logs ADD COLUMN exchanges bytea;
