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

    /// How long after its answer an append is written that is said to have failed; `None` where it is written before its
    /// answer, or not at all. A database that loses a connection may still commit what came over it.
    fn late_write_delay(&self) -> Option<Duration> {
        None
    }

    /// Before anything is read to go on from. An error is what the reading comes to.
    ///
    /// # Errors
    /// What the guard makes up.
    async fn before_load(&self) -> Result<(), LoadError> {
        Ok(())
    }

    /// Before records are read: what somebody else does to the logbook meanwhile.
    async fn before_read(&self) {}
}

/// A logbook with a guard.
pub struct InterceptedLogbook {
    inner: Arc<dyn Logbook>,
    interceptor: Arc<dyn AppendInterceptor>,
}

impl InterceptedLogbook {
    /// Puts a guard before a logbook.
    #[must_use]
    pub fn new(inner: Arc<dyn Logbook>, guard: Arc<dyn AppendInterceptor>) -> Self {
        Self { inner, interceptor: guard }
    }
}

#[async_trait]
impl Logbook for InterceptedLogbook {
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<AppendOutcome>, AppendError> {
        self.interceptor.before(&appends).await?;
        if let Some(delay) = self.interceptor.late_write_delay() {
            let inner = self.inner.clone();
            TaskTracker::new().spawn(async move {
                tokio::time::sleep(delay).await;
                // Nobody hears of it.
                let _ = inner.append(appends).await;
            });
            return Err(AppendError::Unavailable { reason: "its answer was lost".into() });
        }
        let appended = self.inner.append(appends).await?;
        self.interceptor.after().await?;
        Ok(appended)
    }

    async fn load(&self, run: &RunId) -> Result<History, LoadError> {
        self.interceptor.before_load().await?;
        self.inner.load(run).await
    }

    async fn read(&self, run: &RunId, after: Version, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.interceptor.before_load().await?;
        self.interceptor.before_read().await;
        self.inner.read(run, after, limit).await
    }

    async fn summary(&self, run: &RunId) -> Result<Summary, LoadError> {
        self.interceptor.before_load().await?;
        self.inner.summary(run).await
    }

    async fn open_runs(&self, shard: &Shard) -> Result<Vec<(RunId, Version)>, LoadError> {
        self.interceptor.before_load().await?;
        self.inner.open_runs(shard).await
    }

    async fn mark_published(&self, told: &[(RunId, Version)]) -> Result<(), AppendError> {
        self.inner.mark_published(told).await
    }

    async fn unpublished_runs(&self, shard: &Shard, limit: usize) -> Result<Vec<RunId>, LoadError> {
        self.interceptor.before_load().await?;
        self.inner.unpublished_runs(shard, limit).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Summary>, LoadError> {
        self.interceptor.before_load().await?;
        self.inner.list(filter).await
    }

    async fn save_snapshot(&self, run: &RunId, version: Version, snapshot: Snapshot) -> Result<(), AppendError> {
        self.inner.save_snapshot(run, version, snapshot).await
    }

    async fn trim(&self, run: &RunId, before: Version) -> Result<(), AppendError> {
        self.inner.trim(run, before).await
    }

    async fn trim_point(&self, run: &RunId) -> Result<Option<TrimPoint>, LoadError> {
        self.inner.trim_point(run).await
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

    async fn delete_ended_runs(&self, ended_before: Timestamp) -> Result<u64, AppendError> {
        self.inner.delete_ended_runs(ended_before).await
    }

    async fn digests(&self) -> Result<BTreeSet<Digest>, LoadError> {
        self.inner.digests().await
    }

    async fn check(&self) -> Result<(), AppendError> {
        self.inner.check().await
    }
}
