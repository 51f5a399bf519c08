//! Whether the results of a task are remembered, and for how long.

use std::time::Duration;

/// For how long a namespace remembers the results of a task: a later call with the same module, task and inputs takes the
/// result and calls no guest. In each case the guest sees a fixed call, so that its result depends only on its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memo {
    /// Until newer results need its place.
    Unlimited,
    /// At most for this time, which is not zero.
    For(Duration),
    /// Not at all: each call is made, and no result is kept.
    Never,
}

impl Memo {
    /// Whether results are taken and kept.
    #[must_use]
    pub const fn remembers(self) -> bool {
        match self {
            Self::Unlimited | Self::For(_) => true,
            Self::Never => false,
        }
    }

    /// The time; `None` if it is not limited, or nothing is kept.
    #[must_use]
    pub const fn limit(self) -> Option<Duration> {
        match self {
            Self::Unlimited | Self::Never => None,
            Self::For(time) => Some(time),
        }
    }
}
