-- Lists of the runs of one flow, or of one namespace, do not go through the runs of others. No append changes these columns.
CREATE INDEX runs_of_flow ON waft.runs (flow, started_at DESC, id DESC);
CREATE INDEX runs_of_namespace ON waft.runs (left(flow, strpos(flow, '/')), started_at DESC, id DESC);

-- The suspended runs of a shard: whoever takes it over reads them.
CREATE INDEX runs_suspended ON waft.runs (shard, started_at DESC, id DESC) WHERE state = 'suspended';
