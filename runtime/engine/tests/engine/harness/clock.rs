//! A clock that follows the time of the test, and can be set.

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use broker::{InProcess, lossy::LossyConnection};
use engine::{Clock, ShardAssignment};
use flow::{ClockShift, Timestamp};
use logbook::Logbook;
use tokio::time::Instant;

use super::{AppendFaults, Harness};

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

impl Harness {
    /// An engine whose clock begins now.
    pub(super) async fn on(
        connection: LossyConnection,
        broker: InProcess,
        logbook: Arc<dyn Logbook>,
        faults: Arc<AppendFaults>,
        id: &str,
        config: (ShardAssignment, Option<NonZeroU64>),
    ) -> Self {
        let clock = Arc::new(PausedClock::new());
        Self::with_clock(clock, connection, broker, logbook, faults, id, config).await
    }

    /// Like [`Harness::sharing_engine`], with the clock of this engine, which may have gone on while no engine ran.
    pub(crate) async fn sharing_engine_later(&self, id: &str) -> Self {
        let broker = self.broker.connect();
        let (connection, config) = (LossyConnection::to(&broker), (ShardAssignment::Shared, None));
        let (logbook, faults) = (self.logbook.clone(), self.faults.clone());
        Self::with_clock(self.clock.clone(), connection, broker, logbook, faults, id, config).await
    }
}
