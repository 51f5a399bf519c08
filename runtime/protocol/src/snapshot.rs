//! Snapshots as bytes: what a long run is loaded from.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flow::{
    Action, Attempt, Backlog, Due, Execution, Expansion, Firing, Intention, Json, Life, NodeIndex, NodeRun, NodeState,
    Notifications, Owed, PassSnapshot, Revision, RunState, ScopeIndex, SkipReason, Skips, Snapshot, State, Timestamp,
    Trigger, Values, Waiting, WorkerName,
};

use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, Kind},
    flow_wire::{WireFlow, WireMore, more_to_wire},
    record::{WireSkipReason, WireTrigger, run_state},
    wire::{
        Unlawful, WireAction, WireFailure, WireFailures, WireOutcome, WireValues, failures_from_wire, failures_to_wire,
        unlawful, values_from_wire, values_to_wire,
    },
};

#[derive(Encode, BorrowDecode)]
struct WireSnapshot<'a> {
    flow: WireFlow<'a>,
    revision: u64,
    state: &'a str,
    nodes: Vec<(u32, WireNodeRun<'a>)>,
    /// Scopes that are rolled back, and whether to be tried again.
    intentions: Vec<(u32, bool)>,
    failures: WireFailures<'a>,
    /// When the last record was decided.
    latest_micros: u64,
}

#[derive(Encode, BorrowDecode)]
struct WireNodeRun<'a> {
    state: WireNodeState<'a>,
    firing: u64,
    applies: u32,
    rollbacks: u32,
    failed_in_row: u32,
    lost_in_row: u32,
    lost: Vec<(WireAction, u32)>,
    executions: Vec<(u32, u64)>,
    unsure: bool,
    holders: Vec<(WireAction, u32, &'a str)>,
    stray: Option<WireOutcome<'a>>,
    list: Option<Vec<&'a str>>,
}

