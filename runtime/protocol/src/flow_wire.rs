//! A flow as bytes: what the first record of a run and every snapshot hold.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

use flow::{
    Audience, Backoff, Condition, Controller, Cron, Digest, Edit, Export, Flow, FlowName, ForEach, Input, Join, Json,
    Link, Listen, Living, Missed, Moment, Node, NodeIndex, NodeName, On, Origin, Otherwise, Overlap, Pace, Per,
    QueueName, Rate, Reach, RetryPolicy, Role, Schedule, Scope, ScopeIndex, Source, Starts, Strategy, Task, Timestamp,
    TurnLink, ValueName, Wait,
};

use crate::{
    codec::{BorrowDecode, Encode},
    wire::{Unlawful, WireLimits, WireValue, WireValues, unlawful, value_from_wire, values_from_wire, values_to_wire},
};

#[derive(Encode, BorrowDecode)]
pub(crate) struct WireFlow<'a> {
    name: &'a str,
    nodes: Vec<WireNode<'a>>,
    scopes: Vec<WireScope>,
    inputs: WireValues<'a>,
}

#[derive(Encode, BorrowDecode)]
struct WireScope {
    parent: Option<u32>,
    begin: u32,
    end: u32,
}

#[derive(Encode, BorrowDecode)]
struct WireNode<'a> {
    name: &'a str,
    scope: u32,
    role: WireRole<'a>,
    before: Vec<u32>,
    after: Vec<u32>,
}

#[derive(Encode, BorrowDecode)]
enum WireRole<'a> {
    Task(WireTask<'a>),
    Controller(WireController<'a>),
    Begin,
    End,
}

#[derive(Encode, BorrowDecode)]
struct WireTask<'a> {
    module: [u8; 32],
    export: Option<&'a str>,
    inputs: Vec<WireInput<'a>>,
    provides: Vec<(&'a str, &'a str)>,
    rollback: bool,
    retry: WireRetry,
    limits: WireLimits,
    queue: &'a str,
    priority: i32,
}

