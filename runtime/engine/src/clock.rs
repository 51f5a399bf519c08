//! Where time comes from: the machine itself reads no clock.

use std::time::{SystemTime, UNIX_EPOCH};

use flow::Timestamp;

/// A source of time.
pub trait Clock: Send + Sync + 'static {
    /// The time now. It may go backwards; the machine bears that.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}