#[derive(Encode, BorrowDecode)]
enum WireNodeState<'a> {
    Pending,
    Running { since: u64, retry_at: Option<u64> },
    Success { provided: WireValues<'a> },
    Failure { failure: WireFailure<'a>, retry_at: Option<u64> },
    RollingBack { since: u64, outcome: WireOutcome<'a>, retry_at: Option<u64> },
    RolledBack,
    RollbackFailure { outcome: WireOutcome<'a> },
    Retrying,
    // From here on what the second version of the format has added.
    Ignored,
    // From here on what the third version of the format has added.
    Elsewhere,
}

/// The third version: of a flow that lives.
#[derive(Encode, BorrowDecode)]
struct WireLivingSnapshot<'a> {
    flow: WireFlow<'a>,
    more: WireMore<'a>,
    revision: u64,
    passes: Vec<WirePass<'a>>,
    life: Option<WireLife<'a>>,
    notifications: Vec<u64>,
    /// When the last record was decided.
    latest_micros: u64,
}

#[derive(Encode, BorrowDecode)]
struct WirePass<'a> {
    firing: u64,
    entry: Option<u32>,
    by: WireTrigger<'a>,
    inputs: WireValues<'a>,
    given: Vec<(u32, WireValues<'a>)>,
    state: &'a str,
    nodes: Vec<(u32, WireNodeRun<'a>)>,
    delayed: Vec<(u32, u64)>,
    intentions: Vec<(u32, bool)>,
    failures: WireFailures<'a>,
    expires_at: Option<u64>,
    elements: Vec<WireExpansion<'a>>,
}

/// The elements that a task was called for.
#[derive(Encode, BorrowDecode)]
struct WireExpansion<'a> {
    each: u32,
    nodes: Vec<u32>,
    list: Vec<&'a str>,
}

#[derive(Encode, BorrowDecode)]
struct WireLife<'a> {
    state: &'a str,
    fired: u64,
    waiting: Vec<WireWaiting<'a>>,
    owed: Vec<WireOwed<'a>>,
    latest: Vec<(u32, WireValues<'a>)>,
    last: Vec<(u32, &'a str)>,
    failures: WireFailures<'a>,
    ending: bool,
    last_end: Option<&'a str>,
    expires_at: Option<u64>,
    schedules: Vec<WireDue>,
    base: Option<u64>,
    /// For each schedule the spans that it is to make up for.
    backlogs: Vec<Vec<(u64, u64)>>,
    skips: Vec<WireSkips>,
}

#[derive(Encode, BorrowDecode)]
struct WireSkips {
    entry: u32,
    reason: WireSkipReason,
    count: u64,
    last_micros: u64,
}

#[derive(Encode, BorrowDecode)]
struct WireWaiting<'a> {
    firing: u64,
    entry: Option<u32>,
    by: WireTrigger<'a>,
    values: WireValues<'a>,
    given: Option<Vec<(u32, WireValues<'a>)>>,
}

#[derive(Encode, BorrowDecode)]
struct WireOwed<'a> {
    turn: u32,
    values: WireValues<'a>,
    given: Vec<(u32, WireValues<'a>)>,
    not_before: Option<u64>,
}

#[derive(Encode, BorrowDecode)]
enum WireDue {
    Unknown,
    At(u64),
    Never,
}

/// The second version: the first, and what the flow says besides.
#[derive(Encode, BorrowDecode)]
struct WireSnapshotWithMore<'a> {
    snapshot: WireSnapshot<'a>,
    more: WireMore<'a>,
    /// Nodes that wait to start, and until when.
    delayed: Vec<(u32, u64)>,
    expires_at: Option<u64>,
}

/// A snapshot as bytes.
#[must_use]
pub fn encode_snapshot(snapshot: &Snapshot) -> Vec<u8> {
    let more = more_to_wire(&snapshot.flow);
    let is_of_the_third_version = more.is_of_the_third_version() || snapshot.notifications.hashes().next().is_some();
    let (None, false, [pass]) = (&snapshot.life, is_of_the_third_version, &snapshot.passes[..]) else {
        return codec::encode_as(
            Kind::Snapshot,
            3,
            &WireLivingSnapshot {
                flow: (&*snapshot.flow).into(),
                more,
                revision: snapshot.revision.get(),
                passes: snapshot.passes.iter().map(WirePass::from).collect(),
                life: snapshot.life.as_ref().map(WireLife::from),
                notifications: snapshot.notifications.hashes().collect(),
                latest_micros: snapshot.latest.as_micros(),
            },
        );
    };
    let wire = WireSnapshot {
        flow: (&*snapshot.flow).into(),
        revision: snapshot.revision.get(),
        state: pass.state.as_str(),
        nodes: pass.nodes.iter().map(|(index, node)| (index.0, node.into())).collect(),
        intentions: intentions_to_wire(pass),
        failures: failures_to_wire(&pass.failures),
        latest_micros: snapshot.latest.as_micros(),
    };
    // Nothing is ignored in a flow that says no more.
    if more.is_empty() {
        codec::encode(Kind::Snapshot, &wire)
    } else {
        let (delayed, expires_at) = (delayed_to_wire(pass), micros(&pass.expires_at));
        codec::encode_as(Kind::Snapshot, 2, &WireSnapshotWithMore { snapshot: wire, more, delayed, expires_at })
    }
}

fn delayed_to_wire(pass: &PassSnapshot) -> Vec<(u32, u64)> {
    let delayed = |(index, node): &(NodeIndex, NodeRun)| Some((index.0, micros(&node.starts_at)?));
    pass.nodes.iter().filter_map(delayed).collect()
}

fn intentions_to_wire(pass: &PassSnapshot) -> Vec<(u32, bool)> {
    let intention = |(scope, intention): &(ScopeIndex, Intention)| match intention {
        Intention::Execute => None,
        Intention::Retry => Some((scope.0, true)),
        Intention::Rollback => Some((scope.0, false)),
    };
    pass.intentions.iter().filter_map(intention).collect()
}

fn given_to_wire(given: &BTreeMap<NodeIndex, Values>) -> Vec<(u32, WireValues<'_>)> {
    given.iter().map(|(index, values)| (index.0, values_to_wire(values))).collect()
}

fn given_from_wire(given: Vec<(u32, WireValues<'_>)>) -> Result<Arc<BTreeMap<NodeIndex, Values>>, Unlawful> {
    let values = |(index, values): (u32, WireValues<'_>)| Ok((NodeIndex(index), values_from_wire(values)?));
    given.into_iter().map(values).collect::<Result<_, Unlawful>>().map(Arc::new)
}

impl<'a> From<&'a PassSnapshot> for WirePass<'a> {
    fn from(pass: &'a PassSnapshot) -> Self {
        Self {
            firing: pass.firing.get(),
            entry: pass.entry.map(|entry| entry.0),
            by: (&pass.by).into(),
            inputs: values_to_wire(&pass.inputs),
            given: given_to_wire(&pass.given),
            state: pass.state.as_str(),
            nodes: pass.nodes.iter().map(|(index, node)| (index.0, node.into())).collect(),
            delayed: delayed_to_wire(pass),
            intentions: intentions_to_wire(pass),
            failures: failures_to_wire(&pass.failures),
            expires_at: micros(&pass.expires_at),
            elements: pass.elements.iter().map(WireExpansion::from).collect(),
        }
    }
}

impl<'a> From<&'a (NodeIndex, Expansion)> for WireExpansion<'a> {
    fn from((each, Expansion { nodes, list }): &'a (NodeIndex, Expansion)) -> Self {
        let nodes = nodes.iter().map(|node| node.0).collect();
        Self { each: each.0, nodes, list: list.iter().map(Json::as_str).collect() }
    }
}

impl WireExpansion<'_> {
    fn into_expansion(self) -> Result<(NodeIndex, Expansion), Unlawful> {
        let list = self.list.into_iter().map(Json::parse).collect::<Result<_, _>>().map_err(unlawful)?;
        Ok((NodeIndex(self.each), Expansion { nodes: self.nodes.into_iter().map(NodeIndex).collect(), list }))
    }
}

impl WirePass<'_> {
    fn into_pass(self) -> Result<PassSnapshot, Unlawful> {
        let mut pass = PassSnapshot {
            firing: Firing::new(self.firing),
            entry: self.entry.map(NodeIndex),
            by: self.by.into(),
            inputs: values_from_wire(self.inputs)?,
            given: given_from_wire(self.given)?,
            state: run_state(self.state)?,
            elements: self.elements.into_iter().map(WireExpansion::into_expansion).collect::<Result<_, Unlawful>>()?,
            nodes: nodes_from_wire(self.nodes)?,
            intentions: intentions_from_wire(self.intentions),
            failures: failures_from_wire(self.failures)?,
            expires_at: at(self.expires_at),
        };
        delay(&mut pass, self.delayed)?;
        Ok(pass)
    }
}