#[derive(Encode, BorrowDecode)]
struct WireInput<'a> {
    parameter: &'a str,
    source: WireSource<'a>,
    optional: bool,
    rollback_only: bool,
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum WireSource<'a> {
    Constant(WireValue<'a>),
    Node { node: u32, value: &'a str },
    RunInput(&'a str),
    Absent,
    Failure(Vec<u32>),
    // From here on what the third version of the format has added.
    Carried { nodes: Vec<u32>, value: &'a str, first: WireFirst<'a> },
    Element,
}

/// Where what comes round comes from the first time: a source that is not such itself.
#[derive(Encode, BorrowDecode)]
pub(crate) enum WireFirst<'a> {
    Node { node: u32, value: &'a str },
    RunInput(&'a str),
    Absent,
}

/// What a flow says in later formats than the first.
#[derive(Default, Encode, BorrowDecode)]
pub(crate) struct WireMore<'a> {
    /// What nodes say, by the node. Whatever they learn to say is added at the end of [`WireSaid`].
    nodes: Vec<(u32, WireSaid<'a>)>,
    expires_micros: Option<u64>,
    origin: Option<WireOrigin<'a>>,
}

#[derive(Encode, BorrowDecode)]
struct WireOrigin<'a> {
    text: &'a str,
    modules: Vec<(&'a str, [u8; 32])>,
    edits: Vec<WireEdit<'a>>,
}

#[derive(Encode, BorrowDecode)]
enum WireEdit<'a> {
    Add { text: &'a str },
    Remove { task: &'a str, ran: bool },
    Link { from: &'a str, to: &'a str, on: WireOn, when: Option<&'a str>, reach: Option<WireReach> },
    Unlink { from: &'a str, to: &'a str },
    Use { task: &'a str, uses: &'a str },
    Set { task: &'a str, parameter: &'a str, value: WireValue<'a> },
    Require { task: &'a str, parameter: &'a str, value: &'a str },
    // From here on what the third version of the format has added.
    LinkAny { from: &'a str, to: &'a str, on: WireOn, when: Option<&'a str>, reach: Option<WireReach> },
}

impl<'a> From<&'a Origin> for WireOrigin<'a> {
    fn from(origin: &'a Origin) -> Self {
        Self {
            text: &origin.text,
            modules: origin.modules.iter().map(|(alias, digest)| (alias.as_str(), *digest.as_bytes())).collect(),
            edits: origin.edits.iter().map(WireEdit::from).collect(),
        }
    }
}

impl WireOrigin<'_> {
    fn into_origin(self) -> Result<Origin, Unlawful> {
        let module = |(alias, digest): (&str, [u8; 32])| (alias.to_owned(), Digest::from_bytes(digest));
        Ok(Origin {
            text: self.text.into(),
            modules: self.modules.into_iter().map(module).collect(),
            edits: self.edits.into_iter().map(WireEdit::into_edit).collect::<Result<_, _>>()?,
        })
    }
}

impl<'a> From<&'a Edit> for WireEdit<'a> {
    fn from(edit: &'a Edit) -> Self {
        match edit {
            Edit::Add { text } => Self::Add { text },
            Edit::Remove { task, ran } => Self::Remove { task: task.as_str(), ran: *ran },
            Edit::Link { from, to, on, when, reach, join } => {
                let (from, to, on) = (from.as_str(), to.as_str(), (*on).into());
                let (when, reach) = (when.as_ref().map(Condition::as_str), reach.map(WireReach::from));
                match join {
                    Join::All => Self::Link { from, to, on, when, reach },
                    Join::Any => Self::LinkAny { from, to, on, when, reach },
                }
            }
            Edit::Unlink { from, to } => Self::Unlink { from: from.as_str(), to: to.as_str() },
            Edit::Use { task, uses } => Self::Use { task: task.as_str(), uses },
            Edit::Set { task, parameter, value } => {
                Self::Set { task: task.as_str(), parameter: parameter.as_str(), value: value.into() }
            }
            Edit::Require { task, parameter, value } => {
                Self::Require { task: task.as_str(), parameter: parameter.as_str(), value: value.as_str() }
            }
        }
    }
}

impl WireEdit<'_> {
    fn into_edit(self) -> Result<Edit, Unlawful> {
        let node = |name: &str| NodeName::new(name).map_err(unlawful);
        let named = |name: &str| ValueName::new(name).map_err(unlawful);
        let link = |(from, to), on: WireOn, when: Option<&str>, reach: Option<WireReach>, join| {
            Ok(Edit::Link {
                from: node(from)?,
                to: node(to)?,
                on: on.into(),
                when: when.map(Condition::new).transpose().map_err(unlawful)?,
                reach: reach.map(Reach::from),
                join,
            })
        };
        Ok(match self {
            Self::Add { text } => Edit::Add { text: text.into() },
            Self::Remove { task, ran } => Edit::Remove { task: node(task)?, ran },
            Self::Link { from, to, on, when, reach } => return link((from, to), on, when, reach, Join::All),
            Self::LinkAny { from, to, on, when, reach } => return link((from, to), on, when, reach, Join::Any),
            Self::Unlink { from, to } => Edit::Unlink { from: node(from)?, to: node(to)? },
            Self::Use { task, uses } => Edit::Use { task: node(task)?, uses: uses.into() },
            Self::Set { task, parameter, value } => {
                Edit::Set { task: node(task)?, parameter: named(parameter)?, value: value_from_wire(value)? }
            }
            Self::Require { task, parameter, value } => {
                Edit::Require { task: node(task)?, parameter: named(parameter)?, value: named(value)? }
            }
        })
    }
}

impl WireMore<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.expires_micros.is_none() && self.origin.is_none()
    }

    /// Whether it says what the second version of the format cannot.
    pub(crate) fn is_of_the_third_version(&self) -> bool {
        self.nodes.iter().any(|(_, said)| match said {
            WireSaid::Lives { .. }
            | WireSaid::Entry
            | WireSaid::Turn { .. }
            | WireSaid::Scheduled { .. }
            | WireSaid::Listens { .. }
            | WireSaid::ForEach { .. }
            | WireSaid::Paced(_)
            | WireSaid::Expires { .. } => true,
            WireSaid::Link(_)
            | WireSaid::Aside
            | WireSaid::StartsAfter { .. }
            | WireSaid::StartsAt { .. }
            | WireSaid::Retired
            | WireSaid::Waits { .. } => false,
        })
    }
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum WireSaid<'a> {
    Link(WireLink<'a>),
    Aside,
    StartsAfter {
        micros: u64,
    },
    StartsAt {
        micros: u64,
    },
    Retired,
    /// In place of what the first format has as a beginning.
    Waits {
        awaits: &'a str,
        provides: Vec<(&'a str, &'a str)>,
        deadline_micros: Option<u64>,
    },
    // From here on what the third version of the format has added.
    /// Of what begins the whole flow: it is passed through more than once.
    Lives {
        persistent: bool,
        max_firings: Option<u64>,
        max_parallel: u32,
    },
    /// It begins no earlier than somebody notifies it.
    Entry,
    /// A link fires it anew.
    Turn {
        link: WireLink<'a>,
        at_end: bool,
    },
    /// A schedule fires it.
    Scheduled {
        cron: &'a str,
        zone: &'a str,
        overlap: u8,
        missed: u8,
    },
    /// Notifications of another flow's task fire it, or answer it.
    Listens {
        flow: &'a str,
        task: &'a str,
        on: WireOn,
    },
    /// It is called for each element of a list, and what follows it gathers the results.
    ForEach {
        list: WireSource<'a>,
        max_parallel: Option<u32>,
    },
    /// So many of its calls run at once, or start in a time.
    Paced(WirePace),
    /// How long its calls may wait for a worker.
    Expires {
        micros: u64,
    },
}

/// How many calls of a task run at once, and how often they start.
#[derive(Clone, Copy, Encode, BorrowDecode)]
pub(crate) struct WirePace {
    max_running: Option<u32>,
    /// How many, and the number of [`PERS`] that says in which time.
    rate: Option<(u32, u8)>,
}

/// The times of [`WirePace`], by their numbers.
const PERS: [Per; 3] = [Per::Second, Per::Minute, Per::Hour];

impl From<Pace> for WirePace {
    fn from(pace: Pace) -> Self {
        Self {
            max_running: pace.max_running.map(NonZeroU32::get),
            rate: pace.rate.map(|rate| (rate.count.get(), number(&PERS, &rate.per))),
        }
    }
}

impl WirePace {
    pub(crate) fn into_pace(self) -> Result<Pace, Unlawful> {
        let count = |count: u32| NonZeroU32::new(count).ok_or_else(|| "a pace lets none run".to_owned());
        let rate = |(many, per)| Ok::<_, Unlawful>(Rate { count: count(many)?, per: word(&PERS, per)? });
        Ok(Pace { max_running: self.max_running.map(count).transpose()?, rate: self.rate.map(rate).transpose()? })
    }
}

/// The words of [`WireSaid::Scheduled`], by their numbers.
const OVERLAPS: [Overlap; 3] = [Overlap::Skip, Overlap::Queue, Overlap::Allow];
const MISSED: [Missed; 3] = [Missed::Once, Missed::Skip, Missed::All];

fn number<Word: PartialEq>(words: &[Word], word: &Word) -> u8 {
    words.iter().zip(0..).find(|(known, _)| *known == word).map_or(0, |(_, number)| number)
}

fn word<Word: Copy>(words: &[Word], number: u8) -> Result<Word, Unlawful> {
    words.get(usize::from(number)).copied().ok_or_else(|| format!("{number} is no word here"))
}

#[derive(Encode, BorrowDecode)]
pub(crate) struct WireLink<'a> {
    from: u32,
    on: WireOn,
    when: Option<&'a str>,
    reads: Vec<(&'a str, WireSource<'a>)>,
    reach: WireReach,
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum WireOn {
    Success,
    Failure,
    Any,
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum WireReach {
    Task,
    Neighbors,
    Flow,
    All,
}

impl From<On> for WireOn {
    fn from(on: On) -> Self {
        match on {
            On::Success => Self::Success,
            On::Failure => Self::Failure,
            On::Any => Self::Any,
        }
    }
}

impl From<WireOn> for On {
    fn from(wire: WireOn) -> Self {
        match wire {
            WireOn::Success => Self::Success,
            WireOn::Failure => Self::Failure,
            WireOn::Any => Self::Any,
        }
    }
}

impl From<Reach> for WireReach {
    fn from(reach: Reach) -> Self {
        match reach {
            Reach::Task => Self::Task,
            Reach::Neighbors => Self::Neighbors,
            Reach::Flow => Self::Flow,
            Reach::All => Self::All,
        }
    }
}

impl From<WireReach> for Reach {
    fn from(wire: WireReach) -> Self {
        match wire {
            WireReach::Task => Self::Task,
            WireReach::Neighbors => Self::Neighbors,
            WireReach::Flow => Self::Flow,
            WireReach::All => Self::All,
        }
    }
}

impl<'a> From<&'a Link> for WireLink<'a> {
    fn from(link: &'a Link) -> Self {
        Self {
            from: link.from.0,
            on: link.on.into(),
            when: link.when.as_ref().map(Condition::as_str),
            reads: link.reads.iter().map(|(name, source)| (name.as_str(), source.into())).collect(),
            reach: link.reach.into(),
        }
    }
}

impl WireLink<'_> {
    fn into_link(self, node: &impl Fn(u32) -> Result<NodeIndex, Unlawful>) -> Result<Link, Unlawful> {
        let read = |(name, source): (&str, WireSource<'_>)| {
            Ok((ValueName::new(name).map_err(unlawful)?, source.into_source(node)?))
        };
        Ok(Link {
            from: node(self.from)?,
            on: self.on.into(),
            when: self.when.map(Condition::new).transpose().map_err(unlawful)?,
            reads: self.reads.into_iter().map(read).collect::<Result<_, Unlawful>>()?,
            reach: self.reach.into(),
        })
    }
}

/// What the nodes of a flow say that the first format cannot.
pub(crate) fn more_to_wire(flow: &Flow) -> WireMore<'_> {
    let mut nodes = Vec::new();
    for (index, node) in (0..).zip(&flow.nodes) {
        nodes.extend(node.links.iter().map(|link| (index, WireSaid::Link(link.into()))));
        nodes.extend(node.aside.then_some((index, WireSaid::Aside)));
        nodes.extend(node.retired.then_some((index, WireSaid::Retired)));
        nodes.extend(node.starts.map(|starts| match starts {
            Starts::After(pause) => (index, WireSaid::StartsAfter { micros: micros(pause) }),
            Starts::At(at) => (index, WireSaid::StartsAt { micros: at.as_micros() }),
        }));
        if let Role::Wait(wait) = &node.role {
            let Wait { awaits, provides, deadline } = &**wait;
            let provides = provides.iter().map(|(own, flows)| (own.as_str(), flows.as_str())).collect();
            let deadline_micros = deadline.map(micros);
            nodes.push((index, WireSaid::Waits { awaits, provides, deadline_micros }));
        }
        if let Role::ForEach(each) = &node.role {
            let (list, max_parallel) = ((&each.list).into(), each.max_parallel);
            nodes.push((index, WireSaid::ForEach { list, max_parallel }));
        }
        let task = match &node.role {
            Role::Task(task) => Some(&**task),
            Role::ForEach(each) => Some(&each.task),
            Role::Wait(_) | Role::Element(_) | Role::Gather(_) | Role::Controller(_) | Role::Begin | Role::End => None,
        };
        let pace = task.map(|task| task.pace).filter(|pace| !pace.is_open());
        nodes.extend(pace.map(|pace| (index, WireSaid::Paced(pace.into()))));
        let expires = task.and_then(|task| task.expires);
        nodes.extend(expires.map(|expires| (index, WireSaid::Expires { micros: micros(expires) })));
    }
    if let Some(living) = &flow.living {
        let Living { persistent, max_firings, max_parallel, entries, turns, schedules } = living;
        let (persistent, max_firings, max_parallel) = (*persistent, *max_firings, *max_parallel);
        nodes.push((flow.scope(ScopeIndex::ROOT).begin.0, WireSaid::Lives { persistent, max_firings, max_parallel }));
        nodes.extend(entries.iter().map(|entry| (entry.0, WireSaid::Entry)));
        nodes.extend(turns.iter().map(|turn| {
            let at_end = turn.moment == Moment::End;
            (turn.to.0, WireSaid::Turn { link: (&turn.link).into(), at_end })
        }));
        nodes.extend(schedules.iter().map(|schedule| {
            let (cron, zone) = (schedule.cron.line(), schedule.cron.zone());
            let (overlap, missed) = (number(&OVERLAPS, &schedule.overlap), number(&MISSED, &schedule.missed));
            (schedule.to.0, WireSaid::Scheduled { cron, zone, overlap, missed })
        }));
    }
    nodes.extend(flow.listens.iter().map(|listen| {
        let (flow, task, on) = (listen.flow.as_str(), listen.task.as_str(), listen.on.into());
        (listen.to.0, WireSaid::Listens { flow, task, on })
    }));
    let origin = flow.origin.as_deref().map(WireOrigin::from);
    WireMore { nodes, expires_micros: flow.expires.map(micros), origin }
}

#[derive(Encode, BorrowDecode)]
struct WireRetry {
    attempts: u32,
    exponential: bool,
    initial_micros: u64,
    max_micros: u64,
    jitter: bool,
}

#[derive(Encode, BorrowDecode)]
struct WireController<'a> {
    strategy: WireStrategy<'a>,
    list: Option<WireSource<'a>>,
    rollback_all: bool,
    provides: Option<&'a str>,
}

