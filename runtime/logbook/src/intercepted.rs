//! A logbook with an interceptor for appends and reads: for tests that delay them, lose them, or act between them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use flow::{CallId, Digest, Namespace, RunId, Shard, Timestamp, TokenName};
use machine::{Record, Snapshot};
use protocol::{AttemptLog, EngineSecret, MemoAddress, RememberedResult};
use tokio_util::task::TaskTracker;

use crate::{
    Access, AccessToken, Append, AppendError, AppendOutcome, AuditEntry, AuditFilter, AuditPosition, Filter, History,
    LoadError, LogFilter, LogPage, LogRange, Logbook, MemoLimits, Memos, ReadError, RunCounts, RunLock, Summary,
    TrimPoint, Usage, Version,
};

/// Intercepts the appends to a logbook, and the reads from it.
#[async_trait]
pub trait AppendInterceptor: Send + Sync + 'static {
    /// Runs before anything is written. On an error nothing is written, and the append returns this error.
    ///
    /// # Errors
    /// An error that the interceptor makes up.
    async fn before(&self, appends: &[Append]) -> Result<(), AppendError>;

    /// Runs after everything is written. On an error the append still returns this error.
    ///
    /// # Errors
    /// An error that the interceptor makes up.
    async fn after(&self) -> Result<(), AppendError>;

    /// How long after a failed append its records are still written; `None` if they are written before the answer, or never.
    /// A database that loses a connection may still commit a transaction from it.
    fn late_write_delay(&self) -> Option<Duration> {
        None
    }

    /// Runs before a run is loaded. On an error the load returns this error.
    ///
    /// # Errors
    /// An error that the interceptor makes up.
    async fn before_load(&self) -> Result<(), LoadError> {
        Ok(())
    }

    /// Runs when a run is loaded. On an error the load returns this error.
    ///
    /// # Errors
    /// An error that the interceptor makes up.
    fn on_load(&self, _run: &RunId) -> Result<(), LoadError> {
        Ok(())
    }

    /// The maximum number of records that a load with a limit returns.
    fn max_loaded_records(&self) -> usize {
        usize::MAX
    }

    /// Runs before remembered results are looked up. On an error the lookup returns this error.
    ///
    /// # Errors
    /// An error that the interceptor makes up.
    async fn before_lookup(&self) -> Result<(), LoadError> {
        Ok(())
    }

    /// Runs before records are read, to change the logbook in the meantime.
    async fn before_read(&self) {}
}

/// A logbook with an interceptor.
pub struct InterceptedLogbook {
    inner: Arc<dyn Logbook>,
    interceptor: Arc<dyn AppendInterceptor>,
}

impl InterceptedLogbook {
    /// Wraps a logbook in an interceptor.
    #[must_use]
    pub fn new(inner: Arc<dyn Logbook>, interceptor: Arc<dyn AppendInterceptor>) -> Self {
        Self { inner, interceptor }
    }
}

#[async_trait]
impl Access for InterceptedLogbook {
    async fn add_token(&self, token: &AccessToken) -> Result<bool, AppendError> {
        self.inner.add_token(token).await
    }

    async fn token(&self, hash: &Digest) -> Result<Option<AccessToken>, LoadError> {
        self.inner.token(hash).await
    }

    async fn tokens(&self) -> Result<Vec<AccessToken>, LoadError> {
        self.inner.tokens().await
    }

    async fn remove_token(&self, name: &TokenName) -> Result<bool, AppendError> {
        self.inner.remove_token(name).await
    }

    async fn add_audit(&self, entries: &[AuditEntry]) -> Result<(), AppendError> {
        self.inner.add_audit(entries).await
    }

    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<(AuditPosition, AuditEntry)>, LoadError> {
        self.inner.audit(filter).await
    }

    async fn delete_audit(&self, before: Timestamp) -> Result<u64, AppendError> {
        self.inner.delete_audit(before).await
    }
}

#[async_trait]
impl Memos for InterceptedLogbook {
    async fn remembered(
        &self,
        addresses: &[MemoAddress],
        now: Timestamp,
    ) -> Result<Vec<Option<RememberedResult>>, LoadError> {
        self.interceptor.before_lookup().await?;
        self.inner.remembered(addresses, now).await
    }