impl<'a> From<&'a Life> for WireLife<'a> {
    fn from(life: &'a Life) -> Self {
        let waiting = |waiting: &'a Waiting| WireWaiting {
            firing: waiting.firing.get(),
            entry: waiting.entry.map(|entry| entry.0),
            by: (&waiting.by).into(),
            values: values_to_wire(&waiting.values),
            given: waiting.given.as_ref().map(|given| given_to_wire(given)),
        };
        let owed = |owed: &'a Owed| WireOwed {
            turn: owed.turn,
            values: values_to_wire(&owed.values),
            given: given_to_wire(&owed.given),
            not_before: micros(&owed.not_before),
        };
        let due = |due: &Due| match due {
            Due::Unknown => WireDue::Unknown,
            Due::At(at) => WireDue::At(at.as_micros()),
            Due::Never => WireDue::Never,
        };
        let span = |span: &Backlog| (span.next.as_micros(), span.until.as_micros());
        let skips = |((entry, reason), skips): (&(NodeIndex, SkipReason), &Skips)| WireSkips {
            entry: entry.0,
            reason: (*reason).into(),
            count: skips.count,
            last_micros: skips.last_at.as_micros(),
        };
        Self {
            state: life.state.as_str(),
            fired: life.fired,
            waiting: life.waiting.iter().map(waiting).collect(),
            owed: life.owed.iter().map(owed).collect(),
            latest: given_to_wire(&life.latest),
            last: life.last.iter().map(|(index, state)| (index.0, state.as_str())).collect(),
            failures: failures_to_wire(&life.failures),
            ending: life.ending,
            last_end: life.last_end.map(RunState::as_str),
            expires_at: micros(&life.expires_at),
            schedules: life.schedules.iter().map(due).collect(),
            base: life.base.map(Firing::get),
            backlogs: life.backlogs.iter().map(|spans| spans.iter().map(span).collect()).collect(),
            skips: life.skips.iter().map(skips).collect(),
        }
    }
}