#[derive(Encode, BorrowDecode)]
enum WireStrategy<'a> {
    Times(u32),
    ForEach(Vec<&'a str>),
    ForEachOf(&'a str),
    Always,
}

impl<'a> From<&'a Flow> for WireFlow<'a> {
    fn from(flow: &'a Flow) -> Self {
        let scope = |scope: &Scope| WireScope {
            parent: scope.parent.map(|parent| parent.0),
            begin: scope.begin.0,
            end: scope.end.0,
        };
        Self {
            name: flow.name.as_str(),
            nodes: flow.nodes.iter().map(WireNode::from).collect(),
            scopes: flow.scopes.iter().map(scope).collect(),
            inputs: values_to_wire(&flow.inputs),
        }
    }
}

impl<'a> From<&'a Node> for WireNode<'a> {
    fn from(node: &'a Node) -> Self {
        let indices = |nodes: &[NodeIndex]| nodes.iter().map(|node| node.0).collect();
        Self {
            name: node.name.as_str(),
            scope: node.scope.0,
            role: match &node.role {
                Role::Task(task) => WireRole::Task((&**task).into()),
                Role::Controller(controller) => WireRole::Controller(controller.into()),
                // What it is stands among what the first format cannot say.
                Role::ForEach(each) => WireRole::Task((&each.task).into()),
                Role::Begin | Role::Wait(_) => WireRole::Begin,
                // No flow that travels has the elements of a list: a run gives them to it.
                Role::End | Role::Gather(_) | Role::Element(_) => WireRole::End,
            },
            before: indices(&node.before),
            after: indices(&node.after),
        }
    }
}

