//! A flow that was checked whole: every requirement has its source, every order is explicit, no circle.
//!
//! It is a graph of nodes in one arena. A nested flow stands between its `Start` (or its retry controller, which
//! takes the place of `Start`) and its `End`; so *n* tasks after *m* others cost *n + m* edges and not *n × m*.

mod notification_inputs;
mod describe_triggers;
mod unknown_task;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

pub use notification_inputs::NotificationInput;

use crate::{
    Condition, Cron, Digest, Export, FlowName, FlowSource, Limits, NodeName, NotificationOutcome, Otherwise, Pace,
    QueueName, RetryPolicy, SkipReach, SourceOutcome, Strategy, TaskNotification, Timestamp, Value, ValueName, Values,
};

pub use unknown_task::UnknownTask;

/// Where a node stands in [`Flow::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

/// Where a scope stands in [`Flow::scopes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeIndex(pub u32);

impl ScopeIndex {
    /// The whole flow.
    pub const ROOT: Self = Self(0);
}

/// A flow that was checked whole. Made by [`crate::wire`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Its name.
    pub name: FlowName,
    /// All nodes, so that among those that may start a lower index comes first in the file.
    pub nodes: Vec<Node>,
    /// The whole flow first, then the nested ones; a parent stands before its children.
    pub scopes: Vec<Scope>,
    /// The values a run starts with: the file's, with those the caller set put over them.
    pub inputs: Values,
    /// How long a run may take: what is not done by then is stopped, and the run rolled back.
    pub expires: Option<Duration>,
    /// What it was made of, where it can be edited.
    pub origin: Option<Arc<FlowSource>>,
    /// How it lives, where it is passed through more than once.
    pub triggers: Option<Triggers>,
    /// Tasks of other flows whose notifications it hears.
    pub listeners: Vec<Listener>,
    /// The types of the values that notifications bring, as far as modules describe what their tasks take.
    pub notification_inputs: Vec<NotificationInput>,
}

/// How a flow lives that is passed through more than once: each pass is one firing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triggers {
    /// Whether a run of it stays until it is told to end; else it ends once nothing fires any more.
    pub persistent: bool,
    /// So many firings, and no more.
    pub max_firings: Option<u64>,
    /// So many firings at once; others wait for their turn.
    pub max_parallel: u32,
    /// What begins no earlier than somebody notifies it: it and all that comes after it are not of the first pass.
    pub entries: BTreeSet<NodeIndex>,
    /// Links that fire their target anew.
    pub back_edges: Vec<BackEdge>,
    /// Times at which it fires by itself.
    pub schedules: Vec<Schedule>,
}

/// A link that does not order one pass, but begins another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackEdge {
    /// Its source, its condition and where the condition's values come from.
    pub link: Link,
    /// What it fires.
    pub to: NodeIndex,
    /// When it fires.
    pub timing: BackEdgeTiming,
}

/// When a link fires its target anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackEdgeTiming {
    /// Once the pass has ended in success: the link closes a circle.
    End,
    /// As soon as its source has succeeded: its target takes whatever comes.
    Success,
}

/// Times at which a task fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// When.
    pub cron: Cron,
    /// What fires.
    pub to: NodeIndex,
    /// What becomes of a time at which an earlier firing of it is still under way.
    pub overlap: OverlapPolicy,
    /// What becomes of times that went by unheard.
    pub missed: MissedPolicy,
}

/// What becomes of a scheduled time at which an earlier firing is still under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverlapPolicy {
    /// It is left out.
    #[default]
    Skip,
    /// It waits until that has ended.
    Queue,
    /// It fires beside it.
    Allow,
}

/// What becomes of scheduled times that went by while nobody drove the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedPolicy {
    /// They fire once, all together.
    #[default]
    Once,
    /// They are left out.
    Skip,
    /// Each fires, one after the other.
    All,
}

/// A task of another flow whose notifications are heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The other flow.
    pub flow: FlowName,
    /// Its task.
    pub task: NodeName,
    /// What of it is waited for.
    pub on: SourceOutcome,
    /// What its notifications fire, or answer.
    pub to: NodeIndex,
}

/// One flow: the whole one, or a nested one. Its `begin` has the lowest and its `end` the highest index of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The flow it stands in; `None` for the whole.
    pub parent: Option<ScopeIndex>,
    /// Its `Start` or controller: every node of it comes after this one.
    pub begin: NodeIndex,
    /// Its `End`: comes after every node of it.
    pub end: NodeIndex,
}

