//! A flow as its author wrote it, in a file or in Rust, before anything about it is known to be right.
//!
//! [`Draft`] is what a flow file parses to and what programs build by hand. Only [`crate::wire`] turns it into
//! a [`crate::Flow`], and says every mistake on the way.

use std::{collections::BTreeMap, num::NonZeroU32, ops::Range, time::Duration};

use crate::{
    Condition, Cron, Digest, FlowName, Json, LimitOverrides, MissedPolicy, NodeName, OverlapPolicy, Pace, QueueName,
    RetryPolicy, StartTime, TaskInfo, ValueName, Values,
};

/// Where in the flow file something was written, in bytes; `None` in flows built in Rust.
pub type Span = Option<Range<usize>>;

/// A flow as it was written.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The flow's name; `None` only when the file lacks it, which is a mistake that parsing reports.
    pub name: Option<FlowName>,
    /// The modules it speaks of, by alias: a path, a tag or a digest, not looked up yet.
    pub modules: BTreeMap<String, ModuleReference>,
    /// The values its runs start with.
    pub inputs: Values,
    /// Where the inputs stand.
    pub input_spans: BTreeMap<ValueName, Range<usize>>,
    /// Its nodes and links.
    pub body: FlowBody,
    /// How long a run may take.
    pub expires: Option<Duration>,
    /// How it lives, where it is passed through more than once.
    pub triggers: DraftTriggers,
    /// Tasks of other flows that it listens to.
    pub listeners: Vec<DraftListener>,
    /// Times at which it fires by itself.
    pub schedules: Vec<DraftSchedule>,
    /// What went wrong while it was read, or built in Rust: [`crate::wire`] tells it with all the rest.
    pub mistakes: Vec<Diagnostic>,
    /// How much of it could be read.
    pub extent: ParseExtent,
}

/// How much of a flow file could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ParseExtent {
    /// All that other parts depend on. What went wrong beside that changes nothing for them.
    #[default]
    Whole,
    /// Not all: what only seems to be missing because of that is no mistake of its own.
    Partial,
    /// It is not TOML.
    Nothing,
}

/// What a flow says of how it is passed through more than once.
#[derive(Debug, Clone, Default)]
pub struct DraftTriggers {
    /// Whether a run stays until it is told to end.
    pub persistent: bool,
    /// Whether its links may lead round in circles.
    pub cyclic: bool,
    /// So many firings, and no more.
    pub max_firings: Option<u64>,
    /// So many firings at once.
    pub max_parallel: Option<u32>,
    /// Where the parts of it stand: `persistent`, `cyclic`, `max_firings`, `max_parallel`.
    pub spans: BTreeMap<String, Range<usize>>,
}

impl DraftTriggers {
    /// The most firings at once.
    pub const MAX_PARALLEL_FIRINGS: u32 = 10_000;
}

/// A task of another flow that is listened to, as it was written.
#[derive(Debug, Clone)]
pub struct DraftListener {
    /// The other flow.
    pub flow: FlowName,
    /// Its task.
    pub task: NodeName,
    /// What of it is waited for.
    pub on: SourceOutcome,
    /// What its notifications fire, or answer.
    pub to: NodeName,
    /// Where it stands.
    pub span: Span,
}

/// Times at which a task fires, as they were written.
#[derive(Debug, Clone)]
pub struct DraftSchedule {
    /// When.
    pub cron: Cron,
    /// What fires.
    pub to: NodeName,
    /// What becomes of a time at which an earlier firing of it is still under way.
    pub overlap: OverlapPolicy,
    /// What becomes of times that went by unheard.
    pub missed: MissedPolicy,
    /// Where it stands.
    pub span: Span,
}

/// How a link joins the others into its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Join {
    /// The target waits for all of them.
    #[default]
    All,
    /// Each fires the target, which takes what the others left last.
    Any,
}

/// How a flow file names a module.
#[derive(Debug, Clone, Default)]
pub struct ModuleReference {
    /// A path relative to the flow file, a tag, or `sha256:…`; empty where what was written is none, which was told.
    pub text: String,
    /// Where it stands.
    pub span: Span,
    /// Why it was not found, where somebody looked.
    pub missing: Option<String>,
}

