//! For how long the results of a task are remembered.

use std::time::Duration;

/// For how long a namespace remembers the results of a task: a later call with the same module, task and inputs takes the
/// result and calls no guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memo {
    /// Until newer results need its place.
    Unlimited,
    /// At most for this time, which is not zero.
    For(Duration),
}

impl Memo {
    /// The time; `None` if it is not limited.
    #[must_use]
    pub const fn limit(self) -> Option<Duration> {
        match self {
            Self::Unlimited => None,
            Self::For(time) => Some(time),
        }
    }
}