/// One node of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name it is told by. `Start` and `End` carry their flow's name and are never told.
    pub name: NodeName,
    /// The flow it stands in. `Start`, controller and `End` stand in the flow they belong to.
    pub scope: ScopeIndex,
    /// What it does.
    pub role: Role,
    /// When it starts once it could; `None` at once.
    pub starts: Option<StartTime>,
    /// The links into it that say more than its order.
    pub links: Vec<Link>,
    /// Whether an edit has removed it after it had run: it is rolled back with the rest, and nobody waits for it.
    pub retired: bool,
    /// Whether it stands aside: it listens to a failure, or comes after what does. It runs though its flow is rolled
    /// back, is not rolled back itself, and whether it fails changes nothing for the others.
    pub is_failure_handler: bool,
    /// What it waits for, each once.
    pub before: Vec<NodeIndex>,
    /// What waits for it, each once.
    pub after: Vec<NodeIndex>,
}

/// When a node starts that could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTime {
    /// So long after it could.
    After(Duration),
    /// Not before that.
    At(Timestamp),
}

/// A link that says more than an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The source: a task, or the end of a nested flow.
    pub from: NodeIndex,
    /// What of the source it waits for.
    pub on: SourceOutcome,
    /// Asked once the target could start: a no leaves it out.
    pub when: Option<Condition>,
    /// Where the values come from that the condition reads.
    pub reads: Vec<(ValueName, Source)>,
    /// How far a no reaches.
    pub reach: SkipReach,
}

/// What a node does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Calls a guest.
    Task(Box<Task>),
    /// Calls nobody, and waits to be notified.
    Wait(Box<Wait>),
    /// Calls a guest for each element of a list. What collects the results stands right after it.
    ForEach(Box<ForEach>),
    /// One element of such a list. Only a run has them: they come into being once the list is known.
    Element(Element),
    /// Collects what the elements left. It carries the name of its task, which it ends, and others wait for it.
    FanIn(NodeIndex),
    /// Opens a flow and decides about its failures.
    Controller(Controller),
    /// Opens a flow without a controller.
    Begin,
    /// Closes a flow.
    End,
}

/// A task that is called for each element of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForEach {
    /// What each call is.
    pub task: Task,
    /// Where the list comes from.
    pub list: Source,
    /// So many calls at once; others wait for their turn.
    pub max_parallel: Option<u32>,
}

/// One element of a list that a task is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// The task.
    pub of: NodeIndex,
    /// Which one, from 0.
    pub number: u32,
}

/// A task that waits for a person, or for another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// What it waits for, in a word for people.
    pub waits_for: String,
    /// What a notification has to bring: how that calls it, and how the flow does.
    pub provides: BTreeMap<ValueName, ValueName>,
    /// How long it waits before it fails; `None` for ever.
    pub deadline: Option<Duration>,
}

/// What a task calls, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The module.
    pub module: Digest,
    /// The task in the module; `None` for a WASI command.
    pub export: Option<Export>,
    /// Where each of its parameters comes from, `rollback`'s own included.
    pub inputs: Vec<Input>,
    /// What it leaves: what the task calls it, and what the flow calls it.
    pub provides: BTreeMap<ValueName, ValueName>,
    /// Whether taking it back calls the guest.
    pub rollback: bool,
    /// When a failed call is tried again.
    pub retry: RetryPolicy,
    /// What a call may use.
    pub limits: Limits,
    /// The queue its jobs go to.
    pub queue: QueueName,
    /// Higher first.
    pub priority: i32,
    /// How many of its applies run at once, and how often they start: over all runs of flows of this name.
    pub pace: Pace,
    /// How long an apply may wait for a worker, from when it is handed out; `None` for ever.
    pub expires: Option<Duration>,
    /// How many workers may be lost with one call of it before the call fails as poison; `None`: [`DELIVERY_LIMIT`], or what
    /// the worker's configuration says.
    pub delivery_limit: Option<NonZeroU32>,
}

/// How many workers may be lost with one call before it fails as poison, unless the task says otherwise.
pub const DELIVERY_LIMIT: NonZeroU32 = NonZeroU32::new(5).expect("it is not 0");

/// The largest delivery limit of a task: the queues of jobs have one of their own, which stands above.
pub const MAX_DELIVERY_LIMIT: u32 = 50;

/// One parameter of a task and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// What the task calls it.
    pub parameter: ValueName,
    /// Where it comes from.
    pub source: Source,
    /// Whether the task can do without.
    pub optional: bool,
    /// Which calls get it.
    pub used_by: InputUse,
}

