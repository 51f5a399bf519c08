//! A flow as its author wrote it, in a file or in Rust, before it is checked.
//!
//! A flow file parses to a [`Draft`], and programs build one by hand. Only [`crate::wire`] turns it into a [`crate::Flow`],
//! and reports every diagnostic on the way.

use std::{collections::BTreeMap, num::NonZeroU32, ops::Range, time::Duration};

use crate::{
    Access, Condition, Cron, Digest, FlowName, Json, LimitOverrides, MissedPolicy, Namespace, NodeName, OverlapPolicy,
    Pace, QueueName, RetryPolicy, StartTime, TaskInfo, ValueName, Values,
};

/// A byte range in the flow file; `None` in flows built in Rust.
pub type Span = Option<Range<usize>>;

/// A flow as written.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The flow's name; `None` only when the file lacks it, which parsing reports as an error.
    pub name: Option<FlowName>,
    /// The modules it names, by alias: a path, a tag or a digest, not resolved yet.
    pub modules: BTreeMap<String, ModuleReference>,
    /// The input values of its runs.
    pub inputs: Values,
    /// The spans of the inputs.
    pub input_spans: BTreeMap<ValueName, Range<usize>>,
    /// Its nodes and links.
    pub body: FlowBody,
    /// The maximum duration of a run.
    pub expires: Option<Duration>,
    /// Its triggers, where it fires more than once.
    pub triggers: DraftTriggers,
    /// The tasks of other flows that it listens to.
    pub listeners: Vec<DraftListener>,
    /// The schedules of its tasks.
    pub schedules: Vec<DraftSchedule>,
    /// The diagnostics from reading it, or from building it in Rust: [`crate::wire`] reports them with its own.
    pub diagnostics: Vec<Diagnostic>,
    /// The part of it that could be read.
    pub extent: ParseExtent,
}

impl Draft {
    /// The namespace of the flow, if its name has one.
    #[must_use]
    pub fn namespace(&self) -> Option<Namespace> {
        self.name.as_ref().and_then(FlowName::namespace)
    }
}

/// The part of a flow file that could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ParseExtent {
    /// Every part was read that others refer to.
    #[default]
    Whole,
    /// Some parts could not be read: a part that seems missing is no error.
    Partial,
    /// It is not TOML.
    Nothing,
}

/// The trigger settings of a flow that fires more than once.
#[derive(Debug, Clone, Default)]
pub struct DraftTriggers {
    /// Whether a run stays open until it is asked to end.
    pub persistent: bool,
    /// Whether its links may form cycles.
    pub cyclic: bool,
    /// The maximum number of firings.
    pub max_firings: Option<u64>,
    /// The maximum number of parallel firings.
    pub max_parallel: Option<u32>,
    /// The spans of its parts: `persistent`, `cyclic`, `max_firings`, `max_parallel`.
    pub spans: BTreeMap<String, Range<usize>>,
}

impl DraftTriggers {
    /// The largest maximum of parallel firings.
    pub const MAX_PARALLEL_FIRINGS: u32 = 10_000;
}

/// A task of another flow to listen to, as written.
#[derive(Debug, Clone)]
pub struct DraftListener {
    /// The other flow.
    pub flow: FlowName,
    /// Its task.
    pub task: NodeName,
    /// The outcome of the task to listen to.
    pub on: SourceOutcome,
    /// The node that the notifications fire, or complete.
    pub to: NodeName,
    /// Its span.
    pub span: Span,
}

/// A schedule of a task, as written.
#[derive(Debug, Clone)]
pub struct DraftSchedule {
    /// The firing times.
    pub cron: Cron,
    /// The task that fires.
    pub to: NodeName,
    /// The policy for a time at which an earlier firing of the schedule is still under way.
    pub overlap: OverlapPolicy,
    /// The policy for missed times.
    pub missed: MissedPolicy,
    /// Its span.
    pub span: Span,
}

/// How a link joins the other links into its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Join {
    /// The target waits for all links.
    #[default]
    All,
    /// Each link fires the target, which takes the latest values of the others.
    Any,
}

/// A module as a flow file names it.
#[derive(Debug, Clone, Default)]
pub struct ModuleReference {
    /// A path relative to the flow file, a tag, or `sha256:…`; empty where the written text is invalid, which is reported.
    pub text: String,
    /// Its span.
    pub span: Span,
    /// Why its content is not known, if a lookup failed.
    pub missing: Option<MissingModule>,
}

/// Why the content of a module is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissingModule {
    /// It was not found.
    NotFound {
        /// The reason.
        reason: String,
    },
    /// It was found, and cannot be used here.
    Unusable {
        /// The reason.
        reason: String,
        /// What a person can do about it.
        hint: Option<String>,
    },
}

