//! A logbook in one file, with SQLite.
//!
//! One thread owns the connection that writes. Other threads own connections that read: one for an engine, one for its trims, a few for
//! the clients of a server, and one for what clients only look up. So loads do not delay appends, trims and clients do not delay loads,
//! and slow reads, however many there are, delay neither the check of a token nor the summary of a run. A read of a client ends
//! after some seconds, or with its request, so that other clients have their turn. Waiting appends are written together: a commit waits
//! for the disk once, for any number of appends. Several processes of one machine may share the file; network file systems are not
//! supported.

mod access;
mod append;
mod connection;
mod failure;
mod inspect;
mod memo;
mod read;
mod schema;
mod thread;
mod trim;
mod usage;
mod write_ahead_log;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use flow::{CallId, Digest, Namespace, RunId, Shard, Timestamp};
use machine::{Record, Snapshot};
use protocol::{AttemptLog, EngineSecret};
use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

pub(crate) use self::inspect::inspect;
use self::{
    connection::{open_client_reader, open_reader, open_writer},
    failure::Failure,
    thread::ConnectionThreads,
    write_ahead_log::{MAX_LOG_BYTES, WriteAheadLog},
};
use crate::{
    Append, AppendError, AppendOutcome, Filter, History, LoadError, LogFilter, LogPage, LogRange, Logbook, Memos as _,
    OpenError, ReadError, RunCounts, RunLock, Summary, TrimPoint, Usage, Version,
    decode::decode,
    lock,
    row::{self, AppendRow, LogRow, RunRow, column},
    run_lock,
    secret::{new_secret, read_secret},
    snapshot_body,
};

/// The maximum number of runs to delete in one transaction: appends run in between.
const DELETE_BATCH: usize = 500;

/// The time limit for a read of a client. Each is about one run or a page, and takes milliseconds; a list with conditions that
/// hundreds of thousands of runs meet, but not together, may take seconds.
const CLIENT_READ_LIMIT: Duration = Duration::from_secs(10);

/// The number of threads that read for clients, as PostgreSQL has connections for them. Tokens and summaries have a thread of their own.
const CLIENT_THREADS: usize = 4;

const SAVE_SNAPSHOT: &str = "INSERT INTO snapshots (run, version, body)
    SELECT key, ?2, ?3 FROM runs WHERE id = ?1 AND version >= ?2
    ON CONFLICT (run) DO UPDATE SET version = excluded.version, body = excluded.body
    WHERE excluded.version > snapshots.version";
const DELETE_ENDED: &str = "DELETE FROM runs WHERE key IN (SELECT key FROM runs
    WHERE state IN ('success', 'rolled-back') AND changed_at < ?1 LIMIT ?2)";
/// Another process may have made the secret first.
const KEEP_SECRET: &str = "INSERT INTO secret (key, bytes) VALUES (1, ?1) ON CONFLICT (key) DO NOTHING";
const SECRET: &str = "SELECT bytes FROM secret WHERE key = 1";

const CHECK: &str = "INSERT INTO checks (key, number) VALUES (1, 1)
    ON CONFLICT (key) DO UPDATE SET number = number + 1 RETURNING number";
const CHECKED: &str = "SELECT number FROM checks WHERE key = 1";

/// The threads that read for the clients of a server.
#[derive(Clone)]
struct ClientThreads {
    reads: ConnectionThreads,
    /// Reads tokens and summaries of runs, and nothing else: no lookup waits for a slow read.
    lookups: ConnectionThreads,
}

/// A logbook in one file.
pub struct Sqlite {
    location: String,
    writer: ConnectionThreads,
    reader: ConnectionThreads,
    /// Reads what trims need. That may be all records of a long run, and other reads of an engine do not wait for it.
    trims: ConnectionThreads,
    /// Reads tokens and summaries of runs.
    lookups: ConnectionThreads,
    clients: ClientThreads,
    /// The folder of the run locks, beside the file.
    locks: PathBuf,
}

impl Sqlite {
    /// Opens a file; creates it and its folder if missing.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read and written, is not a logbook, or a newer waft wrote it.
    pub async fn open(path: PathBuf) -> Result<Self, OpenError> {
        let location = path.display().to_string();
        let path = std::path::absolute(path)
            .map_err(|error| OpenError::Unavailable { location: location.clone(), reason: error.to_string() })?;
        let file = path.clone();
        let writer = ConnectionThreads::start(&location, move || open_writer(&file)).await?;
        // The file exists now, so links to it are followed.
        let locks = lock::sibling_path(&path, ".locks");
        let file = path.clone();
        let reader = ConnectionThreads::start(&location, move || open_reader(&file)).await?;
        let file = path.clone();
        let trims = ConnectionThreads::start(&location, move || open_reader(&file)).await?;
        let log = WriteAheadLog::of(&path, MAX_LOG_BYTES);
        let open_client = move || open_client_reader(&path);
        let reads = ConnectionThreads::start_readers(&location, CLIENT_THREADS, open_client.clone()).await?;
        let lookups = ConnectionThreads::start(&location, open_client).await?;
        let reads = reads.limited(CLIENT_READ_LIMIT).emptying(log);
        let clients = ClientThreads { reads, lookups: lookups.limited(CLIENT_READ_LIMIT) };
        Ok(Self { location, writer, lookups: reader.clone(), reader, trims, clients, locks })
    }

