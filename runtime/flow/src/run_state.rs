//! The states of a run as a whole.

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunState {
    /// Not started.
    Pending,
    /// Under way.
    Running,
    /// Every node is in success or ignored.
    Success,
    /// A rollback failed permanently: only a person can settle it.
    Failure,
    /// The effects of the run were rolled back.
    RolledBack,
    /// The run is stopping; running attempts may finish.
    Suspending,
    /// Stopped with work left.
    Suspended,
}

impl RunState {
    /// Every state, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Running,
        Self::Success,
        Self::Failure,
        Self::RolledBack,
        Self::Suspending,
        Self::Suspended,
    ];

    /// The state as a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::RolledBack => "rolled-back",
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
        }
    }

    /// Whether the run has ended; a suspended one has not.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Success | Self::Failure | Self::RolledBack => true,
            Self::Pending | Self::Running | Self::Suspending | Self::Suspended => false,
        }
    }
}

impl std::fmt::Display for RunState {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(self.as_str())
    }
}
