//! What is true of one node, and of one scope, while a run lives.

use std::collections::BTreeSet;

use crate::{Action, Attempt, Failure, Firing, Json, NodeIndex, Outcome, ScopeIndex, State, Timestamp, Values};

/// A node of a run. `Begin` and `End` know only pending, success and rolled-back.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NodeRun {
    pub(super) state: NodeState,
    pub(super) firing: Firing,
    /// Attempts handed out so far, in the whole run; of a controller, the tries since its flow began anew.
    pub(super) applies: u32,
    /// Rollback attempts handed out so far.
    pub(super) rollbacks: u32,
    /// Attempts of the present call that failed, since the task was last pending.
    pub(super) failed_in_row: u32,
    /// How many of the nodes before it are neither in success nor ignored.
    pub(super) waiting: usize,
    /// How many of the nodes after it are not pending, rolled-back or ignored.
    pub(super) holding: usize,
    /// What a controller tries, when another node provided it.
    pub(super) list: Option<Vec<Json>>,
}

impl NodeRun {
    pub(super) fn new(before: usize) -> Self {
        Self {
            state: NodeState::Pending,
            firing: Firing::FIRST,
            applies: 0,
            rollbacks: 0,
            failed_in_row: 0,
            waiting: before,
            holding: 0,
            list: None,
        }
    }

    /// What the node is called for now, and how many attempts at that were handed out.
    pub(super) fn under_way(&self) -> (Action, u32) {
        match self.state {
            NodeState::RollingBack { .. } => (Action::Rollback, self.rollbacks),
            NodeState::Pending
            | NodeState::Running { .. }
            | NodeState::Success { .. }
            | NodeState::Failure { .. }
            | NodeState::RolledBack
            | NodeState::RollbackFailure { .. }
            | NodeState::Retrying => (Action::Apply, self.applies),
        }
    }

    /// The attempt it is told with: of what it does now, or did last.
    pub(super) fn attempt(&self) -> Attempt {
        let count = match self.state {
            NodeState::RollingBack { .. } | NodeState::RollbackFailure { .. } if self.rollbacks > 0 => self.rollbacks,
            NodeState::Pending
            | NodeState::Running { .. }
            | NodeState::Success { .. }
            | NodeState::Failure { .. }
            | NodeState::RollingBack { .. }
            | NodeState::RolledBack
            | NodeState::RollbackFailure { .. }
            | NodeState::Retrying => self.applies,
        };
        Attempt::new(count.max(1))
    }
}

/// What is true of a node in each of its states.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NodeState {
    Pending,
    Running {
        since: Timestamp,
    },
    Success {
        provided: Values,
    },
    /// `retry_at` is `None` once the failure is for good.
    Failure {
        failure: Failure,
        retry_at: Option<Timestamp>,
    },
    /// `outcome` is told by the flow's names. With `retry_at`, no call is out.
    RollingBack {
        since: Timestamp,
        outcome: Outcome,
        retry_at: Option<Timestamp>,
    },
    RolledBack,
    /// Why the rollback failed stands among the machine's failures; here, why the apply had failed, if it had.
    RollbackFailure {
        apply: Option<Failure>,
    },
    Retrying,
}

impl NodeState {
    /// What the node provides that may be read.
    pub(super) fn readable(&self) -> Option<&Values> {
        match self {
            Self::Success { provided } | Self::RollingBack { outcome: Outcome::Provided(provided), .. } => {
                Some(provided)
            }
            Self::Pending
            | Self::Running { .. }
            | Self::Failure { .. }
            | Self::RollingBack { .. }
            | Self::RolledBack
            | Self::RollbackFailure { .. }
            | Self::Retrying => None,
        }
    }

    /// Whether what comes after need not wait for it.
    pub(super) fn lets_follow(&self) -> bool {
        match self {
            Self::Success { .. } => true,
            Self::Pending
            | Self::Running { .. }
            | Self::Failure { .. }
            | Self::RollingBack { .. }
            | Self::RolledBack
            | Self::RollbackFailure { .. }
            | Self::Retrying => false,
        }
    }

    /// Whether it keeps what comes before from being rolled back.
    pub(super) fn holds_back(&self) -> bool {
        match self {
            Self::Pending | Self::RolledBack => false,
            Self::Running { .. }
            | Self::Success { .. }
            | Self::Failure { .. }
            | Self::RollingBack { .. }
            | Self::RollbackFailure { .. }
            | Self::Retrying => true,
        }
    }

    /// The state as it is told.
    pub(super) fn told(&self) -> State {
        match self {
            Self::Pending => State::Pending,
            Self::Running { .. } => State::Running,
            Self::Success { .. } => State::Success,
            Self::Failure { .. } => State::Failure,
            Self::RollingBack { .. } => State::RollingBack,
            Self::RolledBack => State::RolledBack,
            Self::RollbackFailure { .. } => State::RollbackFailure,
            Self::Retrying => State::Retrying,
        }
    }
}

/// A scope of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ScopeRun {
    pub(super) intention: Intention,
    /// The nodes of this scope, nested ones apart, that are not pending.
    pub(super) ran: BTreeSet<NodeIndex>,
    pub(super) children: Vec<ScopeIndex>,
}

/// What is to become of a scope. The strongest of those around a node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Intention {
    #[default]
    Execute,
    Retry,
    /// Never changed back to retry.
    Rollback,
}
