//! The SQL of lists and counts of runs, for both databases.
//!
//! A list starts from the index that finds the fewest runs, and reads it in the order of the list: it ends once the page is
//! full, however many runs there are. Which index that is depends on how often a label or a flow occurs, so bounded counts are
//! taken first. [`Start`] has the choices.

use flow::RunState;

use crate::{
    Filter,
    row::{column, flows_in},
};

/// The maximum count of the runs that an index finds. Two indices that find as many are equally good.
pub(crate) const ENOUGH: i64 = 1_000;

/// The differences between the databases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    /// What stands before the name of a table.
    schema: &'static str,
    /// What stands before the number of a parameter.
    parameter: char,
    /// Whether a statement names the index that it uses. Otherwise the planner chooses it, by its statistics.
    names_index: bool,
    /// The namespace of a run with a slash, as in the index of namespaces.
    namespace: &'static str,
}

pub(crate) const SQLITE: Dialect =
    Dialect { schema: "", parameter: '?', names_index: true, namespace: "substr(runs.flow, 1, instr(runs.flow, '/'))" };
pub(crate) const POSTGRES: Dialect = Dialect {
    schema: "waft.",
    parameter: '$',
    names_index: false,
    namespace: "left(runs.flow, strpos(runs.flow, '/'))",
};

/// A parameter of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parameter {
    Number(i64),
    Text(String),
}

/// A statement with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) parameters: Vec<Parameter>,
}

/// The index that a statement starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// The runs with a label, in the order of the list.
    Label(usize),
    /// The runs of a flow, in the order of the list.
    Flow,
    /// The runs of a namespace, in the order of the list.
    Namespace,
    /// The suspended runs of a shard, in the order of the list.
    Suspended,
    /// The runs with a search text, in the order of the list.
    Text,
    /// The runs whose ids begin with the search text, a few.
    Id,
    /// All runs whose ids begin with the search text, in the order of the list.
    YoungestId,
    /// All runs, in the order of the list.
    Youngest,
}

/// The starts that a filter allows, beside the index of all runs.
pub(crate) fn starts(filter: &Filter) -> Vec<Start> {
    let labels = (0..filter.labels.len()).map(Start::Label);
    let text = filter.text.iter().flat_map(|text| {
        let id = id_range(text.as_str()).map(|_| Start::Id);
        [Some(Start::Text), id].into_iter().flatten()
    });
    let flow = filter.flow.iter().map(|_| Start::Flow);
    let namespace = filter.namespace.iter().filter(|_| filter.flow.is_none()).map(|_| Start::Namespace);
    let is_suspended = filter.shard.is_some() && filter.states == [RunState::Suspended];
    let suspended = is_suspended.then_some(Start::Suspended);
    labels.chain(flow).chain(namespace).chain(suspended).chain(text).collect()
}

/// Whether the best start depends on how many runs each finds.
pub(crate) fn needs_counts(filter: &Filter) -> bool {
    starts(filter).len() > 1
}

/// The starts of the statements that together find the runs of a filter, given how many runs each of [`starts`] finds.
pub(crate) fn choose(filter: &Filter, counts: &[(Start, i64)]) -> Vec<Start> {
    let count = |start: Start| counts.iter().find(|(counted, _)| *counted == start).map_or(ENOUGH, |(_, count)| *count);
    let all = starts(filter);
    let others = all.iter().filter(|start| !start.is_of_text());
    let best = others.map(|start| (count(*start), *start)).min_by_key(|(count, _)| *count);
    let Some(text) = &filter.text else {
        return vec![best.map_or(Start::Youngest, |(_, start)| start)];
    };
    let id = id_range(text.as_str()).map(|_| count(Start::Id));
    let found = count(Start::Text) + id.unwrap_or(0);
    match best {
        Some((count, start)) if count <= found => vec![start],
        _ => {
            let id = id.map(|count| if count < ENOUGH { Start::Id } else { Start::YoungestId });
            [Some(Start::Text), id].into_iter().flatten().collect()
        }
    }
}