impl MissingModule {
    /// The reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::NotFound { reason } | Self::Unusable { reason, .. } => reason,
        }
    }
}

/// The common parts of the whole flow and of nested flows.
#[derive(Debug, Clone, Default)]
pub struct FlowBody {
    /// The source of the nodes' order.
    pub pattern: Pattern,
    /// Tasks and nested flows in reading order.
    pub nodes: Vec<DraftNode>,
    /// The explicit links.
    pub links: Vec<DraftLink>,
    /// The retry controller, if it has one.
    pub controller: Option<DraftController>,
    /// The start time or delay once it could start; `None` means at once.
    pub starts: Option<StartTime>,
}

/// The source of the order of a flow's nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pattern {
    /// Links, and values that one node provides and another requires.
    #[default]
    Graph,
    /// The order in the file, one after the other.
    Linear,
    /// None: the nodes have no order.
    Unordered,
}

/// A task or a nested flow.
#[derive(Debug, Clone)]
pub enum DraftNode {
    /// A task.
    Task(Box<DraftTask>),
    /// A nested flow.
    Flow(DraftFlow),
}

impl DraftNode {
    /// The published name.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        match self {
            Self::Task(task) => &task.name,
            Self::Flow(flow) => &flow.name,
        }
    }
}

/// A nested flow as written.
#[derive(Debug, Clone)]
pub struct DraftFlow {
    /// Its name.
    pub name: NodeName,
    /// Its nodes and links.
    pub body: FlowBody,
    /// Its span.
    pub span: Span,
}

/// A task as written.
#[derive(Debug, Clone)]
pub struct DraftTask {
    /// Its name.
    pub name: NodeName,
    /// The kind of the task.
    pub kind: DraftTaskKind,
    /// The required values: the task's name = the flow's name; `None` where not stated.
    pub requires: Option<Renames>,
    /// The provided values: the task's name = the flow's name; `None` where not stated.
    pub provides: Option<Renames>,
    /// Constants by parameter.
    pub with: Values,
    /// Its own retry policy.
    pub retry: Option<RetryPolicy>,
    /// Limits that differ from the defaults.
    pub limits: LimitOverrides,
    /// What it asks for beyond its sandbox.
    pub access: Access,
    /// The queue of its jobs.
    pub queue: Option<QueueName>,
    /// The priority; higher runs first.
    pub priority: i32,
    /// The maximum of parallel calls, and their start rate.
    pub pace: Pace,
    /// The maximum time that a call may wait for a worker; `None` means without limit.
    pub expires: Option<Duration>,
    /// The number of workers that may be lost with one call before it fails as poison; `None` means the default.
    pub delivery_limit: Option<NonZeroU32>,
    /// Whether a guest rolls it back; `None` means as the module describes.
    pub rollback: Option<bool>,
    /// The start time or delay once it could start; `None` means at once.
    pub starts: Option<StartTime>,
    /// The maximum wait of a waiting task; `None` means without limit.
    pub deadline: Option<Duration>,
    /// The list whose elements it is called for; `None` where it is called once.
    pub for_each: Option<DraftForEach>,
    /// Whether an edit has removed it after it had run.
    pub retired: bool,
    /// The spans of its parts: `name`, `use`, `requires`, `provides`, `with`, `retry`, `rollback` and, for entries of
    /// tables, `requires.pan` and the like. The empty key is the whole task.
    pub spans: BTreeMap<String, Range<usize>>,
}

/// The list of a `for_each` task, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftForEach {
    /// The list.
    pub list: DraftList,
    /// The flow's name for the element of a call; `None` where not stated.
    pub element: Option<ValueName>,
    /// The maximum number of parallel calls.
    pub max_parallel: Option<u32>,
}

impl DraftForEach {
    /// The largest maximum of parallel calls: the elements that an engine prepares at once, and the calls that one cancel
    /// interrupts.
    pub const MAX_PARALLEL: u32 = 10_000;

    /// The flow's name for the element of a call: `item` by default.
    #[must_use]
    pub fn element(&self) -> ValueName {
        self.element.clone().unwrap_or_else(|| ValueName::new("item").expect("it is a valid name"))
    }
}

/// A list, or its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DraftList {
    /// These elements.
    Literal(Vec<Json>),
    /// The elements of the list that this value contains when the task starts.
    Value(ValueName),
}

/// The kind of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DraftTaskKind {
    /// Calls `module#task` or `module`: an alias of [`Draft::modules`], and a task of the module.
    Call(String),
    /// Waits for a notification; the text describes the awaited event.
    Wait(String),
}

/// Value names: the task's name = the flow's name.
pub type Renames = BTreeMap<ValueName, ValueName>;