    /// Whether a process holds the lock of a run; `None` if this cannot be determined.
    pub(crate) async fn is_run_locked(&self, run: &RunId) -> Option<bool> {
        let (locks, run) = (self.locks.clone(), run.clone());
        tokio::task::spawn_blocking(move || run_lock::is_locked(&locks, &run)).await.ok()?.ok()
    }

    fn append_error(&self, failure: Failure) -> AppendError {
        AppendError::Unavailable { reason: format!("{}: {failure}", self.location) }
    }

    fn load_error(&self, failure: Failure) -> LoadError {
        LoadError::Unavailable { reason: format!("{}: {failure}", self.location) }
    }

    fn attempt_logs(&self, run: &RunId, logs: Vec<LogRow>) -> Result<Vec<AttemptLog>, LoadError> {
        logs.into_iter().map(|log| log.into_log(run).map_err(|error| error.within(&self.location))).collect()
    }

    /// Reads data of a run.
    async fn of_run<Data, Work>(&self, run: &RunId, work: Work) -> Result<Data, LoadError>
    where
        Data: Send + 'static,
        Work: FnOnce(&mut rusqlite::Connection, &str) -> rusqlite::Result<Option<Data>> + Send + 'static,
    {
        self.of_run_by(&self.reader, run, work).await
    }

    /// Reads data of a run with a thread.
    async fn of_run_by<Data, Work>(
        &self,
        thread: &ConnectionThreads,
        run: &RunId,
        work: Work,
    ) -> Result<Data, LoadError>
    where
        Data: Send + 'static,
        Work: FnOnce(&mut rusqlite::Connection, &str) -> rusqlite::Result<Option<Data>> + Send + 'static,
    {
        let id = run.clone();
        let result = thread.read(move |connection| work(connection, id.as_str())).await;
        let data = result.map_err(|failure| match failure {
            Failure::Damaged(reason) => row::damaged(run, format!("{}: {reason}", self.location)),
            Failure::Unavailable(_) => self.load_error(failure),
        })?;
        data.ok_or_else(|| LoadError::Missing { run: run.clone() })
    }
}

#[async_trait]
impl Logbook for Sqlite {
    fn for_clients(self: Arc<Self>) -> Arc<dyn Logbook> {
        let (writer, clients, trims) = (self.writer.clone(), self.clients.clone(), self.trims.clone());
        let (location, locks) = (self.location.clone(), self.locks.clone());
        let ClientThreads { reads, lookups } = clients.clone();
        Arc::new(Self { location, writer, reader: reads, trims, lookups, clients, locks })
    }

    async fn append(&self, appends: Vec<Append>) -> Result<Vec<AppendOutcome>, AppendError> {
        // Encoded here, so that the one thread only writes.
        let rows = appends.into_iter().map(AppendRow::from).collect();
        self.writer.append(rows).await.map_err(|failure| self.append_error(failure))
    }

    async fn load_within(&self, run: &RunId, limit: usize) -> Result<History, LoadError> {
        let records = column(limit as u64);
        let loaded = self.of_run(run, move |connection, id| read::load(connection, id, records)).await?;
        let snapshot = loaded.snapshot.as_ref().map_or(0, |(_, body)| body.len());
        let (bytes, of_run) = (snapshot + loaded.chunks.bytes(), run.clone());
        let history = move || row::history(&of_run, loaded.run, loaded.snapshot, loaded.chunks, limit);
        decode(bytes, history).await.map_err(|error| error.within(&self.location))
    }

    async fn load_size(&self, run: &RunId, limit: usize) -> Result<(Summary, u64), LoadError> {
        let records = column(limit as u64);
        let (found, bytes) = self.of_run(run, move |connection, id| read::load_size(connection, id, records)).await?;
        Ok((found.into_summary()?, row::count(run, bytes)?))
    }