/// Counts the runs that a start finds, up to [`ENOUGH`].
pub(crate) fn count_of_start(filter: &Filter, start: Start, dialect: Dialect) -> Statement {
    let mut query = Query::new(dialect);
    let limit = query.number(ENOUGH);
    query.start(filter, start, Part::Index);
    query.finish(|from, conditions| {
        format!("SELECT count(*) FROM (SELECT 1 FROM {from} WHERE {conditions} LIMIT {limit}) AS found")
    })
}

/// Lists the runs that a start finds: their columns, from the youngest.
pub(crate) fn list(filter: &Filter, start: Start, dialect: Dialect) -> Statement {
    let mut query = Query::new(dialect);
    let limit = query.number(i64::try_from(filter.limit).unwrap_or(i64::MAX));
    query.start(filter, start, Part::Run);
    let order = start.order();
    query.after(filter, order);
    query.times(filter, order);
    query.rest(filter, start);
    query.finish(|from, conditions| {
        format!(
            "SELECT runs.key, runs.id, runs.shard, runs.flow, runs.state, runs.version, runs.started_at, runs.changed_at, \
             runs.published FROM {from} WHERE {conditions} ORDER BY {order}.started_at DESC, {order}.id DESC LIMIT {limit}"
        )
    })
}

/// Counts the runs of a filter by flow and state, from the flow with the first name: the first `max_groups` groups, each with
/// the number of all counted runs. At most `max_runs` are counted.
pub(crate) fn counts(filter: &Filter, starts: &[Start], max_groups: i64, max_runs: i64, dialect: Dialect) -> Statement {
    let mut query = Query::new(dialect);
    let (groups, runs) = (query.number(max_groups), query.number(max_runs));
    let start = match starts {
        [Start::Youngest | Start::Flow | Start::Namespace | Start::Suspended] | [] => Start::Flow,
        [start] => *start,
        _ => Start::Text,
    };
    match (start, starts) {
        // The index has all that is counted, in the order of the flows.
        (Start::Flow, _) => query.from.push_str(&dialect.runs("runs_of_flow")),
        // A run may be found by its id and by a text.
        (Start::Text, [_, _]) => query.start_by_text_or_id(filter),
        (start, _) => query.start(filter, start, Part::Run),
    }
    query.times(filter, "runs");
    query.rest(filter, if start == Start::Flow { Start::Youngest } else { start });
    query.finish(|from, conditions| {
        format!(
            "SELECT flow, state, count(*), CAST(sum(count(*)) OVER () AS BIGINT) FROM \
             (SELECT runs.flow, runs.state FROM {from} WHERE {conditions} LIMIT {runs}) AS counted \
             GROUP BY flow, state ORDER BY flow, state LIMIT {groups}"
        )
    })
}

/// The first and the last id that begin with a text; `None` if no id does. The characters of ids come before ~.
pub(crate) fn id_range(text: &str) -> Option<(String, String)> {
    flow::RunId::new(text).ok().map(|first| (first.to_string(), format!("{first}~")))
}

impl Start {
    /// Whether it finds runs by the search text.
    fn is_of_text(self) -> bool {
        match self {
            Self::Text | Self::Id | Self::YoungestId => true,
            Self::Label(_) | Self::Flow | Self::Namespace | Self::Suspended | Self::Youngest => false,
        }
    }

    /// The table whose columns have the order of the list.
    fn order(self) -> &'static str {
        match self {
            Self::Label(_) | Self::Text => "found",
            Self::Flow | Self::Namespace | Self::Suspended | Self::Id | Self::YoungestId | Self::Youngest => "runs",
        }
    }
}

/// What a statement reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Only the index that it starts from.
    Index,
    /// Also the runs.
    Run,
}

