//! Which calls a worker may have missed the withdrawal of.

use std::{fmt, sync::Arc, time::Duration};

use broker::Broker;
use flow::Timestamp;

/// By how much the clocks of a worker and an engine may differ. If they differ by more, the worker asks about each job that has just been
/// sent, or does not know of some that it should ask about.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(1);

/// The wall clock of a worker's machine. It may be wrong, and may be set.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl WallClock {
    /// A clock that shows what `now` returns.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WallClock").field(&self.now()).finish()
    }
}

/// Since when a worker has received each withdrawal.
///
/// A withdrawal goes to the workers that are connected when it is sent. So a worker has missed those from before its start, and
/// those from between the loss of a connection and the next one.
pub(crate) struct MissedWithdrawals {
    broker: Arc<dyn Broker>,
    clock: WallClock,
    /// The connections so far.
    connections: u64,
    /// When the last one existed already, by this machine's clock.
    since: Timestamp,
}

impl MissedWithdrawals {
    /// For a worker that consumes its control queue already, and has not fetched a job yet.
    pub(crate) fn from_now_on(broker: Arc<dyn Broker>, clock: WallClock) -> Self {
        let connections = broker.connections();
        let since = clock.now();
        Self { broker, clock, connections, since }
    }

    /// Whether the call of a job that has been delivered may have been withdrawn without a word to this worker.
    /// `sent_at` is by the clock of an engine. If it has not come yet by the clock of this machine, one of the two is wrong,
    /// and nothing follows from their times.
    pub(crate) fn may_include(&mut self, sent_at: Timestamp) -> bool {
        let connections = self.broker.connections();
        if connections != self.connections {
            self.connections = connections;
            self.forget_earlier();
        }
        sent_at < self.since.after(MAX_CLOCK_DIFFERENCE) || sent_at > self.clock.now().after(MAX_CLOCK_DIFFERENCE)
    }

    /// The withdrawals of jobs that were sent before now count as missed.
    pub(crate) fn forget_earlier(&mut self) {
        // If the clock was set back, the later time errs on the safe side: an engine is asked too often.
        self.since = self.since.max(self.clock.now());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use broker::{InProcess, lossy::LossyConnection};

    use super::*;

    /// A clock that can be set, in seconds.
    fn clock(start: u64) -> (Arc<AtomicU64>, WallClock) {
        let time = Arc::new(AtomicU64::new(start));
        let shown = time.clone();
        (time, WallClock::new(move || seconds(shown.load(Ordering::Relaxed))))
    }

    fn seconds(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[tokio::test]
    async fn only_jobs_from_between_the_last_connection_and_now_are_certain() {
        let broker = LossyConnection::to(&InProcess::new());
        let (time, clock) = clock(1_000);
        let mut missed = MissedWithdrawals::from_now_on(Arc::new(broker.clone()), clock);
        time.store(2_000, Ordering::Relaxed);
        assert!(missed.may_include(seconds(999)));
        assert!(missed.may_include(seconds(1_000)), "the clocks may differ by a second");
        assert!(!missed.may_include(seconds(1_001)));
        assert!(!missed.may_include(seconds(2_001)));
        assert!(missed.may_include(seconds(2_002)), "the clock of the engine was an hour ahead, and may be right now");
        broker.drop_connection().await;
        assert!(missed.may_include(seconds(1_500)), "withdrawn while there was no connection");
        time.store(2_010, Ordering::Relaxed);
        assert!(!missed.may_include(seconds(2_005)), "the time of the new connection stays");
    }
}
