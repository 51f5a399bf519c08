-- The runs of a flow that have not ended: an operator may limit their number.
CREATE INDEX runs_unended ON waft.runs (flow) WHERE state IN ('pending', 'running', 'suspending', 'suspended');