/// An explicit link as written.
#[derive(Debug, Clone)]
pub struct DraftLink {
    /// The source.
    pub from: NodeName,
    /// The target.
    pub to: NodeName,
    /// The outcome of the source that it waits for.
    pub on: SourceOutcome,
    /// Evaluated when the target could start; `false` skips the target.
    pub when: Option<Condition>,
    /// How far a false condition reaches; `None` where not stated.
    pub reach: Option<SkipReach>,
    /// How it joins the other links into its target.
    pub join: Join,
    /// The spans of its parts.
    pub spans: LinkSpans,
}

/// The spans of a link's parts.
#[derive(Debug, Clone, Default)]
pub struct LinkSpans {
    /// The span of `from`.
    pub from: Span,
    /// The span of `to`.
    pub to: Span,
    /// The span of `on`.
    pub on: Span,
    /// The span of `when`.
    pub when: Span,
    /// The span of `reach`.
    pub reach: Span,
    /// The span of `join`.
    pub join: Span,
}

/// The outcome of its source that a link waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceOutcome {
    /// Success.
    #[default]
    Success,
    /// Permanent failure.
    Failure,
    /// Either outcome.
    Any,
}

/// The reach of a false link condition: the nodes that are skipped besides its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SkipReach {
    /// None.
    Task,
    /// The direct successors of the target.
    Neighbors,
    /// All successors in the same flow, without nested flows.
    Flow,
    /// All successors.
    #[default]
    All,
}

/// A retry controller as written.
#[derive(Debug, Clone)]
pub struct DraftController {
    /// The strategy.
    pub strategy: Strategy,
    /// The answer when no attempt is left.
    pub otherwise: Otherwise,
    /// The name under which it provides its attempt number or value.
    pub provides: Option<ValueName>,
    /// Its span.
    pub span: Span,
}

/// The answer of a retry controller to a failure in its flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    /// Retry up to this number of attempts; 0 and 1 mean one. Provides the number of the attempt.
    Times(u32),
    /// Retry with the next of these values, and provide it. Never empty in a [`crate::Flow`].
    ForEach(Vec<Json>),
    /// Retry with the next element of the list that this value contains when the flow starts.
    ForEachOf(ValueName),
    /// Never retry.
    Always,
}

/// The answer of a retry controller that does not retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Otherwise {
    /// Its flow is rolled back, and the next controller outward is asked.
    #[default]
    Rollback,
    /// The whole run is rolled back, without asking further controllers.
    RollbackAll,
}

/// The description of a resolved module.
#[derive(Debug, Clone)]
pub struct ModuleInfo {
    /// Its identity.
    pub digest: Digest,
    /// Its content.
    pub content: ModuleContent,
}

/// The content of a module.
#[derive(Debug, Clone)]
pub enum ModuleContent {
    /// Tasks with their descriptions.
    Tasks(Vec<TaskInfo>),
    /// A WASI command: one task, whose required and provided values the flow declares.
    Command,
}

impl ModuleContent {
    /// The size of its description in bytes.
    #[must_use]
    pub fn description_size(&self) -> usize {
        match self {
            Self::Tasks(tasks) => tasks.iter().map(TaskInfo::size).sum(),
            Self::Command => 0,
        }
    }
}

/// One error or warning about a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the flow can still run.
    pub severity: Severity,
    /// The problem and its cause: a lowercase fragment without a full stop.
    pub message: String,
    /// A hint how to fix it.
    pub hint: Option<String>,
    /// Its place in the file.
    pub span: Span,
}

/// Whether a diagnostic prevents the flow from running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The flow cannot run.
    Error,
    /// The flow can run, but probably not as intended.
    Warning,
}

impl Diagnostic {
    pub(crate) fn error(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), hint: None, span }
    }

    pub(crate) fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// A text was refused. The errors of this crate state the problem and then, after a colon, the fix.
    pub(crate) fn rejected(span: Span, owner: &str, error: &impl std::fmt::Display) -> Self {
        let error = error.to_string();
        let (problem, hint) = error.rsplit_once(": ").unwrap_or((&error, "write it otherwise"));
        Self::error(span, format!("{owner}: {problem}")).hint(hint)
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl DraftTask {
    /// Whether it is called for each element of the list in a value.
    pub(crate) fn iterates_over(&self, value: &ValueName) -> bool {
        self.for_each.as_ref().is_some_and(|each| matches!(&each.list, DraftList::Value(list) if list == value))
    }

    /// The span of one of its parts; the span of the whole task where the part was not written.
    pub(crate) fn span(&self, part: &str) -> Span {
        self.spans.get(part).or_else(|| self.spans.get("")).cloned()
    }
}