    async fn read(&self, run: &RunId, after: Version, limit: usize) -> Result<Vec<Record>, ReadError> {
        let until = after.get().saturating_add(limit as u64);
        let (first, end) = (column(after.get()), column(until));
        let rows = self.of_run(run, move |connection, id| read::read(connection, id, first, end)).await?;
        let read::RecordRows { run: run_row, trim_version, chunks } = rows;
        if first < trim_version {
            return Err(row::trimmed(run, row::count(run, trim_version)?));
        }
        let until = until.min(row::count(run, run_row.version)?);
        let (bytes, of_run) = (chunks.bytes(), run.clone());
        let records = move || row::concat_chunks(&of_run, chunks, after.get(), until);
        Ok(decode(bytes, records).await.map_err(|error| error.within(&self.location))?)
    }

    async fn summary(&self, run: &RunId) -> Result<Summary, LoadError> {
        self.of_run_by(&self.lookups, run, read::summary).await?.into_summary()
    }

    async fn open_runs(&self, shard: &Shard) -> Result<Vec<(RunId, Version)>, LoadError> {
        let shard = shard.clone();
        let open = self.reader.read(move |connection| read::open_runs(connection, shard.as_str())).await;
        let open = open.map_err(|failure| self.load_error(failure))?;
        open.iter().map(|(id, version)| row::open_run(id, *version)).collect()
    }

    async fn mark_published(&self, versions: &[(RunId, Version)]) -> Result<(), AppendError> {
        let versions: Vec<_> = versions.iter().map(|(run, version)| (run.to_string(), column(version.get()))).collect();
        let result = self.writer.run(move |connection| append::mark_published(connection, &versions)).await;
        result.map_err(|failure| self.append_error(failure))
    }