impl Dialect {
    fn table(self, table: &str, alias: &str, index: &str) -> String {
        let index = if self.names_index { format!(" INDEXED BY {index}") } else { String::new() };
        format!("{}{table} AS {alias}{index}", self.schema)
    }

    fn runs(self, index: &str) -> String {
        self.table("runs", "runs", index)
    }

    /// Joins the runs to what was found. SQLite keeps the order of the tables then.
    fn join_runs(self) -> String {
        let join = if self.names_index { "CROSS JOIN" } else { "JOIN" };
        format!(" {join} {}runs AS runs ON runs.key = found.run", self.schema)
    }
}

/// A statement under construction.
struct Query {
    dialect: Dialect,
    from: String,
    conditions: Vec<String>,
    parameters: Vec<Parameter>,
}

impl Query {
    fn new(dialect: Dialect) -> Self {
        Self { dialect, from: String::new(), conditions: Vec::new(), parameters: Vec::new() }
    }

    fn parameter(&mut self, parameter: Parameter) -> String {
        self.parameters.push(parameter);
        format!("{}{}", self.dialect.parameter, self.parameters.len())
    }

    fn number(&mut self, number: i64) -> String {
        self.parameter(Parameter::Number(number))
    }

    fn text(&mut self, text: &str) -> String {
        self.parameter(Parameter::Text(text.to_owned()))
    }

    fn finish(self, sql: impl FnOnce(&str, &str) -> String) -> Statement {
        let conditions = if self.conditions.is_empty() { "1 = 1".to_owned() } else { self.conditions.join(" AND ") };
        Statement { sql: sql(&self.from, &conditions), parameters: self.parameters }
    }

    /// Starts from an index, with its own condition.
    fn start(&mut self, filter: &Filter, start: Start, part: Part) {
        let dialect = self.dialect;
        match start {
            Start::Label(index) => {
                let label = &filter.labels[index];
                let by = if label.value.is_some() { "labels_by_value" } else { "labels_by_name" };
                self.from.push_str(&dialect.table("labels", "found", by));
                let name = self.text(label.name.as_str());
                self.conditions.push(format!("found.name = {name}"));
                if let Some(value) = &label.value {
                    let value = self.text(value.as_str());
                    self.conditions.push(format!("found.value = {value}"));
                }
            }
            Start::Text => {
                self.from.push_str(&dialect.table("search_texts", "found", "search_texts_by_text"));
                let text = self.text(filter.text.as_ref().map_or("", |text| text.as_str()));
                self.conditions.push(format!("found.text = {text}"));
            }
            Start::Flow => {
                self.from.push_str(&dialect.runs("runs_of_flow"));
                self.flow(filter);
            }
            Start::Namespace => {
                self.from.push_str(&dialect.runs("runs_of_namespace"));
                let namespace = filter.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
                let namespace = self.text(&namespace);
                self.conditions.push(format!("{} = {namespace}", dialect.namespace));
            }
            Start::Suspended => {
                self.from.push_str(&dialect.runs("runs_suspended"));
                self.shard(filter);
                // A literal, since the index is for it.
                self.conditions.push("runs.state = 'suspended'".to_owned());
            }
            Start::Id => {
                self.from.push_str(&dialect.runs("sqlite_autoindex_runs_1"));
                self.id(filter);
            }
            Start::YoungestId => {
                self.from.push_str(&dialect.runs("runs_youngest"));
                self.id(filter);
            }
            Start::Youngest => self.from.push_str(&dialect.runs("runs_youngest")),
        }
        if part == Part::Run && start.order() == "found" {
            self.from.push_str(&dialect.join_runs());
        }
    }

