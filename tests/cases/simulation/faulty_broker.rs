//! A faulty broker: it loses, duplicates or delays published messages, and the process may crash meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use broker::{
    Broker, Message, PublishError,
    lossy::{InterceptedBroker, LossyConnection, PublishInterceptor},
};
use logbook::{Append, AppendError, LoadError, intercepted::AppendInterceptor};
use tokio_util::sync::CancellationToken;

use super::rng::SeededRng;

/// The faults of the fault phase.
#[derive(Clone)]
pub(crate) struct FaultPlan {
    pub(crate) rng: SeededRng,
    pub(crate) faults_active: Arc<AtomicBool>,
    /// Cancelled to crash the process.
    pub(crate) crash: CancellationToken,
    /// The number of durable or visible actions before the process crashes.
    pub(crate) actions_left: Arc<AtomicU64>,
    pub(crate) database: Database,
}

/// The database that all engines share, with its restarts: it stops in the middle of its work. Clones share one database.
#[derive(Clone, Default)]
pub(crate) struct Database(Arc<AtomicU8>);

impl Database {
    const UP: u8 = 0;
    const STOPPING: u8 = 1;
    const DOWN: u8 = 2;

    /// Stops at once, and restarts after a delay. Until clients notice, its writes take effect and its replies are
    /// lost.
    pub(crate) async fn restart(&self, rng: &SeededRng) {
        self.0.store(Self::STOPPING, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(rng.below(300))).await;
        self.0.store(Self::DOWN, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500 + rng.below(3_000))).await;
        self.0.store(Self::UP, Ordering::Relaxed);
    }

    fn is(&self, state: u8) -> bool {
        self.0.load(Ordering::Relaxed) == state
    }
}

impl FaultPlan {
    fn fails(&self, hundredths: u64) -> bool {
        self.faults_active.load(Ordering::Relaxed) && self.rng.percent(hundredths)
    }

    /// Counts a durable or visible action; the process may crash before or after it.
    async fn count_action(&self) {
        if self.actions_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.crash().await;
        }
    }

    /// Crashes the process: no later code runs.
    async fn crash(&self) {
        self.crash.cancel();
        std::future::pending::<()>().await;
    }
}

/// One process's connection to the broker.
pub(crate) type FaultyBroker = InterceptedBroker<LossyConnection, FaultPlan>;

/// Loses, repeats and delays messages, and crashes the process around them.
#[async_trait::async_trait]
impl PublishInterceptor for FaultPlan {
    async fn publish(&self, inner: &dyn Broker, message: Message) -> Result<(), PublishError> {
        self.count_action().await;
        if self.fails(1) {
            self.crash().await;
        }
        if self.fails(30) {
            tokio::time::sleep(Duration::from_millis(self.rng.below(500))).await;
        }
        let unconfirmed = Err(PublishError::Unconfirmed { key: message.key.clone() });
        if self.fails(3) {
            return unconfirmed;
        }
        if self.fails(3) {
            inner.publish(message.clone()).await?;
        }
        inner.publish(message).await?;
        self.count_action().await;
        if self.fails(1) {
            self.crash().await;
        }
        if self.fails(3) { unconfirmed } else { Ok(()) }
    }
}

/// Makes appends fail before or after they are written, and the engine crash around them.
#[async_trait::async_trait]
impl AppendInterceptor for FaultPlan {
    async fn before(&self, _: &[Append]) -> Result<(), AppendError> {
        self.count_action().await;
        if self.fails(1) {
            self.crash().await;
        }
        if self.database.is(Database::DOWN) || self.fails(2) { Err(append_error()) } else { Ok(()) }
    }

    async fn after(&self) -> Result<(), AppendError> {
        self.count_action().await;
        if self.fails(1) {
            self.crash().await;
        }
        if self.database.is(Database::STOPPING) || self.fails(2) { Err(append_error()) } else { Ok(()) }
    }

    fn late_write_delay(&self) -> Option<Duration> {
        self.fails(1).then(|| Duration::from_millis(self.rng.below(4_000)))
    }

    /// Some runs have many records: they are read beside the driver.
    fn max_loaded_records(&self) -> usize {
        if self.fails(50) { usize::MAX } else { 3 }
    }

    async fn before_load(&self) -> Result<(), LoadError> {
        if self.database.is(Database::UP) {
            return Ok(());
        }
        Err(LoadError::Unavailable { reason: "the database is restarted".into() })
    }
}

fn append_error() -> AppendError {
    AppendError::Unavailable { reason: "planned by the simulation".into() }
}
