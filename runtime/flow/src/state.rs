//! The states of nodes, with the words that everyone sees.

use std::fmt;

/// The published state of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It waits.
    Pending,
    /// Its apply is with the workers.
    Running,
    /// Its apply succeeded.
    Success,
    /// Its apply failed.
    Failure,
    /// Its effects are being rolled back.
    RollingBack,
    /// Its effects were rolled back.
    RolledBack,
    /// Its rollback failed permanently.
    RollbackFailure,
    /// A condition excluded it.
    Ignored,
    /// A controller will execute again.
    Retrying,
}

impl State {
    /// Every state, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Running,
        Self::Success,
        Self::Failure,
        Self::RollingBack,
        Self::RolledBack,
        Self::RollbackFailure,
        Self::Ignored,
        Self::Retrying,
    ];

    /// The state as a word, the same in JSON, keys and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::RollingBack => "rolling-back",
            Self::RolledBack => "rolled-back",
            Self::RollbackFailure => "rollback-failure",
            Self::Ignored => "ignored",
            Self::Retrying => "retrying",
        }
    }

    /// Whether an apply or a rollback of the node is with the workers.
    #[must_use]
    pub const fn is_called(self) -> bool {
        match self {
            Self::Running | Self::RollingBack => true,
            Self::Pending
            | Self::Success
            | Self::Failure
            | Self::RolledBack
            | Self::RollbackFailure
            | Self::Ignored
            | Self::Retrying => false,
        }
    }

    /// Whether the node has effects that are not rolled back, or is about to have some.
    #[must_use]
    pub const fn has_effects(self) -> bool {
        match self {
            Self::Running | Self::Success | Self::Failure | Self::RollingBack | Self::RollbackFailure => true,
            Self::Pending | Self::Ignored | Self::RolledBack | Self::Retrying => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

/// The kind of a node, as published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A task.
    Task,
    /// A retry controller.
    Retry,
}

impl NodeKind {
    /// The kind as a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Retry => "retry",
        }
    }
}
