//! The state of a node, and its properties: a new state is decided here, property by property.

use flow::{Failure, Outcome, State, Timestamp};

use super::{ProvidedValues, ReadableValues};

/// The state of a node, with the data that only this state has.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeState {
    /// It waits.
    Pending,
    /// It is not part of this firing: its values are inherited, and no node here waits for it.
    NotInFiring,
    /// Its apply is with the workers.
    Running {
        /// When the attempt was dispatched.
        since: Timestamp,
        /// The attempt was lost; the next one starts at this time.
        retry_at: Option<Timestamp>,
    },
    /// Its apply succeeded.
    Success {
        /// Its values, by the flow's names.
        provided: ProvidedValues,
    },
    /// Its apply failed.
    Failure {
        /// The failure.
        failure: Box<Failure>,
        /// The time of the next attempt; `None` once the failure is permanent.
        retry_at: Option<Timestamp>,
    },
    /// Its rollback is with the workers, or waits for its next attempt.
    RollingBack {
        /// When the attempt was dispatched.
        since: Timestamp,
        /// The outcome of the apply that the rollback receives, by the flow's names.
        outcome: Box<Outcome>,
        /// No call is dispatched; the next attempt starts at this time.
        retry_at: Option<Timestamp>,
    },
    /// Its effects were rolled back.
    RolledBack,
    /// Its rollback failed permanently. The machine's failures contain the reason.
    RollbackFailure {
        /// The outcome of the apply that the rollback received.
        outcome: Box<Outcome>,
    },
    /// A controller that will execute again.
    Retrying,
    /// A condition excluded it.
    Ignored,
}

impl NodeState {
    /// Whether an apply is with the workers, or will be tried again.
    pub(in crate::machine) fn is_applying(&self) -> bool {
        match self {
            Self::Running { .. } | Self::Failure { retry_at: Some(_), .. } => true,
            Self::Pending
            | Self::NotInFiring
            | Self::Success { .. }
            | Self::Failure { retry_at: None, .. }
            | Self::RollingBack { .. }
            | Self::RolledBack
            | Self::RollbackFailure { .. }
            | Self::Retrying
            | Self::Ignored => false,
        }
    }

    /// Whether a rollback is with the workers, or will be tried again.
    pub(in crate::machine) fn is_rolling_back(&self) -> bool {
        match self {
            Self::RollingBack { .. } => true,
            Self::Pending
            | Self::NotInFiring
            | Self::Running { .. }
            | Self::Success { .. }
            | Self::Failure { .. }
            | Self::RolledBack
            | Self::RollbackFailure { .. }
            | Self::Retrying
            | Self::Ignored => false,
        }
    }

    /// Whether its apply has ended, and was not rolled back.
    pub(in crate::machine) fn is_applied(&self) -> bool {
        match self {
            Self::Success { .. } | Self::Failure { .. } => true,
            Self::Pending
            | Self::NotInFiring
            | Self::Running { .. }
            | Self::RollingBack { .. }
            | Self::RolledBack
            | Self::RollbackFailure { .. }
            | Self::Retrying
            | Self::Ignored => false,
        }
    }

    /// Whether it has not run in this firing, and left no effects.
    pub(in crate::machine) fn is_untouched(&self) -> bool {
        match self {
            Self::Pending | Self::NotInFiring | Self::Ignored => true,
            Self::Running { .. }
            | Self::Success { .. }
            | Self::Failure { .. }
            | Self::RollingBack { .. }
            | Self::RolledBack
            | Self::RollbackFailure { .. }
            | Self::Retrying => false,
        }
    }

    /// When its current attempt was dispatched, and when the next one starts, for a state with an attempt.
    pub(in crate::machine) fn times_mut(&mut self) -> (Option<&mut Timestamp>, Option<&mut Option<Timestamp>>) {
        match self {
            Self::Running { since, retry_at } | Self::RollingBack { since, retry_at, .. } => {
                (Some(since), Some(retry_at))
            }
            Self::Failure { retry_at, .. } => (None, Some(retry_at)),
            Self::Pending
            | Self::NotInFiring
            | Self::Success { .. }
            | Self::RolledBack
            | Self::RollbackFailure { .. }
            | Self::Retrying
            | Self::Ignored => (None, None),
        }
    }

    /// When its current attempt was dispatched.
    pub(in crate::machine) fn since(&self) -> Option<Timestamp> {
        self.times().0
    }

    /// When its next attempt starts.
    pub(in crate::machine) fn retry_at(&self) -> Option<Timestamp> {
        self.times().1
    }

    fn times(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        match self {
            Self::Running { since, retry_at } | Self::RollingBack { since, retry_at, .. } => (Some(*since), *retry_at),
            Self::Failure { retry_at, .. } => (None, *retry_at),
            Self::Pending
            | Self::NotInFiring
            | Self::Success { .. }
            | Self::RolledBack
            | Self::RollbackFailure { .. }
            | Self::Retrying
            | Self::Ignored => (None, None),
        }
    }

    /// The outcome of the apply that its rollback received.
    pub(in crate::machine) fn rollback_outcome(&self) -> Option<&Outcome> {
        match self {
            Self::RollingBack { outcome, .. } | Self::RollbackFailure { outcome } => Some(outcome),
            Self::Pending
            | Self::NotInFiring
            | Self::Running { .. }
            | Self::Success { .. }
            | Self::Failure { .. }
            | Self::RolledBack
            | Self::Retrying
            | Self::Ignored => None,
        }
    }

    /// The values of the node that others may read.
    pub(in crate::machine) fn readable(&self) -> Option<ReadableValues<'_>> {
        match self {
            Self::Success { provided } => Some(ReadableValues::Stored(provided)),
            Self::RollingBack { outcome, .. } => outcome.provided().map(ReadableValues::Returned),
            Self::Pending
            | Self::NotInFiring
            | Self::Running { .. }
            | Self::Failure { .. }
            | Self::RolledBack
            | Self::RollbackFailure { .. }
            | Self::Retrying
            | Self::Ignored => None,
        }
    }

    /// Whether it failed permanently or was rolled back: its failure listeners need not wait any more.
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

    /// Whether following nodes need not wait for it.
    pub(in crate::machine) fn unblocks_successors(&self) -> bool {
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

    /// Whether it delays the rollback of preceding nodes. For an ignored node, its following nodes decide that.
    pub(in crate::machine) fn delays_rollback(&self) -> bool {
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

    /// The published state.
    pub(in crate::machine) fn published(&self) -> State {
        match self {
            Self::Pending => State::Pending,
            Self::Running { .. } => State::Running,
            Self::Success { .. } => State::Success,
            Self::Failure { .. } => State::Failure,
            Self::RollingBack { .. } => State::RollingBack,
            Self::RolledBack => State::RolledBack,
            Self::RollbackFailure { .. } => State::RollbackFailure,
            Self::Retrying => State::Retrying,
            // This state is not published.
            Self::NotInFiring | Self::Ignored => State::Ignored,
        }
    }
}
