//! Why a trigger fired nothing.

/// The reason why a trigger fired nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkipReason {
    /// The run had as many open firings as it may have.
    QueueFull,
    /// An earlier firing of the schedule was under way, and its `overlap` is `skip`.
    Overlap,
    /// No engine drove the run at that time, and the schedule's `missed` excludes missed times.
    Missed,
}

impl SkipReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::QueueFull, Self::Overlap, Self::Missed];

    /// The maximum number of missed times that are counted at once: counting a year of seconds would take too long.
    pub const MAX_COUNTED_MISSES: u64 = 1_000;

    /// Whether a number of triggers that were skipped for this reason may be too low.
    #[must_use]
    pub const fn is_lower_bound(self, count: u64) -> bool {
        match self {
            Self::Missed => count >= Self::MAX_COUNTED_MISSES,
            Self::QueueFull | Self::Overlap => false,
        }
    }

    /// The reason as a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "full",
            Self::Overlap => "overlap",
            Self::Missed => "missed",
        }
    }
}