/// Whether something can be done without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requiredness {
    /// It can.
    Optional,
    /// It cannot.
    Required,
}

/// Which calls get an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputUse {
    /// `apply`, and `rollback` too.
    ApplyAndRollback,
    /// `rollback` alone.
    Rollback,
}

/// Where the value of a parameter comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The flow says it.
    Constant(Value),
    /// A task or controller provides it, under this name of the flow's.
    Node {
        /// The provider.
        node: NodeIndex,
        /// What the flow calls it.
        value: ValueName,
    },
    /// The run starts with it.
    RunInput(ValueName),
    /// The element of the list that the task is called for.
    Element,
    /// Why the first of these failed that did.
    Failure(Vec<NodeIndex>),
    /// What came round: what the notification brought, or the first of these provided the last time.
    LoopCarried {
        /// Who provides it, in the order in which they are asked.
        nodes: Vec<NodeIndex>,
        /// What the flow calls it.
        value: ValueName,
        /// Where it comes from the first time.
        initial: Box<Source>,
    },
    /// Nobody provides it, and the task can do without.
    Absent,
}

/// A retry controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// What it tries.
    pub strategy: Strategy,
    /// Where the list comes from, when the strategy is [`Strategy::ForEachOf`].
    pub list: Option<Source>,
    /// What it answers in the end.
    pub otherwise: Otherwise,
    /// What the flow calls what it provides.
    pub provides: Option<ValueName>,
}

impl Listener {
    /// Whether it is for what a task of another flow did.
    #[must_use]
    pub fn is_for(&self, heard: &TaskNotification) -> bool {
        let is_meant = match heard.outcome {
            NotificationOutcome::Success(_) => self.on != SourceOutcome::Failure,
            NotificationOutcome::Failure(_) => self.on != SourceOutcome::Success,
        };
        is_meant && (&self.flow, &self.task) == (&heard.flow, &heard.task)
    }
}

impl TaskNotification {
    /// The values that come with it: what the task provided, or its failure.
    #[must_use]
    pub fn values(&self) -> Values {
        match &self.outcome {
            NotificationOutcome::Success(values) => values.clone(),
            NotificationOutcome::Failure(failure) => {
                let name = ValueName::new("failure").expect("it is a lawful name");
                Values::from([(name, failure.clone())])
            }
        }
    }
}

