//! Sources of time: the state machine of a run reads no clock.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use flow::{ClockShift, Timestamp};

/// Interval of periodic work, such as probing shards without an owner and reading stale runs again.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// A source of time.
pub trait Clock: Send + Sync + 'static {
    /// The current wall-clock time. It may be set, forward or back.
    fn now(&self) -> Timestamp;

    /// The time since a fixed moment in the life of the process. It cannot be set.
    fn monotonic(&self) -> Duration;
}

/// Reads a clock, and detects when it was set.
pub(crate) struct ClockReader {
    /// Both times at the first reading, or when the clock was last found to be set.
    anchor: (Timestamp, Duration),
}

impl ClockReader {
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        Self { anchor: (clock.now(), clock.monotonic()) }
    }

    /// Returns the current time, and by how much the clock was set since the last reading.
    pub(crate) fn read(&mut self, clock: &dyn Clock) -> (Timestamp, Option<ClockShift>) {
        let (now, steady) = (clock.now(), clock.monotonic());
        let expected = self.anchor.0.after(steady.saturating_sub(self.anchor.1));
        let by = ClockShift::between(expected, now);
        if by.is_some() {
            self.anchor = (now, steady);
        }
        (now, by)
    }
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}
