-- The usage of the last attempt of each task, apart from the logs: whoever shows a run reads no bodies of logs. Elements of lists are left
-- out. `first` is that of its log.
CREATE TABLE last_usages (
    run INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    task TEXT NOT NULL,
    first INTEGER NOT NULL,
    firing INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    action TEXT NOT NULL,
    at INTEGER NOT NULL,
    worker TEXT,
    usage BLOB NOT NULL,
    PRIMARY KEY (run, task)
) STRICT, WITHOUT ROWID;
-- The columns beside the maximum are those of its row.
INSERT INTO last_usages (run, task, first, firing, attempt, action, at, worker, usage)
    SELECT run, task, max(first << 32 | number) >> 32, firing, attempt, action, at, worker, usage FROM logs
    WHERE usage IS NOT NULL AND instr(task, '[') = 0 GROUP BY run, task;

-- Finds the log of one attempt.
CREATE INDEX logs_attempt ON logs (run, task, firing, attempt, action);

-- Whether a log has recorded HTTP exchanges, in its body or in the store. An older log may have some if it has a usage.
ALTER TABLE logs ADD COLUMN has_http INTEGER NOT NULL DEFAULT 0;
UPDATE logs SET has_http = 1 WHERE exchanges IS NOT NULL OR usage IS NOT NULL AND length(body) > 0;
-- The last two columns make the index enough for those who only need the digests.
CREATE INDEX logs_http ON logs (run, first, number, exchanges, has_http) WHERE has_http = 1;