    async fn unpublished_runs(&self, shard: &Shard, limit: usize) -> Result<Vec<RunId>, LoadError> {
        let (shard, limit) = (shard.clone(), column(limit as u64));
        let ids = self.reader.read(move |connection| read::unpublished(connection, shard.as_str(), limit)).await;
        ids.map_err(|failure| self.load_error(failure))?.iter().map(|id| row::run_id(id)).collect()
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Summary>, LoadError> {
        let filter = filter.clone();
        let rows = self.reader.read(move |connection| read::list(connection, &filter)).await;
        rows.map_err(|failure| self.load_error(failure))?.into_iter().map(RunRow::into_summary).collect()
    }

    async fn counts(&self, filter: &Filter, max_flows: usize) -> Result<RunCounts, LoadError> {
        let filter = filter.clone();
        let rows = self.reader.read(move |connection| read::counts(connection, &filter, max_flows)).await;
        row::run_counts(rows.map_err(|failure| self.load_error(failure))?, max_flows)
    }

    async fn save_snapshot(&self, run: &RunId, version: Version, snapshot: Snapshot) -> Result<(), AppendError> {
        let (run, version, body) = (run.clone(), column(version.get()), snapshot_body::encode(snapshot).await?);
        let result = self.writer.run(move |connection| {
            connection.prepare_cached(SAVE_SNAPSHOT)?.execute(params![run.as_str(), version, body])
        });
        result.await.map(drop).map_err(|failure| self.append_error(failure))
    }

    async fn trim(&self, run: &RunId, before: Version) -> Result<(), AppendError> {
        let (id, run, before) = (run.clone(), run.clone(), column(before.get()));
        let prepared = self.trims.read(move |connection| trim::prepare(connection, id.as_str(), before)).await;
        let Some(prepared) = prepared.map_err(|failure| self.append_error(failure))? else { return Ok(()) };
        let trimmed = self.writer.run(move |connection| trim::trim(connection, run.as_str(), before, prepared)).await;
        trimmed.map_err(|failure| self.append_error(failure))
    }

    async fn stored_bytes(&self, run: &RunId) -> Result<u64, LoadError> {
        row::count(run, self.of_run(run, |connection, id| read::stored_bytes(connection, id)).await?)
    }

    async fn trim_point(&self, run: &RunId) -> Result<Option<TrimPoint>, LoadError> {
        let row = self.of_run(run, trim::trim_point).await?;
        let Some(row) = row else { return Ok(None) };
        let (bytes, of_run) = (row.1.len(), run.clone());
        let trim_point = decode(bytes, move || row::trim_point(&of_run, row)).await;
        trim_point.map(Some).map_err(|error| error.within(&self.location))
    }

    async fn logs(&self, run: &RunId, range: &LogRange) -> Result<LogPage, LoadError> {
        let range = range.clone();
        let page = self.of_run(run, move |connection, id| read::logs(connection, id, &range)).await?;
        page.decode(run, &self.location).await
    }

    async fn attempt_log(&self, call: &CallId) -> Result<Option<AttemptLog>, LoadError> {
        let of_call = call.clone();
        let logs = self.of_run(&call.run, move |connection, _| read::attempt_log(connection, &of_call)).await?;
        Ok(self.attempt_logs(&call.run, logs)?.pop())
    }

    async fn last_usages(&self, run: &RunId) -> Result<Vec<AttemptLog>, LoadError> {
        let logs = self.of_run(run, |connection, id| read::last_usages(connection, id)).await?;
        self.attempt_logs(run, logs)
    }

    async fn http_logs(&self, run: &RunId, filter: &LogFilter) -> Result<LogPage, LoadError> {
        let filter = filter.clone();
        let page = self.of_run(run, move |connection, id| read::http_logs(connection, id, &filter)).await?;
        let (positions, logs): (Vec<_>, Vec<_>) = page.logs.into_iter().unzip();
        let logs = positions.into_iter().zip(self.attempt_logs(run, logs)?).collect();
        Ok(LogPage { logs, next: page.next })
    }

    async fn exchange_digests(&self, run: &RunId) -> Result<BTreeSet<Digest>, LoadError> {
        let digests = self.of_run(run, |connection, id| read::exchange_digests(connection, id)).await?;
        digests.iter().map(|digest| row::digest(digest)).collect()
    }

    async fn lock_run(&self, run: &RunId) -> Result<Option<RunLock>, AppendError> {
        let locked = run_lock::lock_file(&self.locks, run);
        locked.map_err(|error| AppendError::Unavailable { reason: format!("{}: {error}", self.locks.display()) })
    }

    async fn run_lock_holder(&self, run: &RunId) -> Result<Option<String>, LoadError> {
        let held = run_lock::holder(&self.locks, run);
        held.map_err(|error| LoadError::Unavailable { reason: format!("{}: {error}", self.locks.display()) })
    }

    async fn delete_ended_runs(&self, ended_before: Timestamp) -> Result<u64, AppendError> {
        let before = column(ended_before.as_micros());
        let mut total = 0;
        loop {
            let batch = self.writer.run(move |connection| {
                connection.prepare_cached(DELETE_ENDED)?.execute(params![before, DELETE_BATCH as i64])
            });
            let deleted = batch.await.map_err(|failure| self.append_error(failure))?;
            total += deleted as u64;
            if deleted < DELETE_BATCH {
                return Ok(total);
            }
        }
    }

    async fn digests(&self) -> Result<BTreeSet<Digest>, LoadError> {
        let remembered = self.remembered_digests().await?;
        let digests = self.reader.read(|connection| read::digests(connection)).await;
        let digests = digests.map_err(|failure| self.load_error(failure))?;
        digests.iter().map(|digest| row::digest(digest)).chain(remembered.into_iter().map(Ok)).collect()
    }

    async fn usage(&self, namespace: &Namespace) -> Result<Usage, LoadError> {
        let (first, last) = row::flows_in(namespace);
        let mut usage = self.usage_between(first, last).await?;
        let namespace = namespace.to_string();
        let remembered = self.reader.read(move |connection| memo::usage(connection, &namespace)).await;
        let (bytes, digests) = remembered.map_err(|failure| self.load_error(failure))?;
        usage.bytes += u64::try_from(bytes).unwrap_or_default();
        usage.digests.extend(digests);
        Ok(usage)
    }

    async fn secret(&self) -> Result<EngineSecret, AppendError> {
        let unavailable = |reason| AppendError::Unavailable { reason: format!("{}: {reason}", self.location) };
        // A logbook that is only read has its secret already.
        let known =
            self.reader.read(|connection| connection.query_row(SECRET, [], |row| row.get::<_, Vec<u8>>(0)).optional());
        if let Some(known) = known.await.map_err(|failure| self.append_error(failure))? {
            return read_secret(&known).map_err(unavailable);
        }
        let new = new_secret().map_err(unavailable)?;
        let stored = self.writer.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute(KEEP_SECRET, [&new[..]])?;
            let stored: Vec<u8> = transaction.query_row(SECRET, [], |row| row.get(0))?;
            transaction.commit()?;
            Ok(stored)
        });
        let stored = stored.await.map_err(|failure| self.append_error(failure))?;
        read_secret(&stored).map_err(unavailable)
    }

    async fn check(&self) -> Result<(), AppendError> {
        let written = self.writer.run(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let number: i64 = transaction.query_row(CHECK, [], |row| row.get(0))?;
            transaction.commit()?;
            Ok(number)
        });
        let written = written.await.map_err(|failure| self.append_error(failure))?;
        let read = self.reader.read(|connection| connection.query_row(CHECKED, [], |row| row.get::<_, i64>(0))).await;
        let read = read.map_err(|failure| self.append_error(failure))?;
        // Another process may have checked in between.
        if read < written {
            let reason = format!("{}: {written} was written, and {read} was read", self.location);
            return Err(AppendError::Unavailable { reason });
        }
        Ok(())
    }
}
