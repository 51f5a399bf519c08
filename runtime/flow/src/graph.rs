//! A checked flow: every requirement has its source, every order is explicit, and no cycle orders one firing.
//!
//! The flow is a graph of nodes in one arena. A nested flow lies between its `Start` (or its retry controller, which
//! replaces `Start`) and its `End`; so *n* tasks after *m* others cost *n + m* edges and not *n × m*.

mod notification_inputs;
mod attempts;
mod describe_triggers;
mod name_lengths;
mod unknown_task;
mod task;
mod triggers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

pub use name_lengths::RunIdTooLong;
pub(crate) use name_lengths::excess_of_task;
pub use notification_inputs::NotificationInput;

use crate::{
    Condition, Digest, FlowName, FlowSource, NodeName, Otherwise, RunLimits, SkipReach, SourceOutcome, Strategy,
    Timestamp, Value, ValueName, Values,
};

pub use task::{DELIVERY_LIMIT, ForEach, Input, InputUse, MAX_DELIVERY_LIMIT, Requiredness, Source, Task, Wait};
pub use triggers::{BackEdge, BackEdgeTiming, Listener, MissedPolicy, OverlapPolicy, Schedule, Triggers};
pub use unknown_task::UnknownTask;

/// The index of a node in [`Flow::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

/// The index of a scope in [`Flow::scopes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeIndex(pub u32);

impl ScopeIndex {
    /// The whole flow.
    pub const ROOT: Self = Self(0);
}

/// A checked flow. Only [`crate::wire`] creates one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Its name.
    pub name: FlowName,
    /// All nodes. Of two nodes that may start at the same time, the one with the lower index comes first in the file.
    pub nodes: Vec<Node>,
    /// The whole flow first, then the nested ones; a parent comes before its children.
    pub scopes: Vec<Scope>,
    /// The values a run starts with: the file's inputs, overridden by the caller's.
    pub inputs: Values,
    /// The maximum duration of a run: after it, the run is stopped and rolled back.
    pub expires: Option<Duration>,
    /// The source of the flow, where it can be edited.
    pub origin: Option<Arc<FlowSource>>,
    /// The triggers of the flow, where it fires more than once.
    pub triggers: Option<Triggers>,
    /// The tasks of other flows whose notifications it receives.
    pub listeners: Vec<Listener>,
    /// The types of the values in notifications, as far as modules describe the parameters of their tasks.
    pub notification_inputs: Vec<NotificationInput>,
    /// The limits of its runs. [`crate::wire`] sets the defaults, and an operator may set others.
    pub limits: RunLimits,
}

/// One flow: the whole one, or a nested one. Its `begin` has the lowest and its `end` the highest index of its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The enclosing flow; `None` for the whole flow.
    pub parent: Option<ScopeIndex>,
    /// Its `Start` or controller: every node of the flow comes after this one.
    pub begin: NodeIndex,
    /// Its `End`: comes after every node of the flow.
    pub end: NodeIndex,
}

/// One node of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name in notifications. `Start` and `End` have their flow's name and are never published.
    pub name: NodeName,
    /// The flow that contains it. `Start`, controller and `End` are in the flow they belong to.
    pub scope: ScopeIndex,
    /// The role of the node.
    pub role: Role,
    /// The start time or delay once it could start; `None` means at once.
    pub starts: Option<StartTime>,
    /// The incoming links with properties beyond the order.
    pub links: Vec<Link>,
    /// Whether an edit has removed it after it had run: it is rolled back with the other nodes, and no node waits for it.
    pub retired: bool,
    /// Whether it is a failure handler: it listens to a failure, or follows a node that does. It runs although its flow is
    /// rolled back, and is not rolled back itself. Other nodes are unaffected when it fails.
    pub is_failure_handler: bool,
    /// The nodes that it waits for, each once.
    pub before: Vec<NodeIndex>,
    /// The nodes that wait for it, each once.
    pub after: Vec<NodeIndex>,
}

/// The start time of a node that could start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTime {
    /// This long after it could start.
    After(Duration),
    /// Not before this time.
    At(Timestamp),
}

/// A link with properties beyond the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The source: a task, or the end of a nested flow.
    pub from: NodeIndex,
    /// The outcome of the source that it waits for.
    pub on: SourceOutcome,
    /// Evaluated when the target could start; `false` skips the target.
    pub when: Option<Condition>,
    /// The sources of the values that the condition reads.
    pub reads: Vec<(ValueName, Source)>,
    /// How far a false condition reaches.
    pub reach: SkipReach,
}

/// The role of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Calls a guest.
    Task(Box<Task>),
    /// Calls no guest, and waits for a notification.
    Wait(Box<Wait>),
    /// Calls a guest for each element of a list. Its fan-in comes right after it.
    ForEach(Box<ForEach>),
    /// The fan-in of a task: it collects the values of the elements. It has the name of its task and ends it; other nodes
    /// wait for it.
    FanIn(NodeIndex),
    /// Begins a flow and resolves its failures.
    Controller(Box<Controller>),
    /// Begins a flow without a controller.
    Begin,
    /// Ends a flow.
    End,
}

