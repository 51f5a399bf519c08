//! The JSON types of the HTTP API between client and server.
//!
//! Values of flows keep their original text, so that no number loses a digit. Bytes and references to the store are separate
//! from JSON, see [`ValuesObject`].

mod check;
mod edit;
#[cfg(feature = "schema")]
mod schema;

use std::collections::BTreeMap;

pub use check::{Check, Checks, Outcome};
pub use flow::ValuesObject;
use protocol::WorkerStatus;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// JSON objects by name, each as it was written.
pub type Object = BTreeMap<String, Box<RawValue>>;

/// A run to be started.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Submission {
    /// The run's id; chosen when not given. A run that exists already is answered as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The text of the flow file.
    pub flow: String,
    /// Modules by alias, each a tag or a digest; they replace what the file says in `[modules]`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, String>,
    /// Values the run starts with; they go over the file's `[inputs]`.
    #[serde(default, skip_serializing_if = "ValuesObject::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = schema::Values))]
    pub inputs: ValuesObject,
}

/// A run in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Summary {
    /// The run's id.
    pub run: String,
    /// The name of its flow.
    pub flow: String,
    /// Its state: `pending running success failure rolled-back suspending suspended`.
    pub state: String,
    /// When it started, as RFC 3339 has it.
    pub started_at: String,
    /// When it last changed.
    pub changed_at: String,
}

/// A page of the list of runs, the youngest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Runs {
    /// The runs.
    pub runs: Vec<Summary>,
    /// What to give as `after` for the next page; `null` on the last one.
    pub next: Option<String>,
}

/// Which runs a list is to have.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
pub struct ListQuery {
    /// Of this flow only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// In one of these states, joined by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Started at or after this time, as RFC 3339 has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Started before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// At most so many: 1 to 1000, 100 when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// What the page before gave as `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A run with all its tasks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Run {
    /// The run's id.
    pub run: String,
    /// The name of its flow.
    pub flow: String,
    /// Its state.
    pub state: String,
    /// Whether the run was cancelled or has expired, and is not rolled back yet: calls that have begun are waited for, and
    /// rollbacks are made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelling: bool,
    /// The revision of its flow.
    pub revision: u64,
    /// When it started, as RFC 3339 has it.
    pub started_at: String,
    /// When it last changed.
    pub changed_at: String,
    /// The changes of its flow, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<Revision>,
    /// How often it has fired, of a run that fires more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fired: Option<u64>,
    /// Its firings that are under way or need a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firings: Vec<FiringState>,
    /// What came to fire its tasks, and fired nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedTriggers>,
    /// Its schedules that have missed times to make up for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backlogs: Vec<Backlog>,
    /// When its schedules fire next, in the flow's order. Those of a run that is suspended wait for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<NextTime>,
    /// Its tasks and retry controllers, in the flow's order.
    pub tasks: Vec<Node>,
    /// What the run started with.
    #[cfg_attr(feature = "schema", schema(value_type = schema::Values))]
    pub inputs: ValuesObject,
    /// What its tasks left that is still in force.
    #[cfg_attr(feature = "schema", schema(value_type = schema::Values))]
    pub provides: ValuesObject,
    /// The nodes that failed in the last pass, and why.
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, Failure>))]
    pub failures: Object,
    /// What is odd about the flow without keeping it from running; told to who submits it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Diagnostic>,
}

/// A call that is out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OutstandingCall {
    /// The queue that its job went to.
    pub queue: String,
    /// When it was handed out.
    pub since: String,
    /// Who has it, where that is known: of a call that has run for ten seconds, or that an engine wanted to withdraw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Whether it waits for a worker, and none takes jobs from its queue.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untaken: bool,
    /// For how many seconds no heartbeat of its worker has come, where one is late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_for: Option<f64>,
}

/// A worker that was lost while it called a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LostWorker {
    /// The worker, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The attempt that was lost.
    pub attempt: u32,
    /// When that was recorded.
    pub at: String,
}

/// A task or a retry controller of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Node {
    /// `task` or `retry`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its state: `pending running success failure rolling-back rolled-back rollback-failure ignored retrying`.
    pub state: String,
    /// Its firing; left out before it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firing: Option<u64>,
    /// Its attempt; left out before it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// When its last apply or rollback was handed to the workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Since when it is in its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// What it left, by the flow's names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<schema::Values>))]
    pub provides: Option<ValuesObject>,
    /// Why it failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Failure>))]
    pub failure: Option<Box<RawValue>>,
    /// Why a person took its failed rollback as done, in the person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_skipped: Option<String>,
    /// In how many seconds it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in: Option<f64>,
    /// What it waits to be notified of, while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits: Option<AwaitedNotification>,
    /// Its call, while one is out; of a task that is called for each element of a list, the one that is out longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<OutstandingCall>,
    /// The workers that were lost while they had a long call of it, as far as the records go back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<LostWorker>,
    /// The elements of the list that it is called for, once that is known; left out of a task that is called once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elements: Option<ElementProgress>,
    /// Who called it last, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Its module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// How far a task is that is called for each element of a list.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ElementProgress {
    /// How many elements there are.
    pub count: u64,
    /// How many of them are in success.
    pub succeeded: u64,
}