/// What the whole flow and each nested flow have alike.
#[derive(Debug, Clone, Default)]
pub struct FlowBody {
    /// What gives the nodes their order.
    pub pattern: Pattern,
    /// Tasks and nested flows in reading order.
    pub nodes: Vec<DraftNode>,
    /// Explicit order.
    pub links: Vec<DraftLink>,
    /// The retry controller, if it has one.
    pub controller: Option<DraftController>,
    /// When it starts once it could; `None` at once.
    pub starts: Option<StartTime>,
}

/// What gives the nodes of a flow their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pattern {
    /// Links, and who requires what another provides.
    #[default]
    Graph,
    /// One after the other, as they stand.
    Linear,
    /// None.
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
    /// The name it is told by.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        match self {
            Self::Task(task) => &task.name,
            Self::Flow(flow) => &flow.name,
        }
    }
}

/// A nested flow as it was written.
#[derive(Debug, Clone)]
pub struct DraftFlow {
    /// Its name.
    pub name: NodeName,
    /// Its nodes and links.
    pub body: FlowBody,
    /// Where it stands.
    pub span: Span,
}

/// A task as it was written.
#[derive(Debug, Clone)]
pub struct DraftTask {
    /// Its name.
    pub name: NodeName,
    /// What it does.
    pub kind: DraftTaskKind,
    /// What the task calls a value = what the flow calls it; `None` where nothing was said.
    pub requires: Option<Renames>,
    /// What the task calls a value = what the flow calls it; `None` where nothing was said.
    pub provides: Option<Renames>,
    /// Constants by parameter.
    pub with: Values,
    /// Its own retry policy.
    pub retry: Option<RetryPolicy>,
    /// Limits that differ from the defaults.
    pub limits: LimitOverrides,
    /// The queue its jobs go to.
    pub queue: Option<QueueName>,
    /// Higher first.
    pub priority: i32,
    /// How many of its calls run at once, and how often they start.
    pub pace: Pace,
    /// How long a call may wait for a worker; `None` for ever.
    pub expires: Option<Duration>,
    /// How many workers may be lost with one call before it fails as poison; `None` for the default.
    pub delivery_limit: Option<NonZeroU32>,
    /// Whether it is rolled back by a guest; `None` leaves it to the module.
    pub rollback: Option<bool>,
    /// When it starts once it could; `None` at once.
    pub starts: Option<StartTime>,
    /// How long one that waits does so; `None` for ever.
    pub deadline: Option<Duration>,
    /// The list it is called for, each element by itself; `None` where it is called once.
    pub for_each: Option<DraftForEach>,
    /// Whether an edit has removed it after it had run.
    pub retired: bool,
    /// Where the parts of it stand: `name`, `use`, `requires`, `provides`, `with`, `retry`, `rollback` and, for
    /// entries of tables, `requires.pan` and the like. The empty key is the whole.
    pub spans: BTreeMap<String, Range<usize>>,
}

/// A list that a task is called for, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftForEach {
    /// The list.
    pub list: DraftList,
    /// What the flow calls the element that a call is for; `None` where nothing was said.
    pub element: Option<ValueName>,
    /// So many calls at once.
    pub max_parallel: Option<u32>,
}

impl DraftForEach {
    /// What the flow calls the element that a call is for: `item` where nothing was said.
    #[must_use]
    pub fn element(&self) -> ValueName {
        self.element.clone().unwrap_or_else(|| ValueName::new("item").expect("it keeps the rules of names"))
    }
}

/// A list, or where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DraftList {
    /// These.
    Literal(Vec<Json>),
    /// Those of the list that this value holds when the task starts.
    Value(ValueName),
}

/// What a task does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DraftTaskKind {
    /// Calls `module#task` or `module`: an alias of [`Draft::modules`], and a task of the module.
    Call(String),
    /// Waits to be notified of this.
    Wait(String),
}

/// What a task calls a value = what the flow calls it.
pub type Renames = BTreeMap<ValueName, ValueName>;

