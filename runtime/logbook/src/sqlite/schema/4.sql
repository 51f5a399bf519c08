-- Names in the words of the code.
ALTER TABLE runs RENAME COLUMN told TO published;
ALTER TABLE runs RENAME COLUMN owing TO unpublished;
DROP INDEX runs_owing;
CREATE INDEX runs_unpublished ON runs (shard, key) WHERE unpublished = 1;
ALTER TABLE beginnings RENAME TO trim_points;