/// What a task waits for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AwaitedNotification {
    /// In a word.
    pub word: String,
    /// The values that a notification has to bring.
    pub values: Vec<String>,
    /// When it fails, if nobody has notified it by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// Why a node failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Failure {
    /// `transient permanent timeout memory trap output-limit invalid-output missing-input module poison cancelled`.
    pub kind: String,
    /// In words.
    pub message: String,
    /// What else its guest said, any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<serde_json::Value>))]
    pub details: Option<Box<RawValue>>,
    /// Why the apply had failed, of a rollback that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(no_recursion))]
    pub apply: Option<Box<Failure>>,
}

/// What guests wrote during the attempts of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RunLogs {
    /// The attempts that wrote something, in the order they were answered.
    pub logs: Vec<AttemptLog>,
}

/// What a guest wrote during one attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AttemptLog {
    /// The task.
    pub task: String,
    /// The attempt.
    pub attempt: u32,
    /// The firing.
    pub firing: u64,
    /// `apply` or `rollback`.
    pub call: String,
    /// Who called it, where known.
    pub worker: Option<String>,
    /// When it was answered.
    pub at: String,
    /// The lines.
    pub lines: Vec<LogLine>,
    /// Whether there was more than is kept.
    pub cut: bool,
}

/// One line that a guest wrote.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// The level's word; `stdout` or `stderr` for what was printed.
    pub level: String,
    /// The line.
    pub text: String,
}

/// The state a run is in once something asked for it is recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RunStateResponse {
    /// The run's id.
    pub run: String,
    /// Its state.
    pub state: String,
    /// Whether the run is cancelled, and is not rolled back yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelling: bool,
}

/// A rollback that a person has settled.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SkipRollback {
    /// The task.
    pub task: String,
    /// Why its rollback is not needed any more.
    pub reason: String,
}

/// Changes of a run's flow: all in one step, or none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Edits {
    /// What is changed, in this order.
    pub edits: Vec<Edit>,
    /// Refuse where the flow is at another revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<u64>,
    /// Only say whether it can be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// Modules by alias, each a tag or a digest.
// Client generators make a type of each named schema, and lose unnamed schemas within a choice.
#[cfg(feature = "schema")]
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct ModuleNames(BTreeMap<String, String>);

/// One change of a run's flow.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields, remote = "Self")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Edit {
    /// Adds tasks, nested flows and links, written as in a flow file without its name.
    #[cfg_attr(feature = "schema", schema(title = "EditAdd"))]
    Add {
        /// The text.
        text: String,
        /// Its modules by alias, each a tag or a digest; they replace what the text says in `[modules]`.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        #[cfg_attr(feature = "schema", schema(value_type = ModuleNames))]
        modules: BTreeMap<String, String>,
    },
    /// Removes a task and its links.
    #[cfg_attr(feature = "schema", schema(title = "EditRemove"))]
    Remove {
        /// The task.
        task: String,
    },
    /// Links two nodes; a link of theirs that is there already is replaced.
    #[cfg_attr(feature = "schema", schema(title = "EditLink"))]
    Link {
        /// The source.
        from: String,
        /// Who listens.
        to: String,
        /// `success`, `failure` or `any`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on: Option<String>,
        /// A condition.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        when: Option<String>,
        /// `all`, `flow`, `neighbors` or `task`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reach: Option<String>,
        /// `all` or `any`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        join: Option<String>,
    },
    /// Takes the links between two nodes away.
    #[cfg_attr(feature = "schema", schema(title = "EditUnlink"))]
    Unlink {
        /// The source.
        from: String,
        /// Who listens.
        to: String,
    },
    /// Lets a task that has not run call something else.
    #[cfg_attr(feature = "schema", schema(title = "EditUse"))]
    Use {
        /// The task.
        task: String,
        /// `module#task` or `module`; the module is an alias of the flow, a tag or a digest.
        uses: String,
    },
    /// Gives a task a constant.
    #[cfg_attr(feature = "schema", schema(title = "EditSet"))]
    Set {
        /// The task.
        task: String,
        /// What the task calls it.
        parameter: String,
        /// The value, any JSON.
        #[cfg_attr(feature = "schema", schema(value_type = serde_json::Value))]
        value: Box<RawValue>,
    },
    /// Lets a task take a value from elsewhere.
    #[cfg_attr(feature = "schema", schema(title = "EditRequire"))]
    Require {
        /// The task.
        task: String,
        /// What the task calls it.
        parameter: String,
        /// What the flow calls it.
        value: String,
    },
}

