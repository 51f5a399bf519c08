-- The usage of the last attempt of each task, apart from the logs: whoever shows a run does not read all its logs. Elements of lists are
-- left out. `first` is that of its log. Each attempt updates a row, and no index has a column that it changes.
CREATE TABLE waft.last_usages (
    run BIGINT NOT NULL,
    task TEXT COLLATE "C" NOT NULL,
    first BIGINT NOT NULL,
    firing BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    action TEXT NOT NULL,
    at BIGINT NOT NULL,
    worker TEXT,
    usage BYTEA NOT NULL,
    PRIMARY KEY (run, task)
) WITH (fillfactor = 70);
INSERT INTO waft.last_usages (run, task, first, firing, attempt, action, at, worker, usage)
    SELECT DISTINCT ON (run, task) run, task, first, firing, attempt, action, at, worker, usage FROM waft.logs
    WHERE usage IS NOT NULL AND strpos(task, '[') = 0 ORDER BY run, task, first DESC, number DESC;

-- Finds the log of one attempt.
CREATE INDEX logs_attempt ON waft.logs (run, task, firing, attempt, action);

-- Whether a log has recorded HTTP exchanges, in its body or in the store. An older log may have some if it has a usage.
ALTER TABLE waft.logs ADD COLUMN has_http BOOLEAN NOT NULL DEFAULT false;
UPDATE waft.logs SET has_http = true
    WHERE exchanges IS NOT NULL OR usage IS NOT NULL AND octet_length(body) > 0;
CREATE INDEX logs_http ON waft.logs (run, first, number) WHERE has_http;
