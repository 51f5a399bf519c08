-- Up to which version all that a run's records changed is known to have been told. Of the runs before, all was.
ALTER TABLE runs ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET told = version;

-- Whether that is less than all of a run that has ended or rests: no append will note it then. It changes when the state
-- does, and once more.
ALTER TABLE runs ADD COLUMN owing INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_owing ON runs (shard, key) WHERE owing = 1;