/// A run's flow that was changed, or could be.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EditResult {
    /// The run's id.
    pub run: String,
    /// The revision of the changed flow.
    pub revision: u64,
    /// Whether it was changed; not where it was only asked whether it could be.
    pub applied: bool,
    /// What was changed, in words.
    pub edits: Vec<String>,
    /// What is odd about the flow without keeping it from running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Diagnostic>,
}

/// One time that a run's flow was changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Revision {
    /// The flow's revision from then on.
    pub revision: u64,
    /// When.
    pub at: String,
    /// What was changed, in words.
    pub edits: Vec<String>,
}

/// What a task is notified of: that it succeeds, with the values that it provides, or that it fails. A task of a persistent
/// flow that calls a guest fires with the values.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Notification {
    /// The task.
    pub task: String,
    /// The values that it provides, by the task's names; those that it fires with, by the flow's.
    #[serde(default, skip_serializing_if = "ValuesObject::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = schema::Values))]
    pub values: ValuesObject,
    /// Why it fails; in place of values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// What tells it from other notifications: of several with one key the first fires a persistent flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Schedules and notifications that came to fire a task, and fired nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SkippedTriggers {
    /// The task.
    pub task: String,
    /// Why: `overlap` (an earlier firing of the schedule was under way), `missed` (nobody drove the run when the time came)
    /// or `full` (10,000 firings waited for their turn).
    pub reason: String,
    /// How many. Of times that were missed at once at most 1,000 are counted.
    pub count: u64,
    /// When the last one was skipped.
    pub last_at: String,
}

/// A schedule with missed times that are still to fire.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Backlog {
    /// The task that it fires.
    pub task: String,
    /// The first of its missed times.
    pub next: String,
}

/// When a schedule fires next.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NextTime {
    /// The task that it fires.
    pub task: String,
    /// Then, as RFC 3339 has it.
    pub at: String,
}

/// A firing of a run that fires more than once.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FiringState {
    /// Which.
    pub firing: u64,
    /// Its state, in the words of a run's.
    pub state: String,
}

/// A module that was looked into.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Module {
    /// Its digest.
    pub digest: String,
    /// How many bytes it has.
    pub size: u64,
    /// The names of its tasks; none for a WASI command.
    pub tasks: Vec<String>,
}

/// What the store holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Modules {
    /// The modules and large values, in order of digest.
    pub modules: Vec<StoredModule>,
}

/// One content of the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StoredModule {
    /// Its digest.
    pub digest: String,
    /// How many bytes it has.
    pub size: u64,
    /// When it came into the store.
    pub stored_at: String,
    /// The tags that stand for it.
    pub tags: Vec<String>,
}

/// The workers that answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Workers {
    /// The workers, in order of name.
    pub workers: Vec<Worker>,
}

/// A worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// The machine it runs on.
    pub host: String,
    /// Its process there.
    pub process: u32,
    /// How many calls it takes at once.
    pub slots: u32,
    /// How many it has now.
    pub busy: u32,
    /// The queues it takes jobs from.
    pub queues: Vec<String>,
    /// The version of waft it is.
    pub version: String,
}

impl From<&WorkerStatus> for Worker {
    fn from(status: &WorkerStatus) -> Self {
        let WorkerStatus { name, host, process, slots, busy, queues, version, instance: _ } = status;
        Self {
            name: name.to_string(),
            host: host.clone(),
            process: *process,
            slots: *slots,
            busy: *busy,
            queues: queues.iter().map(ToString::to_string).collect(),
            version: version.clone(),
        }
    }
}

/// Whether the server works.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Health {
    /// `ok`.
    pub status: String,
}

/// What went wrong, as RFC 9457 has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    /// The kind of problem, for programs.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time.
    pub detail: String,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Every mistake in the flow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Diagnostic>,
}

/// One thing that is wrong with a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Diagnostic {
    /// `error` or `warning`.
    pub severity: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line of the flow file, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column, from 1, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// Where it begins and ends in the file, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Vec<usize>>, min_items = 2, max_items = 2))]
    pub span: Option<(usize, usize)>,
}