impl WireLife<'_> {
    fn into_life(self) -> Result<Life, Unlawful> {
        let waiting = |wire: WireWaiting<'_>| {
            Ok(Waiting {
                firing: Firing::new(wire.firing),
                entry: wire.entry.map(NodeIndex),
                by: wire.by.into(),
                values: values_from_wire(wire.values)?,
                given: wire.given.map(given_from_wire).transpose()?,
            })
        };
        let owed = |wire: WireOwed<'_>| {
            let (values, given) = (values_from_wire(wire.values)?, given_from_wire(wire.given)?);
            Ok(Owed { turn: wire.turn, values, given, not_before: at(wire.not_before) })
        };
        let last = |(index, word): (u32, &str)| {
            let state = State::ALL.into_iter().find(|state| state.as_str() == word);
            Ok((NodeIndex(index), state.ok_or_else(|| format!("{word:?} is no state of a task"))?))
        };
        let due = |wire: WireDue| match wire {
            WireDue::Unknown => Due::Unknown,
            WireDue::At(micros) => Due::At(Timestamp::from_micros(micros)),
            WireDue::Never => Due::Never,
        };
        let span = |(next, until)| Backlog { next: Timestamp::from_micros(next), until: Timestamp::from_micros(until) };
        let skips = |wire: WireSkips| {
            let skips = Skips { count: wire.count, last_at: Timestamp::from_micros(wire.last_micros) };
            ((NodeIndex(wire.entry), wire.reason.into()), skips)
        };
        Ok(Life {
            state: run_state(self.state)?,
            fired: self.fired,
            waiting: self.waiting.into_iter().map(waiting).collect::<Result<_, Unlawful>>()?,
            owed: self.owed.into_iter().map(owed).collect::<Result<_, Unlawful>>()?,
            latest: given_from_wire(self.latest)?,
            last: self.last.into_iter().map(last).collect::<Result<_, Unlawful>>()?,
            failures: Arc::new(failures_from_wire(self.failures)?),
            ending: self.ending,
            last_end: self.last_end.map(run_state).transpose()?,
            expires_at: at(self.expires_at),
            schedules: self.schedules.into_iter().map(due).collect(),
            base: self.base.map(Firing::new),
            backlogs: self.backlogs.into_iter().map(|spans| spans.into_iter().map(span).collect()).collect(),
            skips: self.skips.into_iter().map(skips).collect(),
        })
    }
}

impl WireLivingSnapshot<'_> {
    fn into_snapshot(self) -> Result<Snapshot, Unlawful> {
        Ok(Snapshot {
            flow: self.flow.into_flow(self.more)?,
            revision: Revision::new(self.revision),
            passes: self.passes.into_iter().map(WirePass::into_pass).collect::<Result<_, Unlawful>>()?,
            life: self.life.map(WireLife::into_life).transpose()?,
            notifications: Notifications::from_hashes(self.notifications),
            latest: Timestamp::from_micros(self.latest_micros),
        })
    }
}

