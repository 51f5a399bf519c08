//! Snapshots as bytes: what a long run is loaded from.

use std::collections::BTreeSet;

use flow::{
    Action, Attempt, Execution, Firing, Intention, Json, NodeIndex, NodeRun, NodeState, Revision, ScopeIndex, Snapshot,
    Timestamp, WorkerName,
};

use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, Kind},
    flow_wire::{WireFlow, WireMore, more_to_wire},
    record::run_state,
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
    let intention = |(scope, intention): &(ScopeIndex, Intention)| match intention {
        Intention::Execute => None,
        Intention::Retry => Some((scope.0, true)),
        Intention::Rollback => Some((scope.0, false)),
    };
    let wire = WireSnapshot {
        flow: (&*snapshot.flow).into(),
        revision: snapshot.revision.get(),
        state: snapshot.state.as_str(),
        nodes: snapshot.nodes.iter().map(|(index, node)| (index.0, node.into())).collect(),
        intentions: snapshot.intentions.iter().filter_map(intention).collect(),
        failures: failures_to_wire(&snapshot.failures),
    };
    let more = more_to_wire(&snapshot.flow);
    // Nothing is ignored in a flow that says no more.
    if more.is_empty() {
        codec::encode(Kind::Snapshot, &wire)
    } else {
        let delayed = |(index, node): &(NodeIndex, NodeRun)| Some((index.0, micros(&node.starts_at)?));
        let delayed = snapshot.nodes.iter().filter_map(delayed).collect();
        let expires_at = micros(&snapshot.expires_at);
        codec::encode_as(Kind::Snapshot, 2, &WireSnapshotWithMore { snapshot: wire, more, delayed, expires_at })
    }
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
        }
    }
}

impl WireSnapshotWithMore<'_> {
    fn into_snapshot(self) -> Result<Snapshot, Unlawful> {
        let mut snapshot = self.snapshot.into_snapshot(self.more)?;
        snapshot.expires_at = at(self.expires_at);
        for (index, until) in self.delayed {
            match snapshot.nodes.iter_mut().find(|(node, _)| node.0 == index) {
                Some((_, node)) => node.starts_at = at(Some(until)),
                None => return Err(format!("node {index} waits, and is not in the snapshot")),
            }
        }
        Ok(snapshot)
    }
}

impl WireSnapshot<'_> {
    fn into_snapshot(self, more: WireMore<'_>) -> Result<Snapshot, Unlawful> {
        let node = |(index, node): (u32, WireNodeRun<'_>)| Ok((NodeIndex(index), node.into_node()?));
        let intention =
            |(scope, again)| (ScopeIndex(scope), if again { Intention::Retry } else { Intention::Rollback });
        Ok(Snapshot {
            flow: self.flow.into_flow(more)?,
            revision: Revision::new(self.revision),
            state: run_state(self.state)?,
            nodes: self.nodes.into_iter().map(node).collect::<Result<_, Unlawful>>()?,
            intentions: self.intentions.into_iter().map(intention).collect(),
            failures: failures_from_wire(self.failures)?,
            expires_at: None,
        })
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
        })
    }
}