impl<'a> From<&'a Task> for WireTask<'a> {
    fn from(task: &'a Task) -> Self {
        let input = |input: &'a Input| WireInput {
            parameter: input.parameter.as_str(),
            source: (&input.source).into(),
            optional: input.optional,
            rollback_only: input.audience == Audience::Rollback,
        };
        Self {
            module: *task.module.as_bytes(),
            export: task.export.as_ref().map(Export::as_str),
            inputs: task.inputs.iter().map(input).collect(),
            provides: task.provides.iter().map(|(own, flows)| (own.as_str(), flows.as_str())).collect(),
            rollback: task.rollback,
            retry: WireRetry {
                attempts: task.retry.attempts,
                exponential: task.retry.backoff == Backoff::Exponential,
                initial_micros: micros(task.retry.initial),
                max_micros: micros(task.retry.max),
                jitter: task.retry.jitter,
            },
            limits: task.limits.into(),
            queue: task.queue.as_str(),
            priority: task.priority,
        }
    }
}

impl<'a> From<&'a Source> for WireSource<'a> {
    fn from(source: &'a Source) -> Self {
        match source {
            Source::Constant(value) => Self::Constant(value.into()),
            Source::Node { node, value } => Self::Node { node: node.0, value: value.as_str() },
            Source::RunInput(name) => Self::RunInput(name.as_str()),
            Source::Element => Self::Element,
            Source::Absent => Self::Absent,
            Source::Failure(nodes) => Self::Failure(nodes.iter().map(|node| node.0).collect()),
            Source::Carried { nodes, value, first } => Self::Carried {
                nodes: nodes.iter().map(|node| node.0).collect(),
                value: value.as_str(),
                first: match &**first {
                    Source::Node { node, value } => WireFirst::Node { node: node.0, value: value.as_str() },
                    Source::RunInput(name) => WireFirst::RunInput(name.as_str()),
                    Source::Constant(_)
                    | Source::Element
                    | Source::Failure(_)
                    | Source::Carried { .. }
                    | Source::Absent => WireFirst::Absent,
                },
            },
        }
    }
}

