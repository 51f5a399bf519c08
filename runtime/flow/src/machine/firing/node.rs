//! What is true of one node, and of one scope, while a run lives.

use std::collections::BTreeSet;

use crate::{
    Action, Attempt, Execution, Failure, Firing, Json, NodeIndex, Outcome, ScopeIndex, State, Timestamp, Values,
    WorkerName,
};

/// A node of a run. `Start` and `End` know only pending, success and rolled-back.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRun {
    /// Its state.
    pub state: NodeState,
    /// How often it was triggered.
    pub firing: Firing,
    /// Attempts handed out so far, in the whole run; of a controller, the tries since its flow began anew.
    pub applies: u32,
    /// Rollbacks begun so far: attempts handed out, and rollbacks that passed through it without a call.
    pub rollbacks: u32,
    /// Attempts of the present call that failed, since the task was last pending.
    pub consecutive_failures: u32,
    /// Attempts of the present call that were lost, since the task was last pending.
    pub consecutive_losses: u32,
    /// Attempts that were lost and not answered since.
    pub lost: BTreeSet<(Action, Attempt)>,
    /// The executions of its applies that are recorded: another one has done it once more.
    pub executions: BTreeSet<(Attempt, Execution)>,
    /// Whether an apply may have happened of which nothing else tells: a rollback is told `unknown`.
    pub may_have_applied: bool,
    /// Who has which of its calls under a lease: the one that is out, or one whose job was delivered twice.
    pub lease_holders: BTreeSet<(Action, Attempt, WorkerName)>,
    /// What a late apply came to that answered when the node was pending again, or was being rolled back: what it did
    /// is still to be taken back.
    pub late_outcome: Option<Outcome>,
    /// When it starts, though it could already.
    pub starts_at: Option<Timestamp>,
    /// How many of the nodes before it are neither in success nor ignored.
    pub(in crate::machine) waiting: usize,
    /// How many of the nodes after it are not pending, rolled-back or ignored.
    pub(in crate::machine) holding: usize,
    /// What a controller tries, when another node provided it.
    pub list: Option<Vec<Json>>,
}

impl NodeRun {
    /// A node that has not run, as a snapshot begins with it.
    #[must_use]
    pub fn untouched() -> Self {
        Self::new(0)
    }

    pub(in crate::machine) fn new(before: usize) -> Self {
        Self {
            state: NodeState::Pending,
            firing: Firing::FIRST,
            applies: 0,
            rollbacks: 0,
            consecutive_failures: 0,
            consecutive_losses: 0,
            lost: BTreeSet::new(),
            executions: BTreeSet::new(),
            may_have_applied: false,
            lease_holders: BTreeSet::new(),
            late_outcome: None,
            starts_at: None,
            waiting: before,
            holding: 0,
            list: None,
        }
    }

    /// What the node is called for now, and how many attempts at that were handed out.
    pub(in crate::machine) fn is_active(&self) -> (Action, u32) {
        match self.state {
            NodeState::RollingBack { .. } => (Action::Rollback, self.rollbacks),
            NodeState::Pending
            | NodeState::Running { .. }
            | NodeState::Success { .. }
            | NodeState::Failure { .. }
            | NodeState::RolledBack
            | NodeState::RollbackFailure { .. }
            | NodeState::Retrying
            | NodeState::NotInFiring
            | NodeState::Ignored => (Action::Apply, self.applies),
        }
    }

    /// The attempt it is told with: of what it does now, or did last. Applies and rollbacks are numbered apart.
    pub(in crate::machine) fn attempt(&self) -> Attempt {
        let count = match self.state {
            NodeState::RollingBack { .. } | NodeState::RolledBack | NodeState::RollbackFailure { .. } => self.rollbacks,
            NodeState::Pending
            | NodeState::Running { .. }
            | NodeState::Success { .. }
            | NodeState::Failure { .. }
            | NodeState::Retrying
            | NodeState::NotInFiring
            | NodeState::Ignored => self.applies,
        };
        Attempt::new(count.max(1))
    }
}

