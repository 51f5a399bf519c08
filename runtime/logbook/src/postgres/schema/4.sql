-- Names in the words of the code.
ALTER TABLE waft.runs RENAME COLUMN told TO published;
ALTER TABLE waft.runs RENAME COLUMN owing TO unpublished;
ALTER INDEX waft.runs_owing RENAME TO runs_unpublished;
ALTER TABLE waft.beginnings RENAME TO trim_points;
ALTER INDEX waft.beginnings_pkey RENAME TO trim_points_pkey;