impl<'a> From<&'a Controller> for WireController<'a> {
    fn from(controller: &'a Controller) -> Self {
        Self {
            strategy: match &controller.strategy {
                Strategy::Times(times) => WireStrategy::Times(*times),
                Strategy::ForEach(list) => WireStrategy::ForEach(list.iter().map(Json::as_str).collect()),
                Strategy::ForEachOf(name) => WireStrategy::ForEachOf(name.as_str()),
                Strategy::Always => WireStrategy::Always,
            },
            list: controller.list.as_ref().map(WireSource::from),
            rollback_all: controller.otherwise == Otherwise::RollbackAll,
            provides: controller.provides.as_ref().map(ValueName::as_str),
        }
    }
}

impl WireFlow<'_> {
    pub(crate) fn into_flow(self, more: WireMore<'_>) -> Result<Arc<Flow>, Unlawful> {
        let (nodes, scopes) = (self.nodes.len(), self.scopes.len());
        let node = |index: u32| {
            if (index as usize) < nodes { Ok(NodeIndex(index)) } else { Err(format!("there is no node {index}")) }
        };
        let scope = |index: u32| {
            if (index as usize) < scopes { Ok(ScopeIndex(index)) } else { Err(format!("there is no scope {index}")) }
        };
        let into_node = |wire: WireNode<'_>| {
            let indices = |wire: Vec<u32>| wire.into_iter().map(node).collect::<Result<_, _>>();
            Ok(Node {
                name: NodeName::new(wire.name).map_err(unlawful)?,
                scope: scope(wire.scope)?,
                role: match wire.role {
                    WireRole::Task(task) => Role::Task(Box::new(task.into_task(&node)?)),
                    WireRole::Controller(controller) => Role::Controller(controller.into_controller(&node)?),
                    WireRole::Begin => Role::Begin,
                    WireRole::End => Role::End,
                },
                starts: None,
                links: Vec::new(),
                retired: false,
                aside: false,
                before: indices(wire.before)?,
                after: indices(wire.after)?,
            })
        };
        let into_scope = |(index, wire): (usize, WireScope)| {
            let parent = wire.parent.map(scope).transpose()?;
            // A parent stands before its children, so that there is no circle; the whole flow has none.
            if parent.map_or(index != 0, |parent| parent.0 as usize >= index) {
                return Err(format!("scope {index} has no parent before it"));
            }
            Ok(Scope { parent, begin: node(wire.begin)?, end: node(wire.end)? })
        };
        if scopes == 0 {
            return Err("a flow has at least one scope".into());
        }
        let mut nodes: Vec<Node> = self.nodes.into_iter().map(into_node).collect::<Result<_, Unlawful>>()?;
        let (mut living, mut entries) = (None, BTreeSet::new());
        let (mut turns, mut schedules, mut listens) = (Vec::new(), Vec::new(), Vec::new());
        for (index, said) in more.nodes {
            let to = node(index)?;
            let known = &mut nodes[to.0 as usize];
            match said {
                WireSaid::Lives { persistent, max_firings, max_parallel } => {
                    living = Some((persistent, max_firings, max_parallel));
                }
                WireSaid::Entry => drop(entries.insert(to)),
                WireSaid::Turn { link, at_end } => {
                    let moment = if at_end { Moment::End } else { Moment::Success };
                    turns.push(TurnLink { link: link.into_link(&node)?, to, moment });
                }
                WireSaid::Scheduled { cron, zone, overlap, missed } => schedules.push(Schedule {
                    cron: Cron::new(cron, zone).map_err(unlawful)?,
                    to,
                    overlap: word(&OVERLAPS, overlap)?,
                    missed: word(&MISSED, missed)?,
                }),
                WireSaid::Listens { flow, task, on } => listens.push(Listen {
                    flow: FlowName::new(flow).map_err(unlawful)?,
                    task: NodeName::new(task).map_err(unlawful)?,
                    on: on.into(),
                    to,
                }),
                WireSaid::ForEach { list, max_parallel } => {
                    for_each(&mut nodes, to, list.into_source(&node)?, max_parallel)?;
                }
                WireSaid::Paced(pace) => called(known)?.pace = pace.into_pace()?,
                WireSaid::Expires { micros } => called(known)?.expires = Some(Duration::from_micros(micros)),
                WireSaid::Link(link) => known.links.push(link.into_link(&node)?),
                WireSaid::Aside => known.aside = true,
                WireSaid::Retired => known.retired = true,
                WireSaid::StartsAfter { micros } => {
                    known.starts = Some(Starts::After(Duration::from_micros(micros)));
                }
                WireSaid::StartsAt { micros } => known.starts = Some(Starts::At(Timestamp::from_micros(micros))),
                WireSaid::Waits { awaits, provides, deadline_micros } => {
                    known.role = Role::Wait(Box::new(Wait {
                        awaits: awaits.into(),
                        provides: provides.into_iter().map(provided).collect::<Result<_, Unlawful>>()?,
                        deadline: deadline_micros.map(Duration::from_micros),
                    }));
                }
            }
        }
        Ok(Arc::new(Flow {
            name: FlowName::new(self.name).map_err(unlawful)?,
            nodes,
            scopes: self.scopes.into_iter().enumerate().map(into_scope).collect::<Result<_, Unlawful>>()?,
            inputs: values_from_wire(self.inputs)?,
            expires: more.expires_micros.map(Duration::from_micros),
            origin: more.origin.map(WireOrigin::into_origin).transpose()?.map(Arc::new),
            living: living.map(|(persistent, max_firings, max_parallel)| Living {
                persistent,
                max_firings,
                max_parallel,
                entries,
                turns,
                schedules,
            }),
            listens,
        }))
    }
}

