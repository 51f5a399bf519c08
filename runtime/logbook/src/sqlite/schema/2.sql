-- The publish cursor: everything that the records caused up to this version is published. Older runs are fully published.
ALTER TABLE runs ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET told = version;

-- Whether a run that has ended or is idle may have unpublished changes; no later append stores that they were published.
-- It changes with the state, and when everything is published.
ALTER TABLE runs ADD COLUMN owing INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_owing ON runs (shard, key) WHERE owing = 1;
