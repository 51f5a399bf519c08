//! A flow that was checked whole: every requirement has its source, every order is explicit, no circle.
//!
//! It is a graph of nodes in one arena. A nested flow stands between its `Begin` (or its retry controller, which
//! takes the place of `Begin`) and its `End`; so *n* tasks after *m* others cost *n + m* edges and not *n × m*.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    Condition, Digest, Export, FlowName, Limits, NodeName, On, Origin, Otherwise, QueueName, Reach, RetryPolicy,
    Strategy, Timestamp, Value, ValueName, Values,
};

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
    pub origin: Option<Arc<Origin>>,
}

/// One flow: the whole one, or a nested one. Its `begin` has the lowest and its `end` the highest index of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The flow it stands in; `None` for the whole.
    pub parent: Option<ScopeIndex>,
    /// Its `Begin` or controller: every node of it comes after this one.
    pub begin: NodeIndex,
    /// Its `End`: comes after every node of it.
    pub end: NodeIndex,
}

/// One node of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name it is told by. `Begin` and `End` carry their flow's name and are never told.
    pub name: NodeName,
    /// The flow it stands in. `Begin`, controller and `End` stand in the flow they belong to.
    pub scope: ScopeIndex,
    /// What it does.
    pub role: Role,
    /// When it starts once it could; `None` at once.
    pub starts: Option<Starts>,
    /// The links into it that say more than its order.
    pub links: Vec<Link>,
    /// Whether an edit has removed it after it had run: it is rolled back with the rest, and nobody waits for it.
    pub retired: bool,
    /// Whether it stands aside: it listens to a failure, or comes after what does. It runs though its flow is rolled
    /// back, is not rolled back itself, and whether it fails changes nothing for the others.
    pub aside: bool,
    /// What it waits for, each once.
    pub before: Vec<NodeIndex>,
    /// What waits for it, each once.
    pub after: Vec<NodeIndex>,
}

/// When a node starts that could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starts {
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
    pub on: On,
    /// Asked once the target could start: a no leaves it out.
    pub when: Option<Condition>,
    /// Where the values come from that the condition reads.
    pub reads: Vec<(ValueName, Source)>,
    /// How far a no reaches.
    pub reach: Reach,
}

/// What a node does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Calls a guest.
    Task(Box<Task>),
    /// Calls nobody, and waits to be notified.
    Wait(Box<Wait>),
    /// Opens a flow and decides about its failures.
    Controller(Controller),
    /// Opens a flow without a controller.
    Begin,
    /// Closes a flow.
    End,
}

/// A task that waits for a person, or for another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// What it waits for, in a word for people.
    pub awaits: String,
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
}

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
    pub audience: Audience,
}

/// Which calls get an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// `apply`, and `rollback` too.
    Both,
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
    /// Why the first of these failed that did.
    Failure(Vec<NodeIndex>),
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

impl Flow {
    /// The node at an index of this flow.
    #[must_use]
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.0 as usize]
    }

    /// Whether one node listens to the failure of another.
    #[must_use]
    pub fn listens(&self, to: NodeIndex, from: NodeIndex) -> bool {
        self.node(to).links.iter().any(|link| link.from == from && link.on != On::Success)
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
            Role::Wait(_) | Role::Controller(_) | Role::Begin | Role::End => None,
        })
    }

    /// The constants that its tasks take.
    pub fn constants(&self) -> impl Iterator<Item = &Value> {
        self.tasks().flat_map(|(_, _, task)| &task.inputs).filter_map(|input| match &input.source {
            Source::Constant(value) => Some(value),
            Source::Node { .. } | Source::RunInput(_) | Source::Failure(_) | Source::Absent => None,
        })
    }

    /// The constants that its tasks take, to be put elsewhere.
    pub fn constants_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        let tasks = self.nodes.iter_mut().filter_map(|node| match &mut node.role {
            Role::Task(task) => Some(task),
            Role::Wait(_) | Role::Controller(_) | Role::Begin | Role::End => None,
        });
        tasks.flat_map(|task| &mut task.inputs).filter_map(|input| match &mut input.source {
            Source::Constant(value) => Some(value),
            Source::Node { .. } | Source::RunInput(_) | Source::Failure(_) | Source::Absent => None,
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