/// A task that is called for each element of a list; what gathers the results stands right after it.
fn for_each(nodes: &mut [Node], each: NodeIndex, list: Source, max_parallel: Option<u32>) -> Result<(), Unlawful> {
    let wrong = || format!("node {} cannot be called for each element of a list", each.0);
    let place = each.0 as usize;
    let is_followed =
        nodes.get(place + 1).is_some_and(|gather| gather.role == Role::End && gather.name == nodes[place].name);
    match std::mem::replace(&mut nodes[place].role, Role::Begin) {
        Role::Task(task) if is_followed => {
            nodes[place].role = Role::ForEach(Box::new(ForEach { task: *task, list, max_parallel }));
            nodes[place + 1].role = Role::Gather(each);
            Ok(())
        }
        Role::Task(_)
        | Role::Wait(_)
        | Role::ForEach(_)
        | Role::Element(_)
        | Role::Gather(_)
        | Role::Controller(_)
        | Role::Begin
        | Role::End => Err(wrong()),
    }
}

/// What a node calls, of which more is said.
fn called(node: &mut Node) -> Result<&mut Task, Unlawful> {
    match &mut node.role {
        Role::Task(task) => Ok(task),
        Role::ForEach(each) => Ok(&mut each.task),
        Role::Wait(_) | Role::Element(_) | Role::Gather(_) | Role::Controller(_) | Role::Begin | Role::End => {
            Err(format!("node {:?} calls nothing", node.name))
        }
    }
}

