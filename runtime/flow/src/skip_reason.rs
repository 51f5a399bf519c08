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