fn delay(pass: &mut PassSnapshot, delayed: Vec<(u32, u64)>) -> Result<(), Unlawful> {
    for (index, until) in delayed {
        match pass.nodes.iter_mut().find(|(node, _)| node.0 == index) {
            Some((_, node)) => node.starts_at = at(Some(until)),
            None => return Err(format!("node {index} waits, and is not in the snapshot")),
        }
    }
    Ok(())
}

fn nodes_from_wire(nodes: Vec<(u32, WireNodeRun<'_>)>) -> Result<Vec<(NodeIndex, NodeRun)>, Unlawful> {
    let node = |(index, node): (u32, WireNodeRun<'_>)| Ok((NodeIndex(index), node.into_node()?));
    nodes.into_iter().map(node).collect()
}

fn intentions_from_wire(intentions: Vec<(u32, bool)>) -> Vec<(ScopeIndex, Intention)> {
    let intention = |(scope, again)| (ScopeIndex(scope), if again { Intention::Retry } else { Intention::Rollback });
    intentions.into_iter().map(intention).collect()
}

/// The snapshot in some bytes.
///
/// # Errors
/// [`DecodeError`] for whatever is not a snapshot of a known version.
pub fn decode_snapshot(bytes: &[u8]) -> Result<Snapshot, DecodeError> {
    let wire = match codec::version_of(Kind::Snapshot, bytes) {
        Some(1) => WireSnapshotWithMore {
            snapshot: codec::decode(Kind::Snapshot, bytes)?,
            more: WireMore::default(),
            delayed: Vec::new(),
            expires_at: None,
        },
        Some(3) => {
            let wire: WireLivingSnapshot<'_> = codec::decode(Kind::Snapshot, bytes)?;
            return wire.into_snapshot().map_err(|reason| codec::damaged(Kind::Snapshot, reason));
        }
        Some(_) | None => codec::decode(Kind::Snapshot, bytes)?,
    };
    wire.into_snapshot().map_err(|reason| codec::damaged(Kind::Snapshot, reason))
}

fn micros(at: &Option<Timestamp>) -> Option<u64> {
    at.map(Timestamp::as_micros)
}

fn at(micros: Option<u64>) -> Option<Timestamp> {
    micros.map(Timestamp::from_micros)
}

impl<'a> From<&'a NodeRun> for WireNodeRun<'a> {
    fn from(node: &'a NodeRun) -> Self {
        Self {
            state: (&node.state).into(),
            firing: node.firing.get(),
            applies: node.applies,
            rollbacks: node.rollbacks,
            failed_in_row: node.failed_in_row,
            lost_in_row: node.lost_in_row,
            lost: node.lost.iter().map(|(action, attempt)| ((*action).into(), attempt.get())).collect(),
            executions: node.executions.iter().map(|(attempt, execution)| (attempt.get(), execution.get())).collect(),
            unsure: node.unsure,
            holders: node
                .holders
                .iter()
                .map(|(action, attempt, worker)| ((*action).into(), attempt.get(), worker.as_str()))
                .collect(),
            stray: node.stray.as_ref().map(WireOutcome::from),
            list: node.list.as_ref().map(|list| list.iter().map(Json::as_str).collect()),
        }
    }
}

impl<'a> From<&'a NodeState> for WireNodeState<'a> {
    fn from(state: &'a NodeState) -> Self {
        match state {
            NodeState::Pending => Self::Pending,
            NodeState::Running { since, retry_at } => {
                Self::Running { since: since.as_micros(), retry_at: micros(retry_at) }
            }
            NodeState::Success { provided } => Self::Success { provided: values_to_wire(provided) },
            NodeState::Failure { failure, retry_at } => {
                Self::Failure { failure: failure.into(), retry_at: micros(retry_at) }
            }
            NodeState::RollingBack { since, outcome, retry_at } => {
                Self::RollingBack { since: since.as_micros(), outcome: outcome.into(), retry_at: micros(retry_at) }
            }
            NodeState::RolledBack => Self::RolledBack,
            NodeState::RollbackFailure { outcome } => Self::RollbackFailure { outcome: outcome.into() },
            NodeState::Retrying => Self::Retrying,
            NodeState::Ignored => Self::Ignored,
            NodeState::Elsewhere => Self::Elsewhere,
        }
    }
}