fn provided((own, flows): (&str, &str)) -> Result<(ValueName, ValueName), Unlawful> {
    Ok((ValueName::new(own).map_err(unlawful)?, ValueName::new(flows).map_err(unlawful)?))
}

fn micros(pause: Duration) -> u64 {
    u64::try_from(pause.as_micros()).unwrap_or(u64::MAX)
}

impl WireTask<'_> {
    fn into_task(self, node: &impl Fn(u32) -> Result<NodeIndex, Unlawful>) -> Result<Task, Unlawful> {
        let input = |wire: WireInput<'_>| {
            Ok(Input {
                parameter: ValueName::new(wire.parameter).map_err(unlawful)?,
                source: wire.source.into_source(node)?,
                optional: wire.optional,
                audience: if wire.rollback_only { Audience::Rollback } else { Audience::Both },
            })
        };
        Ok(Task {
            module: Digest::from_bytes(self.module),
            export: self.export.map(Export::new).transpose().map_err(unlawful)?,
            inputs: self.inputs.into_iter().map(input).collect::<Result<_, Unlawful>>()?,
            provides: self.provides.into_iter().map(provided).collect::<Result<_, Unlawful>>()?,
            rollback: self.rollback,
            retry: RetryPolicy {
                attempts: self.retry.attempts,
                backoff: if self.retry.exponential { Backoff::Exponential } else { Backoff::Fixed },
                initial: Duration::from_micros(self.retry.initial_micros),
                max: Duration::from_micros(self.retry.max_micros),
                jitter: self.retry.jitter,
            },
            limits: self.limits.into(),
            queue: QueueName::new(self.queue).map_err(unlawful)?,
            priority: self.priority,
            pace: Pace::default(),
            expires: None,
        })
    }
}

