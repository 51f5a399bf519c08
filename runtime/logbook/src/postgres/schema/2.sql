-- Up to which version all that a run's records changed is known to have been told. Of the runs before, all was.
ALTER TABLE waft.runs ADD COLUMN told BIGINT NOT NULL DEFAULT 0;
UPDATE waft.runs SET told = version;

-- Whether that is less than all of a run that has ended or rests: no append will note it then. It stands in the row, and is
-- not found by comparing, since an index that looks at the version would be written with each append.
ALTER TABLE waft.runs ADD COLUMN owing BOOLEAN NOT NULL DEFAULT false;
CREATE INDEX runs_owing ON waft.runs (shard, key) WHERE owing;
