//! A clock that follows the time of the test, and can be set.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use engine::Clock;
use flow::{ClockShift, Timestamp};
use tokio::time::Instant;

/// A clock that follows the time of the test, and can be set.
pub(crate) struct PausedClock {
    start: Instant,
    /// Offset in seconds.
    set_by: AtomicI64,
}

impl PausedClock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), set_by: AtomicI64::new(0) }
    }

    /// Sets the clock, forward or back.
    pub(crate) fn set(&self, seconds: i64) {
        self.set_by.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        let by = ClockShift::from_micros(self.set_by.load(Ordering::SeqCst) * 1_000_000);
        // Late enough to be set back by days.
        Timestamp::from_micros(1_000_000_000_000).after(self.start.elapsed()).shift(by)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}
