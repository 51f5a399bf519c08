//! A logbook whose appends and reads somebody watches over: for tests that hold them, lose them, or do something between
//! them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use flow::{Digest, Record, RunId, Shard, Snapshot, Timestamp};
use protocol::AttemptLog;
use tokio_util::task::TaskTracker;

use crate::{
    Append, AppendError, AppendOutcome, Filter, History, LoadError, Logbook, ReadError, RunLock, Summary, TrimPoint,
    Version,
};

/// Watches over the appends to a logbook, and over what is read from it.
#[async_trait]
pub trait AppendInterceptor: Send + Sync + 'static {
    /// Before anything is written. An error is what the append comes to, and nothing is written.
    ///
    /// # Errors
    /// What the guard makes up.
    async fn before(&self, appends: &[Append]) -> Result<(), AppendError>;

    /// After all is written. An error is what the append comes to all the same.
    ///
    /// # Errors
    /// What the guard makes up.
    async fn after(&self) -> Result<(), AppendError>;

    /// How long after its answer an append is written that is said to have failed; `Strip` where it is written before its
    /// answer, or not at all. A database that loses a connection may still commit what came over it.
    fn writes_late(&self) -> Option<Duration> {
        None
    }

    /// Before anything is read to go on from. An error is what the reading comes to.
    ///
    /// # Errors
    /// What the guard makes up.
    async fn reading(&self) -> Result<(), LoadError> {
        Ok(())
    }

    /// Before records are read: what somebody else does to the logbook meanwhile.
    async fn before_read(&self) {}
}

/// A logbook with a guard.
pub struct InterceptedLogbook {
    inner: Arc<dyn Logbook>,
    guard: Arc<dyn AppendInterceptor>,
}

impl InterceptedLogbook {
    /// Puts a guard before a logbook.
    #[must_use]
    pub fn new(inner: Arc<dyn Logbook>, guard: Arc<dyn AppendInterceptor>) -> Self {
        Self { inner, guard }
    }
}

#[async_trait]
impl Logbook for InterceptedLogbook {
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<AppendOutcome>, AppendError> {
        self.guard.before(&appends).await?;
        if let Some(delay) = self.guard.writes_late() {
            let inner = self.inner.clone();
            TaskTracker::new().spawn(async move {
                tokio::time::sleep(delay).await;
                // Nobody hears of it.
                let _ = inner.append(appends).await;
            });
            return Err(AppendError::Unavailable { reason: "its answer was lost".into() });
        }
        let appended = self.inner.append(appends).await?;
        self.guard.after().await?;
        Ok(appended)
    }

    async fn load(&self, run: &RunId) -> Result<History, LoadError> {
        self.guard.reading().await?;
        self.inner.load(run).await
    }

    async fn read(&self, run: &RunId, after: Version, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.guard.reading().await?;
        self.guard.before_read().await;
        self.inner.read(run, after, limit).await
    }

    async fn summary(&self, run: &RunId) -> Result<Summary, LoadError> {
        self.guard.reading().await?;
        self.inner.summary(run).await
    }

    async fn open_runs(&self, shard: &Shard) -> Result<Vec<(RunId, Version)>, LoadError> {
        self.guard.reading().await?;
        self.inner.open_runs(shard).await
    }

    async fn told(&self, told: &[(RunId, Version)]) -> Result<(), AppendError> {
        self.inner.told(told).await
    }

    async fn untold(&self, shard: &Shard, limit: usize) -> Result<Vec<RunId>, LoadError> {
        self.guard.reading().await?;
        self.inner.untold(shard, limit).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Summary>, LoadError> {
        self.guard.reading().await?;
        self.inner.list(filter).await
    }

    async fn keep_snapshot(&self, run: &RunId, version: Version, snapshot: Snapshot) -> Result<(), AppendError> {
        self.inner.keep_snapshot(run, version, snapshot).await
    }

    async fn trim(&self, run: &RunId, before: Version) -> Result<(), AppendError> {
        self.inner.trim(run, before).await
    }

    async fn beginning(&self, run: &RunId) -> Result<Option<TrimPoint>, LoadError> {
        self.inner.beginning(run).await
    }

    async fn logs(&self, run: &RunId, after: Version) -> Result<Vec<AttemptLog>, LoadError> {
        self.inner.logs(run, after).await
    }

    async fn lock_run(&self, run: &RunId) -> Result<Option<RunLock>, AppendError> {
        self.inner.lock_run(run).await
    }

    async fn run_lock_holder(&self, run: &RunId) -> Result<Option<String>, LoadError> {
        self.inner.run_lock_holder(run).await
    }

    async fn forget(&self, ended_before: Timestamp) -> Result<u64, AppendError> {
        self.inner.forget(ended_before).await
    }

    async fn digests(&self) -> Result<BTreeSet<Digest>, LoadError> {
        self.inner.digests().await
    }

    async fn check(&self) -> Result<(), AppendError> {
        self.inner.check().await
    }
}
