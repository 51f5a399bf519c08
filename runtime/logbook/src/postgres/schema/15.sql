-- The labels of a run, as they are in its first record. `started_at` and `id` are those of the run: the indices have the order of lists.
CREATE TABLE waft.labels (
    run BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run, name)
);

CREATE INDEX labels_by_value ON waft.labels (name, value, started_at DESC, id DESC);
CREATE INDEX labels_by_name ON waft.labels (name, started_at DESC, id DESC);

-- The texts by which a run is found: the values of its labels, and its short inputs. Runs of an older waft have none.
CREATE TABLE waft.search_texts (
    run BIGINT NOT NULL,
    text TEXT COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run, text)
);

CREATE INDEX search_texts_by_text ON waft.search_texts (text, started_at DESC, id DESC);

-- Lists compare flow and state in these indices, and counts read nothing else.
DROP INDEX waft.runs_youngest;
CREATE INDEX runs_youngest ON waft.runs (started_at DESC, id DESC, state, flow);
DROP INDEX waft.runs_of_flow;
CREATE INDEX runs_of_flow ON waft.runs (flow, started_at DESC, id DESC, state);
