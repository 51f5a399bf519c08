-- The publish cursor: everything that the records caused up to this version is published. Older runs are fully published.
ALTER TABLE waft.runs ADD COLUMN told BIGINT NOT NULL DEFAULT 0;
UPDATE waft.runs SET told = version;

-- Whether a run that has ended or is idle may have unpublished changes; no later append stores that they were published.
-- It is a column and not a comparison, since each append would write an index on the version.
ALTER TABLE waft.runs ADD COLUMN owing BOOLEAN NOT NULL DEFAULT false;
CREATE INDEX runs_owing ON waft.runs (shard, key) WHERE owing;