impl WireSource<'_> {
    fn into_source(self, node: &impl Fn(u32) -> Result<NodeIndex, Unlawful>) -> Result<Source, Unlawful> {
        Ok(match self {
            Self::Constant(value) => Source::Constant(value_from_wire(value)?),
            Self::Node { node: index, value } => {
                Source::Node { node: node(index)?, value: ValueName::new(value).map_err(unlawful)? }
            }
            Self::RunInput(name) => Source::RunInput(ValueName::new(name).map_err(unlawful)?),
            Self::Absent => Source::Absent,
            Self::Element => Source::Element,
            Self::Failure(nodes) => Source::Failure(nodes.into_iter().map(node).collect::<Result<_, _>>()?),
            Self::Carried { nodes, value, first } => {
                let first = match first {
                    WireFirst::Node { node: index, value } => {
                        Source::Node { node: node(index)?, value: ValueName::new(value).map_err(unlawful)? }
                    }
                    WireFirst::RunInput(name) => Source::RunInput(ValueName::new(name).map_err(unlawful)?),
                    WireFirst::Absent => Source::Absent,
                };
                Source::Carried {
                    nodes: nodes.into_iter().map(node).collect::<Result<_, _>>()?,
                    value: ValueName::new(value).map_err(unlawful)?,
                    first: Box::new(first),
                }
            }
        })
    }
}

impl WireController<'_> {
    fn into_controller(self, node: &impl Fn(u32) -> Result<NodeIndex, Unlawful>) -> Result<Controller, Unlawful> {
        Ok(Controller {
            strategy: match self.strategy {
                WireStrategy::Times(times) => Strategy::Times(times),
                WireStrategy::ForEach(list) => {
                    Strategy::ForEach(list.into_iter().map(Json::parse).collect::<Result<_, _>>().map_err(unlawful)?)
                }
                WireStrategy::ForEachOf(name) => Strategy::ForEachOf(ValueName::new(name).map_err(unlawful)?),
                WireStrategy::Always => Strategy::Always,
            },
            list: self.list.map(|source| source.into_source(node)).transpose()?,
            otherwise: if self.rollback_all { Otherwise::RollbackAll } else { Otherwise::Rollback },
            provides: self.provides.map(ValueName::new).transpose().map_err(unlawful)?,
        })
    }
}
