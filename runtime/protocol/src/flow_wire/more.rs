//! What a flow says in later formats than the first.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

use flow::{
    Accept, Condition, Cron, Flow, FlowName, ForEach, Json, Link, Listen, Living, Missed, Moment, Node, NodeIndex,
    NodeName, On, Origin, Overlap, Pace, Per, Rate, Reach, Role, Schedule, ScopeIndex, Source, Starts, Task, Timestamp,
    TurnLink, ValueName, Wait,
};

use super::{WireSource, micros, origin::WireOrigin, provided};
use crate::{
    codec::{BorrowDecode, Encode},
    wire::{Unlawful, unlawful},
};

/// What the nodes say, and the flow itself.
#[derive(Default, Encode, BorrowDecode)]
pub(crate) struct WireMore<'a> {
    /// What nodes say, by the node. Whatever they learn to say is added at the end of [`WireSaid`].
    nodes: Vec<(u32, WireSaid<'a>)>,
    expires_micros: Option<u64>,
    origin: Option<WireOrigin<'a>>,
}

/// What [`WireMore`] says of a flow itself.
pub(super) struct Said {
    pub(super) expires: Option<Duration>,
    pub(super) origin: Option<Arc<Origin>>,
    pub(super) living: Option<Living>,
    pub(super) listens: Vec<Listen>,
    pub(super) accepts: Vec<Accept>,
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
            | WireSaid::Expires { .. }
            | WireSaid::DeliveryLimit { .. }
            | WireSaid::Accepts { .. } => true,
            WireSaid::Link(_)
            | WireSaid::Aside
            | WireSaid::StartsAfter { .. }
            | WireSaid::StartsAt { .. }
            | WireSaid::Retired
            | WireSaid::Waits { .. } => false,
        })
    }

    /// Gives the nodes of a flow what is said of them, and answers what is said of the flow itself.
    pub(super) fn tell(
        self,
        nodes: &mut [Node],
        node: &impl Fn(u32) -> Result<NodeIndex, Unlawful>,
    ) -> Result<Said, Unlawful> {
        let (mut living, mut entries) = (None, BTreeSet::new());
        let (mut turns, mut schedules, mut listens) = (Vec::new(), Vec::new(), Vec::new());
        let mut accepts = Vec::new();
        for (index, said) in self.nodes {
            let to = node(index)?;
            let known = &mut nodes[to.0 as usize];
            match said {
                WireSaid::Lives { persistent, max_firings, max_parallel } => {
                    living = Some((persistent, max_firings, max_parallel));
                }
                WireSaid::Entry => drop(entries.insert(to)),
                WireSaid::Turn { link, at_end } => {
                    let moment = if at_end { Moment::End } else { Moment::Success };
                    turns.push(TurnLink { link: link.into_link(node)?, to, moment });
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
                    for_each(nodes, to, list.into_source(node)?, max_parallel)?;
                }
                WireSaid::Paced(pace) => called(known)?.pace = pace.into_pace()?,
                WireSaid::Expires { micros } => called(known)?.expires = Some(Duration::from_micros(micros)),
                WireSaid::DeliveryLimit { limit } => called(known)?.delivery_limit = NonZeroU32::new(limit),
                WireSaid::Accepts { from, value, parameter, schema, is_list, optional } => accepts.push(Accept {
                    from: from.map(node).transpose()?,
                    value: ValueName::new(value).map_err(unlawful)?,
                    by: to,
                    parameter: ValueName::new(parameter).map_err(unlawful)?,
                    schema: Json::parse(schema).map_err(unlawful)?,
                    is_list,
                    optional,
                }),
                WireSaid::Link(link) => known.links.push(link.into_link(node)?),
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
        Ok(Said {
            expires: self.expires_micros.map(Duration::from_micros),
            origin: self.origin.map(WireOrigin::into_origin).transpose()?.map(Arc::new),
            living: living.map(|(persistent, max_firings, max_parallel)| Living {
                persistent,
                max_firings,
                max_parallel,
                entries,
                turns,
                schedules,
            }),
            listens,
            accepts,
        })
    }
}

#[derive(Encode, BorrowDecode)]
enum WireSaid<'a> {
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
    /// How many workers may be lost with one of its calls.
    DeliveryLimit {
        limit: u32,
    },
    /// The type that it takes a value as which a notification brings.
    Accepts {
        from: Option<u32>,
        value: &'a str,
        parameter: &'a str,
        schema: &'a str,
        is_list: bool,
        optional: bool,
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
struct WireLink<'a> {
    from: u32,
    on: WireOn,
    when: Option<&'a str>,
    reads: Vec<(&'a str, WireSource<'a>)>,
    reach: WireReach,
}

#[derive(Encode, BorrowDecode)]
pub(super) enum WireOn {
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
            when: self.when.map(Condition::recorded).transpose().map_err(unlawful)?,
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
        let limit = task.and_then(|task| task.delivery_limit);
        nodes.extend(limit.map(|limit| (index, WireSaid::DeliveryLimit { limit: limit.get() })));
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
    nodes.extend(flow.accepts.iter().map(|accept| {
        let Accept { from, value, by, parameter, schema, is_list, optional } = accept;
        let (from, value, parameter) = (from.map(|from| from.0), value.as_str(), parameter.as_str());
        let (is_list, optional) = (*is_list, *optional);
        (by.0, WireSaid::Accepts { from, value, parameter, schema: schema.as_str(), is_list, optional })
    }));
    let origin = flow.origin.as_deref().map(WireOrigin::from);
    WireMore { nodes, expires_micros: flow.expires.map(micros), origin }
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
