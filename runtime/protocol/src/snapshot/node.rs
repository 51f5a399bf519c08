//! The nodes of a firing that have changed since the firing began.

use flow::{Action, Attempt, Execution, Firing, Timestamp, WorkerName};
use machine::{NodeRun, NodeState, RareState};

use crate::{
    codec::{BorrowDecode, Encode},
    wire::{
        Invalid, WireAction, WireFailure, WireOutcome, WireValues, invalid, list_from_wire, list_to_wire,
        time_from_wire, time_to_wire, values_from_wire, values_to_wire,
    },
};

#[derive(Encode, BorrowDecode)]
pub(super) struct WireNodeRun<'a> {
    state: WireNodeState<'a>,
    firing: u64,
    applies: u32,
    rollbacks: u32,
    failed_in_row: u32,
    lost_in_row: u32,
    lost: Vec<(WireAction, u32)>,
    executions: Vec<(u32, u64)>,
    may_have_applied: bool,
    holders: Vec<(WireAction, u32, &'a str)>,
    late_outcome: Option<WireOutcome<'a>>,
    starts_at_micros: Option<u64>,
    list: Option<Vec<&'a str>>,
    /// The executions of each call that were recorded without an answer.
    unanswered: Vec<(WireAction, u32, u32)>,
}

#[derive(Encode, BorrowDecode)]
enum WireNodeState<'a> {
    Pending,
    Running {
        since_micros: u64,
        retry_at_micros: Option<u64>,
    },
    Success {
        provided: WireValues<'a>,
    },
    Failure {
        failure: WireFailure<'a>,
        retry_at_micros: Option<u64>,
    },
    RollingBack {
        since_micros: u64,
        outcome: WireOutcome<'a>,
        retry_at_micros: Option<u64>,
    },
    RolledBack,
    RollbackFailure {
        outcome: WireOutcome<'a>,
    },
    Retrying,
    Ignored,
    /// The node is not part of this firing.
    OtherFiring,
}

impl<'a> From<&'a NodeRun> for WireNodeRun<'a> {
    fn from(node: &'a NodeRun) -> Self {
        let lost = |(action, attempt): &(Action, Attempt)| ((*action).into(), attempt.get());
        let execution = |(attempt, execution): (Attempt, Execution)| (attempt.get(), execution.get());
        let holder = |(action, attempt, worker): &'a (Action, Attempt, WorkerName)| {
            ((*action).into(), attempt.get(), worker.as_str())
        };
        let unanswered =
            |((action, attempt), count): (&(Action, Attempt), &u32)| ((*action).into(), attempt.get(), *count);
        Self {
            state: (&node.state).into(),
            firing: node.firing.get(),
            applies: node.applies,
            rollbacks: node.rollbacks,
            failed_in_row: node.consecutive_failures,
            lost_in_row: node.consecutive_losses,
            lost: node.rare.lost.iter().map(lost).collect(),
            executions: node.executions.iter().map(execution).collect(),
            may_have_applied: node.may_have_applied,
            holders: node.rare.lease_holders.iter().map(holder).collect(),
            late_outcome: node.rare.late_outcome.as_ref().map(WireOutcome::from),
            starts_at_micros: time_to_wire(node.rare.starts_at),
            list: node.rare.list.as_deref().map(list_to_wire),
            unanswered: node.rare.unanswered.iter().map(unanswered).collect(),
        }
    }
}

impl WireNodeRun<'_> {
    pub(super) fn into_node(self) -> Result<NodeRun, Invalid> {
        let lost = |(action, attempt): (WireAction, u32)| (action.into(), Attempt::new(attempt));
        let execution = |(attempt, execution)| (Attempt::new(attempt), Execution::new(execution));
        let holder = |(action, attempt, worker): (WireAction, u32, &str)| {
            Ok((action.into(), Attempt::new(attempt), WorkerName::new(worker).map_err(invalid)?))
        };
        let unanswered =
            |(action, attempt, count): (WireAction, u32, u32)| ((action.into(), Attempt::new(attempt)), count);
        let mut node = NodeRun::untouched();
        node.state = self.state.into_state()?;
        node.firing = Firing::new(self.firing);
        node.applies = self.applies;
        node.rollbacks = self.rollbacks;
        node.consecutive_failures = self.failed_in_row;
        node.consecutive_losses = self.lost_in_row;
        node.executions = self.executions.into_iter().map(execution).collect();
        node.may_have_applied = self.may_have_applied;
        let rare = RareState {
            lost: self.lost.into_iter().map(lost).collect(),
            lease_holders: self.holders.into_iter().map(holder).collect::<Result<_, Invalid>>()?,
            late_outcome: self.late_outcome.map(WireOutcome::into_outcome).transpose()?,
            unanswered: self.unanswered.into_iter().map(unanswered).collect(),
            starts_at: time_from_wire(self.starts_at_micros),
            list: self.list.map(list_from_wire).transpose()?,
        };
        node.rare = rare.into();
        Ok(node)
    }
}

impl<'a> From<&'a NodeState> for WireNodeState<'a> {
    fn from(state: &'a NodeState) -> Self {
        match state {
            NodeState::Pending => Self::Pending,
            NodeState::Running { since, retry_at } => {
                Self::Running { since_micros: since.as_micros(), retry_at_micros: time_to_wire(*retry_at) }
            }
            NodeState::Success { provided } => Self::Success { provided: values_to_wire(provided.iter()) },
            NodeState::Failure { failure, retry_at } => {
                Self::Failure { failure: (&**failure).into(), retry_at_micros: time_to_wire(*retry_at) }
            }
            NodeState::RollingBack { since, outcome, retry_at } => {
                let (since_micros, retry_at_micros) = (since.as_micros(), time_to_wire(*retry_at));
                Self::RollingBack { since_micros, outcome: (&**outcome).into(), retry_at_micros }
            }
            NodeState::RolledBack => Self::RolledBack,
            NodeState::RollbackFailure { outcome } => Self::RollbackFailure { outcome: (&**outcome).into() },
            NodeState::Retrying => Self::Retrying,
            NodeState::Ignored => Self::Ignored,
            NodeState::NotInFiring => Self::OtherFiring,
        }
    }
}

impl WireNodeState<'_> {
    fn into_state(self) -> Result<NodeState, Invalid> {
        Ok(match self {
            Self::Pending => NodeState::Pending,
            Self::Running { since_micros, retry_at_micros } => {
                let (since, retry_at) = (Timestamp::from_micros(since_micros), time_from_wire(retry_at_micros));
                NodeState::Running { since, retry_at }
            }
            Self::Success { provided } => NodeState::Success { provided: values_from_wire(provided)?.into() },
            Self::Failure { failure, retry_at_micros } => NodeState::Failure {
                failure: failure.into_failure()?.into(),
                retry_at: time_from_wire(retry_at_micros),
            },
            Self::RollingBack { since_micros, outcome, retry_at_micros } => {
                let (since, retry_at) = (Timestamp::from_micros(since_micros), time_from_wire(retry_at_micros));
                NodeState::RollingBack { since, outcome: outcome.into_outcome()?.into(), retry_at }
            }
            Self::RolledBack => NodeState::RolledBack,
            Self::RollbackFailure { outcome } => NodeState::RollbackFailure { outcome: outcome.into_outcome()?.into() },
            Self::Retrying => NodeState::Retrying,
            Self::Ignored => NodeState::Ignored,
            Self::OtherFiring => NodeState::NotInFiring,
        })
    }
}
