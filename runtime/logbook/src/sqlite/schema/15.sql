-- The labels of a run, as they are in its first record. `started_at` and `id` are those of the run: the indices have the order of lists.
CREATE TABLE labels (
    run INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX labels_by_value ON labels (name, value, started_at DESC, id DESC);
CREATE INDEX labels_by_name ON labels (name, started_at DESC, id DESC);

-- The texts by which a run is found: the values of its labels, and its short inputs. Runs of an older waft have none.
CREATE TABLE search_texts (
    run INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    text TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (run, text)
) STRICT, WITHOUT ROWID;

CREATE INDEX search_texts_by_text ON search_texts (text, started_at DESC, id DESC);

-- Lists compare flow and state in these indices, and counts read nothing else.
DROP INDEX runs_youngest;
CREATE INDEX runs_youngest ON runs (started_at DESC, id DESC, state, flow);
DROP INDEX runs_of_flow;
CREATE INDEX runs_of_flow ON runs (flow, started_at DESC, id DESC, state);