/// What is true of a node in each of its states.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeState {
    /// It waits.
    Pending,
    /// It is not of this pass: what it has provided is given, and nothing here waits for it.
    NotInFiring,
    /// Its apply is with the workers.
    Running {
        /// When the attempt was handed out.
        since: Timestamp,
        /// The attempt was lost, and the next one starts then.
        retry_at: Option<Timestamp>,
    },
    /// Its apply succeeded.
    Success {
        /// What it left, by the flow's names.
        provided: Values,
    },
    /// Its apply failed.
    Failure {
        /// Why.
        failure: Failure,
        /// When it is tried again; `None` once the failure is for good.
        retry_at: Option<Timestamp>,
    },
    /// Its rollback is with the workers, or waits for its next attempt.
    RollingBack {
        /// When the attempt was handed out.
        since: Timestamp,
        /// What it is told of the apply, by the flow's names.
        outcome: Outcome,
        /// No call is out, and the next one starts then.
        retry_at: Option<Timestamp>,
    },
    /// What it did was taken back.
    RolledBack,
    /// Taking back failed for good. Why stands among the machine's failures.
    RollbackFailure {
        /// What the rollback was told of the apply.
        outcome: Outcome,
    },
    /// A controller that will execute again.
    Retrying,
    /// A condition left it out.
    Ignored,
}

impl NodeState {
    /// What the node provides that may be read.
    pub(in crate::machine) fn readable(&self) -> Option<&Values> {
        match self {
            Self::Success { provided } | Self::RollingBack { outcome: Outcome::Provided(provided), .. } => {
                Some(provided)
            }
            Self::Pending
            | Self::NotInFiring
            | Self::Running { .. }
            | Self::Failure { .. }
            | Self::RollingBack { .. }
            | Self::RolledBack
            | Self::RollbackFailure { .. }
            | Self::Retrying
            | Self::Ignored => None,
        }
    }

    /// Whether it failed for good, or was rolled back: who listens to that need not wait any more.
    pub(in crate::machine) fn is_over(&self) -> bool {
        match self {
            Self::Success { .. }
            | Self::Ignored
            | Self::NotInFiring
            | Self::Failure { retry_at: None, .. }
            | Self::RollingBack { .. }
            | Self::RolledBack
            | Self::RollbackFailure { .. } => true,
            Self::Pending | Self::Running { .. } | Self::Failure { .. } | Self::Retrying => false,
        }
    }

    /// Whether what comes after need not wait for it.
    pub(in crate::machine) fn lets_follow(&self) -> bool {
        match self {
            Self::Success { .. } | Self::Ignored | Self::NotInFiring => true,
            Self::Pending
            | Self::Running { .. }
            | Self::Failure { .. }
            | Self::RollingBack { .. }
            | Self::RolledBack
            | Self::RollbackFailure { .. }
            | Self::Retrying => false,
        }
    }

    /// Whether it keeps what comes before from being rolled back. Of an ignored node what comes after it says that.
    pub(in crate::machine) fn holds_back(&self) -> bool {
        match self {
            Self::Pending | Self::NotInFiring | Self::RolledBack | Self::Ignored => false,
            Self::Running { .. }
            | Self::Success { .. }
            | Self::Failure { .. }
            | Self::RollingBack { .. }
            | Self::RollbackFailure { .. }
            | Self::Retrying => true,
        }
    }

    /// The state as it is told.
    pub(in crate::machine) fn told(&self) -> State {
        match self {
            Self::Pending => State::Pending,
            Self::Running { .. } => State::Running,
            Self::Success { .. } => State::Success,
            Self::Failure { .. } => State::Failure,
            Self::RollingBack { .. } => State::RollingBack,
            Self::RolledBack => State::RolledBack,
            Self::RollbackFailure { .. } => State::RollbackFailure,
            Self::Retrying => State::Retrying,
            // Nobody is told of it.
            Self::NotInFiring | Self::Ignored => State::Ignored,
        }
    }
}

/// A scope of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::machine) struct ScopeRun {
    pub(in crate::machine) intention: Intention,
    /// The nodes of this scope, nested ones apart, that are not pending.
    pub(in crate::machine) ran: BTreeSet<NodeIndex>,
    pub(in crate::machine) children: Vec<ScopeIndex>,
}

/// What is to become of a scope. The strongest of those around a node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Intention {
    /// It runs.
    #[default]
    Execute,
    /// It is rolled back, and its controller tries again.
    Retry,
    /// It is rolled back. Never changed back to retry.
    Rollback,
}