impl WireSnapshotWithMore<'_> {
    fn into_snapshot(self) -> Result<Snapshot, Unlawful> {
        let wire = self.snapshot;
        let mut pass = PassSnapshot {
            firing: Firing::FIRST,
            entry: None,
            by: Trigger::Start,
            inputs: Values::new(),
            given: Arc::default(),
            state: run_state(wire.state)?,
            elements: Vec::new(),
            nodes: nodes_from_wire(wire.nodes)?,
            intentions: intentions_from_wire(wire.intentions),
            failures: failures_from_wire(wire.failures)?,
            expires_at: at(self.expires_at),
        };
        delay(&mut pass, self.delayed)?;
        let (flow, revision) = (wire.flow.into_flow(self.more)?, Revision::new(wire.revision));
        let latest = Timestamp::from_micros(wire.latest_micros);
        Ok(Snapshot { flow, revision, passes: vec![pass], life: None, notifications: Notifications::default(), latest })
    }
}

impl WireNodeRun<'_> {
    fn into_node(self) -> Result<NodeRun, Unlawful> {
        let lost: BTreeSet<(Action, Attempt)> =
            self.lost.into_iter().map(|(action, attempt)| (action.into(), Attempt::new(attempt))).collect();
        let list = match self.list {
            Some(list) => Some(list.into_iter().map(Json::parse).collect::<Result<_, _>>().map_err(unlawful)?),
            None => None,
        };
        let mut node = NodeRun::untouched();
        node.state = self.state.into_state()?;
        node.firing = Firing::new(self.firing);
        node.applies = self.applies;
        node.rollbacks = self.rollbacks;
        node.failed_in_row = self.failed_in_row;
        node.lost_in_row = self.lost_in_row;
        node.lost = lost;
        let execution = |(attempt, execution)| (Attempt::new(attempt), Execution::new(execution));
        node.executions = self.executions.into_iter().map(execution).collect();
        node.unsure = self.unsure;
        let holder = |(action, attempt, worker): (WireAction, u32, &str)| {
            Ok((action.into(), Attempt::new(attempt), WorkerName::new(worker).map_err(unlawful)?))
        };
        node.holders = self.holders.into_iter().map(holder).collect::<Result<_, Unlawful>>()?;
        node.stray = self.stray.map(WireOutcome::into_outcome).transpose()?;
        node.list = list;
        Ok(node)
    }
}

impl WireNodeState<'_> {
    fn into_state(self) -> Result<NodeState, Unlawful> {
        Ok(match self {
            Self::Pending => NodeState::Pending,
            Self::Running { since, retry_at } => {
                NodeState::Running { since: Timestamp::from_micros(since), retry_at: at(retry_at) }
            }
            Self::Success { provided } => NodeState::Success { provided: values_from_wire(provided)? },
            Self::Failure { failure, retry_at } => {
                NodeState::Failure { failure: failure.into_failure()?, retry_at: at(retry_at) }
            }
            Self::RollingBack { since, outcome, retry_at } => NodeState::RollingBack {
                since: Timestamp::from_micros(since),
                outcome: outcome.into_outcome()?,
                retry_at: at(retry_at),
            },
            Self::RolledBack => NodeState::RolledBack,
            Self::RollbackFailure { outcome } => NodeState::RollbackFailure { outcome: outcome.into_outcome()? },
            Self::Retrying => NodeState::Retrying,
            Self::Ignored => NodeState::Ignored,
            Self::Elsewhere => NodeState::Elsewhere,
        })
    }
}