    /// Starts from the runs that a search text finds by their ids or otherwise, each once.
    fn start_by_text_or_id(&mut self, filter: &Filter) {
        let Some(text) = &filter.text else { return };
        let schema = self.dialect.schema;
        let (first, last) = id_range(text.as_str()).unwrap_or_default();
        let (text, first, last) = (self.text(text.as_str()), self.text(&first), self.text(&last));
        self.from = format!(
            "(SELECT run FROM {schema}search_texts WHERE text = {text} \
             UNION SELECT key FROM {schema}runs WHERE id BETWEEN {first} AND {last}) AS found{}",
            self.dialect.join_runs()
        );
    }

    /// Only runs after the previous page.
    fn after(&mut self, filter: &Filter, order: &str) {
        if let Some((at, run)) = &filter.after {
            let (at, run) = (self.number(column(at.as_micros())), self.text(run.as_str()));
            self.conditions.push(format!("({order}.started_at, {order}.id) < ({at}, {run})"));
        }
    }

    fn times(&mut self, filter: &Filter, table: &str) {
        if let Some(since) = filter.since {
            let since = self.number(column(since.as_micros()));
            self.conditions.push(format!("{table}.started_at >= {since}"));
        }
        if let Some(until) = filter.until {
            let until = self.number(column(until.as_micros()));
            self.conditions.push(format!("{table}.started_at < {until}"));
        }
    }

    fn flow(&mut self, filter: &Filter) {
        if let Some(flow) = &filter.flow {
            let flow = self.text(flow.as_str());
            self.conditions.push(format!("runs.flow = {flow}"));
        }
    }

    fn namespace(&mut self, filter: &Filter) {
        if let Some(namespace) = &filter.namespace {
            let (first, last) = flows_in(namespace);
            let (first, last) = (self.text(&first), self.text(&last));
            self.conditions.push(format!("runs.flow BETWEEN {first} AND {last}"));
        }
    }

    fn shard(&mut self, filter: &Filter) {
        if let Some(shard) = &filter.shard {
            let shard = self.text(shard.as_str());
            self.conditions.push(format!("runs.shard = {shard}"));
        }
    }

    fn id(&mut self, filter: &Filter) {
        if let Some((first, last)) = filter.text.as_ref().and_then(|text| id_range(text.as_str())) {
            let (first, last) = (self.text(&first), self.text(&last));
            self.conditions.push(format!("runs.id BETWEEN {first} AND {last}"));
        }
    }

    /// The conditions that the start does not have.
    fn rest(&mut self, filter: &Filter, start: Start) {
        let schema = self.dialect.schema;
        if start != Start::Flow {
            self.flow(filter);
        }
        if start != Start::Namespace {
            self.namespace(filter);
        }
        if start != Start::Suspended {
            self.shard(filter);
        }
        if !filter.states.is_empty() {
            let states: Vec<String> = filter.states.iter().map(|state| self.text(state.as_str())).collect();
            self.conditions.push(format!("runs.state IN ({})", states.join(", ")));
        }
        for (index, label) in filter.labels.iter().enumerate() {
            if start == Start::Label(index) {
                continue;
            }
            let name = self.text(label.name.as_str());
            let value = label.value.as_ref().map(|value| self.text(value.as_str()));
            let value = value.map(|value| format!(" AND other.value = {value}")).unwrap_or_default();
            self.conditions.push(format!(
                "EXISTS (SELECT 1 FROM {schema}labels AS other WHERE other.run = runs.key AND other.name = {name}{value})"
            ));
        }
        let Some(text) = filter.text.as_ref().filter(|_| !start.is_of_text()) else { return };
        let value = self.text(text.as_str());
        let by_text = format!(
            "EXISTS (SELECT 1 FROM {schema}search_texts AS other WHERE other.run = runs.key AND other.text = {value})"
        );
        let condition = match id_range(text.as_str()) {
            Some((first, last)) => {
                let (first, last) = (self.text(&first), self.text(&last));
                format!("(runs.id BETWEEN {first} AND {last} OR {by_text})")
            }
            None => by_text,
        };
        self.conditions.push(condition);
    }
}