impl Flow {
    /// The node at an index of this flow.
    #[must_use]
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.0 as usize]
    }

    /// Whether one node listens to the failure of another.
    #[must_use]
    pub fn handles_failure_of(&self, to: NodeIndex, from: NodeIndex) -> bool {
        self.node(to).links.iter().any(|link| link.from == from && link.on != SourceOutcome::Success)
    }

    /// The nodes of one pass: those that its entry leads to, or without one all that nobody has to notify first. `None`
    /// where every pass has all.
    #[must_use]
    pub fn nodes_of_firing(&self, entry: Option<NodeIndex>) -> Option<BTreeSet<NodeIndex>> {
        let living = self.triggers.as_ref()?;
        let whole = self.scope(ScopeIndex::ROOT);
        let around = [whole.begin, whole.end];
        match entry {
            Some(entry) => Some(self.reachable_from([entry]).into_iter().chain(around).collect()),
            None => {
                let notified = self.reachable_from(living.entries.iter().copied());
                Some(self.indices().filter(|index| around.contains(index) || !notified.contains(index)).collect())
            }
        }
    }

    /// Some nodes, and all that comes after them.
    fn reachable_from(&self, nodes: impl IntoIterator<Item = NodeIndex>) -> BTreeSet<NodeIndex> {
        let mut work: Vec<NodeIndex> = nodes.into_iter().collect();
        let mut reached = BTreeSet::new();
        while let Some(index) = work.pop() {
            if reached.insert(index) {
                work.extend(&self.node(index).after);
            }
        }
        reached
    }

    /// The names that a notification of a task may bring, and whether the task can do without each.
    #[must_use]
    pub fn notification_values(&self, entry: NodeIndex) -> BTreeMap<ValueName, Requiredness> {
        let mut brought = BTreeMap::new();
        for index in self.reachable_from([entry]) {
            let (task, list) = match &self.node(index).role {
                Role::Task(task) => (&**task, None),
                Role::ForEach(each) => (&each.task, Some((&each.list, false))),
                Role::Wait(_) | Role::Element(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => {
                    continue;
                }
            };
            let is_optional = |input: &Input| input.optional || input.used_by == InputUse::Rollback;
            let sources = task.inputs.iter().map(|input| (&input.source, is_optional(input)));
            for (source, is_optional) in sources.chain(list) {
                let (name, is_there) = match source {
                    Source::RunInput(name) => (name, self.inputs.contains_key(name)),
                    Source::LoopCarried { value, .. } => (value, true),
                    Source::Constant(_)
                    | Source::Node { .. }
                    | Source::Element
                    | Source::Failure(_)
                    | Source::Absent => continue,
                };
                let can_do_without = is_there || is_optional;
                let need = if can_do_without { Requiredness::Optional } else { Requiredness::Required };
                let known = brought.entry(name.clone()).or_insert(need);
                *known = need.max(*known);
            }
        }
        brought
    }

    /// The scope at an index of this flow.
    #[must_use]
    pub fn scope(&self, index: ScopeIndex) -> &Scope {
        &self.scopes[index.0 as usize]
    }

    /// The indices of all nodes, in order.
    pub fn indices(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..u32::try_from(self.nodes.len()).expect("wire refuses flows of over 2^32 nodes")).map(NodeIndex)
    }

    /// The tasks, in order, with their names.
    pub fn tasks(&self) -> impl Iterator<Item = (NodeIndex, &NodeName, &Task)> {
        self.indices().filter_map(|index| match &self.node(index).role {
            Role::Task(task) => Some((index, &self.node(index).name, &**task)),
            Role::ForEach(each) => Some((index, &self.node(index).name, &each.task)),
            Role::Wait(_) | Role::Element(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => None,
        })
    }

    /// What a node calls: a task, or one element of a list that a task is called for.
    #[must_use]
    pub fn task_called(&self, index: NodeIndex) -> Option<&Task> {
        match &self.node(index).role {
            Role::Task(task) => Some(task),
            Role::Element(element) => self.for_each(element.of).map(|each| &each.task),
            Role::Wait(_) | Role::ForEach(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => None,
        }
    }

    /// What a task is that is called for each element of a list.
    #[must_use]
    pub fn for_each(&self, index: NodeIndex) -> Option<&ForEach> {
        match &self.node(index).role {
            Role::ForEach(each) => Some(each),
            Role::Task(_)
            | Role::Wait(_)
            | Role::Element(_)
            | Role::FanIn(_)
            | Role::Controller(_)
            | Role::Begin
            | Role::End => None,
        }
    }

    /// What collects the results of a task that is called for each element of a list.
    #[must_use]
    pub fn fan_in_of(&self, each: NodeIndex) -> NodeIndex {
        NodeIndex(each.0 + 1)
    }

    /// The constants that its tasks take.
    pub fn constants(&self) -> impl Iterator<Item = &Value> {
        let inputs = self.tasks().flat_map(|(_, _, task)| &task.inputs).map(|input| &input.source);
        let lists = self.indices().filter_map(|index| self.for_each(index)).map(|each| &each.list);
        inputs.chain(lists).filter_map(|source| match source {
            Source::Constant(value) => Some(value),
            Source::Node { .. }
            | Source::Element
            | Source::RunInput(_)
            | Source::Failure(_)
            | Source::LoopCarried { .. }
            | Source::Absent => None,
        })
    }

    /// The constants that its tasks take, to be put elsewhere.
    pub fn constants_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        let sources = self.nodes.iter_mut().flat_map(|node| {
            let (inputs, list) = match &mut node.role {
                Role::Task(task) => (&mut task.inputs[..], None),
                Role::ForEach(each) => (&mut each.task.inputs[..], Some(&mut each.list)),
                Role::Wait(_) | Role::Element(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => {
                    (&mut [][..], None)
                }
            };
            inputs.iter_mut().map(|input| &mut input.source).chain(list)
        });
        sources.filter_map(|source| match source {
            Source::Constant(value) => Some(value),
            Source::Node { .. }
            | Source::Element
            | Source::RunInput(_)
            | Source::Failure(_)
            | Source::LoopCarried { .. }
            | Source::Absent => None,
        })
    }

    /// What of the store the flow refers to, each once: its modules, and values too large to stand in it.
    #[must_use]
    pub fn digests(&self) -> Vec<Digest> {
        let values = self.constants().chain(self.inputs.values()).filter_map(Value::digest);
        let origin = self.origin.iter().flat_map(|origin| origin.modules.values().copied());
        let all: BTreeSet<Digest> = self.tasks().map(|(_, _, task)| task.module).chain(values).chain(origin).collect();
        all.into_iter().collect()
    }
}