/// An explicit link as it was written.
#[derive(Debug, Clone)]
pub struct DraftLink {
    /// What comes first.
    pub from: NodeName,
    /// What comes after.
    pub to: NodeName,
    /// What of the source it waits for.
    pub on: SourceOutcome,
    /// Asked once the target could start: a no leaves it out.
    pub when: Option<Condition>,
    /// How far a no reaches; `None` where nothing was said.
    pub reach: Option<SkipReach>,
    /// How it joins the others into its target.
    pub join: Join,
    /// Where the parts of it stand.
    pub spans: LinkSpans,
}

/// Where the parts of a link stand.
#[derive(Debug, Clone, Default)]
pub struct LinkSpans {
    /// Where `from` stands.
    pub from: Span,
    /// Where `to` stands.
    pub to: Span,
    /// Where `on` stands.
    pub on: Span,
    /// Where `when` stands.
    pub when: Span,
    /// Where `reach` stands.
    pub reach: Span,
    /// Where `join` stands.
    pub join: Span,
}

/// What of its source a link waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceOutcome {
    /// That it succeeds.
    #[default]
    Success,
    /// That it fails for good.
    Failure,
    /// Either.
    Any,
}

/// How far it reaches that a link's condition says no: who is left out besides its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SkipReach {
    /// Nobody.
    Task,
    /// The tasks right after it.
    Neighbors,
    /// Everything after it in the same flow, nested flows apart.
    Flow,
    /// Everything after it.
    #[default]
    All,
}

/// A retry controller as it was written.
#[derive(Debug, Clone)]
pub struct DraftController {
    /// What it tries.
    pub strategy: Strategy,
    /// What it answers when nothing is left to try.
    pub otherwise: Otherwise,
    /// The name under which it provides its attempt number or value.
    pub provides: Option<ValueName>,
    /// Where it stands.
    pub span: Span,
}

/// What a retry controller answers when a task of its flow has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    /// Retry until there were this many tries in all; 0 and 1 mean one. Provides the number of the try.
    Times(u32),
    /// Retry with the next of these. Provides it. Never empty in a [`crate::Flow`].
    ForEach(Vec<Json>),
    /// Retry with the next element of the list that this value holds when the flow starts.
    ForEachOf(ValueName),
    /// Never retry.
    Always,
}

/// What a retry controller answers when it does not retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Otherwise {
    /// Its flow will be rolled back, and the next controller outward is asked.
    #[default]
    Rollback,
    /// The whole run, without asking further.
    RollbackAll,
}

/// What is known of a module once it was resolved.
#[derive(Debug, Clone)]
pub struct ModuleInfo {
    /// Its identity.
    pub digest: Digest,
    /// What it holds.
    pub content: ModuleContent,
}

/// What a module holds.
#[derive(Debug, Clone)]
pub enum ModuleContent {
    /// Tasks that describe themselves.
    Tasks(Vec<TaskInfo>),
    /// A WASI command: one task, of which the flow says what it requires and provides.
    Command,
}

/// One thing that is wrong with a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the flow can run all the same.
    pub severity: Severity,
    /// What is wrong, naming the culprit: a lowercase fragment without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in the file.
    pub span: Span,
}

/// Whether a mistake keeps the flow from running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It cannot run.
    Error,
    /// It can, but will hardly do what was meant.
    Warning,
}

impl Diagnostic {
    pub(crate) fn error(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), hint: None, span }
    }

    pub(crate) fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// A text was refused. Our errors say what is wrong and then, after a colon, what to write.
    pub(crate) fn rejected(span: Span, whose: &str, error: &impl std::fmt::Display) -> Self {
        let error = error.to_string();
        let (wrong, hint) = error.rsplit_once(": ").unwrap_or((&error, "write it otherwise"));
        Self::error(span, format!("{whose}: {wrong}")).hint(hint)
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl DraftTask {
    /// Whether it is called for each element of the list that a value holds.
    pub(crate) fn iterates_over(&self, value: &ValueName) -> bool {
        self.for_each.as_ref().is_some_and(|each| matches!(&each.list, DraftList::Value(list) if list == value))
    }

    /// Where a part of it stands; the whole where the part was not written.
    pub(crate) fn span(&self, part: &str) -> Span {
        self.spans.get(part).or_else(|| self.spans.get("")).cloned()
    }
}