/// A retry controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// The strategy of the controller.
    pub strategy: Strategy,
    /// The source of the list, when the strategy is [`Strategy::ForEachOf`].
    pub list: Option<Source>,
    /// The answer when no attempt is left.
    pub otherwise: Otherwise,
    /// The flow's name for the value that it provides.
    pub provides: Option<ValueName>,
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

    /// The nodes of a firing: the nodes reachable from its entry. Without an entry: all nodes that need no notification
    /// first. `None` where every firing has all nodes.
    #[must_use]
    pub fn nodes_of_firing(&self, entry: Option<NodeIndex>) -> Option<BTreeSet<NodeIndex>> {
        let triggers = self.triggers.as_ref()?;
        let root = self.scope(ScopeIndex::ROOT);
        let ends = [root.begin, root.end];
        match entry {
            Some(entry) => Some(self.reachable_from([entry]).into_iter().chain(ends).collect()),
            None => {
                let notified = self.reachable_from(triggers.entries.iter().copied());
                Some(self.indices().filter(|index| ends.contains(index) || !notified.contains(index)).collect())
            }
        }
    }

    /// Some nodes, and all nodes after them.
    #[must_use]
    pub fn reachable_from(&self, nodes: impl IntoIterator<Item = NodeIndex>) -> BTreeSet<NodeIndex> {
        let mut work: Vec<NodeIndex> = nodes.into_iter().collect();
        let mut reached = BTreeSet::new();
        while let Some(index) = work.pop() {
            if reached.insert(index) {
                work.extend(&self.node(index).after);
            }
        }
        reached
    }

    /// The values that a notification of a task may contain, and whether the task requires each.
    #[must_use]
    pub fn notification_values(&self, entry: NodeIndex) -> BTreeMap<ValueName, Requiredness> {
        let mut values = BTreeMap::new();
        for index in self.reachable_from([entry]) {
            let (task, list) = match &self.node(index).role {
                Role::Task(task) => (&**task, None),
                Role::ForEach(each) => (&each.task, Some((&each.list, false))),
                Role::Wait(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => {
                    continue;
                }
            };
            let is_optional = |input: &Input| input.optional || input.used_by == InputUse::Rollback;
            let sources = task.inputs.iter().map(|input| (&input.source, is_optional(input)));
            for (source, is_optional) in sources.chain(list) {
                let (name, has_value) = match source {
                    Source::RunInput(name) => (name, self.inputs.contains_key(name)),
                    Source::LoopCarried { value, .. } => (value, true),
                    Source::Constant(_)
                    | Source::Node { .. }
                    | Source::Element
                    | Source::Failure(_)
                    | Source::Absent => continue,
                };
                let requirement =
                    if has_value || is_optional { Requiredness::Optional } else { Requiredness::Required };
                let requiredness = values.entry(name.clone()).or_insert(requirement);
                *requiredness = requirement.max(*requiredness);
            }
        }
        values
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
            Role::Wait(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => None,
        })
    }

    /// The tasks, in order, mutable so that their constants can be moved to the store.
    pub fn tasks_mut(&mut self) -> impl Iterator<Item = &mut Task> {
        self.nodes.iter_mut().filter_map(|node| match &mut node.role {
            Role::Task(task) => Some(&mut **task),
            Role::ForEach(each) => Some(&mut each.task),
            Role::Wait(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => None,
        })
    }

    /// The task that a node calls, also for a list element.
    #[must_use]
    pub fn task_called(&self, index: NodeIndex) -> Option<&Task> {
        match &self.node(index).role {
            Role::Task(task) => Some(task),
            Role::Wait(_) | Role::ForEach(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => None,
        }
    }

    /// The definition of a `for_each` task.
    #[must_use]
    pub fn for_each(&self, index: NodeIndex) -> Option<&ForEach> {
        match &self.node(index).role {
            Role::ForEach(each) => Some(each),
            Role::Task(_) | Role::Wait(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => None,
        }
    }

    /// The fan-in of a `for_each` task.
    #[must_use]
    pub fn fan_in_of(&self, each: NodeIndex) -> NodeIndex {
        NodeIndex(each.0 + 1)
    }

    /// The constants of its tasks.
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

    /// The constants of its tasks, mutable so that they can be moved to the store.
    pub fn constants_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        let sources = self.nodes.iter_mut().flat_map(|node| {
            let (inputs, list) = match &mut node.role {
                Role::Task(task) => (&mut task.inputs[..], None),
                Role::ForEach(each) => (&mut each.task.inputs[..], Some(&mut each.list)),
                Role::Wait(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => (&mut [][..], None),
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

    /// The digests that the flow refers to, each once: its modules, and values too large to be inline.
    #[must_use]
    pub fn digests(&self) -> Vec<Digest> {
        let values = self.constants().chain(self.inputs.values()).filter_map(Value::digest);
        let origin = self.origin.iter().flat_map(|origin| origin.modules.values().copied());
        let all: BTreeSet<Digest> = self.tasks().map(|(_, _, task)| task.module).chain(values).chain(origin).collect();
        all.into_iter().collect()
    }
}