    async fn trim_remembered(&self, limits: MemoLimits, now: Timestamp) -> Result<u64, AppendError> {
        self.inner.trim_remembered(limits, now).await
    }

    async fn remembered_digests(&self) -> Result<BTreeSet<Digest>, LoadError> {
        self.inner.remembered_digests().await
    }
}

#[async_trait]
impl Logbook for InterceptedLogbook {
    fn for_clients(self: Arc<Self>) -> Arc<dyn Logbook> {
        Arc::new(Self { inner: self.inner.clone().for_clients(), interceptor: self.interceptor.clone() })
    }

    async fn append(&self, appends: Vec<Append>) -> Result<Vec<AppendOutcome>, AppendError> {
        self.interceptor.before(&appends).await?;
        if let Some(delay) = self.interceptor.late_write_delay() {
            let inner = self.inner.clone();
            TaskTracker::new().spawn(async move {
                tokio::time::sleep(delay).await;
                // The caller does not receive the result.
                let _ = inner.append(appends).await;
            });
            return Err(AppendError::Unavailable { reason: "its answer was lost".into() });
        }
        let appended = self.inner.append(appends).await?;
        self.interceptor.after().await?;
        Ok(appended)
    }

    async fn load_within(&self, run: &RunId, limit: usize) -> Result<History, LoadError> {
        self.interceptor.before_load().await?;
        self.interceptor.on_load(run)?;
        let max = if limit == usize::MAX { limit } else { self.interceptor.max_loaded_records() };
        self.inner.load_within(run, limit.min(max)).await
    }

    async fn load_size(&self, run: &RunId, limit: usize) -> Result<(Summary, u64), LoadError> {
        self.interceptor.before_load().await?;
        self.inner.load_size(run, limit).await
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

    async fn mark_published(&self, versions: &[(RunId, Version)]) -> Result<(), AppendError> {
        self.inner.mark_published(versions).await
    }

    async fn unpublished_runs(&self, shard: &Shard, limit: usize) -> Result<Vec<RunId>, LoadError> {
        self.interceptor.before_load().await?;
        self.inner.unpublished_runs(shard, limit).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Summary>, LoadError> {
        self.interceptor.before_load().await?;
        self.inner.list(filter).await
    }

    async fn counts(&self, filter: &Filter, max_flows: usize) -> Result<RunCounts, LoadError> {
        self.interceptor.before_load().await?;
        self.inner.counts(filter, max_flows).await
    }

    async fn save_snapshot(&self, run: &RunId, version: Version, snapshot: Snapshot) -> Result<(), AppendError> {
        self.inner.save_snapshot(run, version, snapshot).await
    }

    async fn trim(&self, run: &RunId, before: Version) -> Result<(), AppendError> {
        self.inner.trim(run, before).await
    }

    async fn stored_bytes(&self, run: &RunId) -> Result<u64, LoadError> {
        self.interceptor.before_load().await?;
        self.inner.stored_bytes(run).await
    }

    async fn trim_point(&self, run: &RunId) -> Result<Option<TrimPoint>, LoadError> {
        self.inner.trim_point(run).await
    }

    async fn logs(&self, run: &RunId, range: &LogRange) -> Result<LogPage, LoadError> {
        self.inner.logs(run, range).await
    }

    async fn attempt_log(&self, call: &CallId) -> Result<Option<AttemptLog>, LoadError> {
        self.inner.attempt_log(call).await
    }

    async fn last_usages(&self, run: &RunId) -> Result<Vec<AttemptLog>, LoadError> {
        self.inner.last_usages(run).await
    }

    async fn http_logs(&self, run: &RunId, filter: &LogFilter) -> Result<LogPage, LoadError> {
        self.interceptor.before_load().await?;
        self.inner.http_logs(run, filter).await
    }

    async fn exchange_digests(&self, run: &RunId) -> Result<BTreeSet<Digest>, LoadError> {
        self.inner.exchange_digests(run).await
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

    async fn usage(&self, namespace: &Namespace) -> Result<Usage, LoadError> {
        self.interceptor.before_load().await?;
        self.inner.usage(namespace).await
    }

    async fn secret(&self) -> Result<EngineSecret, AppendError> {
        self.inner.secret().await
    }

    async fn check(&self) -> Result<(), AppendError> {
        self.inner.check().await
    }
}
