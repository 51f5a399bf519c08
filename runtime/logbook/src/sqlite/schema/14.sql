-- Lists of the runs of one flow, or of one namespace, do not go through the runs of others. No append changes these columns.
CREATE INDEX runs_of_flow ON runs (flow, started_at DESC, id DESC);
CREATE INDEX runs_of_namespace ON runs (substr(flow, 1, instr(flow, '/')), started_at DESC, id DESC);

-- The suspended runs of a shard: whoever takes it over reads them.
CREATE INDEX runs_suspended ON runs (shard, started_at DESC, id DESC) WHERE state = 'suspended';
