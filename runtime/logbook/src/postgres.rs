//! A logbook in a PostgreSQL database, shared by several engines on several machines.
//!
//! Everything is in the schema `waft`. An engine, the clients of a server, and cleanups have a few connections each, which are
//! replaced automatically: a call whose connection is lost fails, and the next call connects again. Durability after an answer
//! depends on the server's `synchronous_commit`, which is on by default.

mod access;
mod append;
mod connection;
mod inspect;
mod lock;
mod memo;
mod pools;
mod read;
mod schema;
mod tls;
mod trim;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use deadpool_postgres::Client;
use flow::{CallId, Digest, Namespace, RunId, Shard, Timestamp};
use futures::future;
use machine::{Record, Snapshot};
use protocol::{AttemptLog, EngineSecret};
use tokio::time::timeout;
use tokio_postgres::Error;

pub(crate) use self::inspect::inspect;
pub(crate) use self::lock::SessionLock;
use self::{
    connection::Endpoint,
    pools::{Connections, Purpose},
};
use crate::{
    Append, AppendError, AppendOutcome, Filter, History, LoadError, LogFilter, LogPage, LogRange, Logbook, Memos as _,
    OpenError, ReadError, RunCounts, RunLock, Summary, TrimPoint, Usage, Version,
    decode::decode,
    row::{self, AppendRow, RunRow, column},
    run_lock,
    secret::{new_secret, read_secret},
    snapshot_body,
};

/// The server's time limit for a query about a few runs: a slower query is stuck, on a disk or a lock.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);

/// The maximum number of runs to delete in one transaction: appends to them would wait for it.
const DELETE_BATCH: usize = 500;

// Locks the run's row, so that no other connection deletes it in between.
const SAVE_SNAPSHOT: &str = "INSERT INTO waft.snapshots AS snapshots (run, version, body)
    SELECT key, $2, $3 FROM waft.runs WHERE id = $1 AND version >= $2 FOR KEY SHARE
    ON CONFLICT (run) DO UPDATE SET version = excluded.version, body = excluded.body
    WHERE excluded.version > snapshots.version";
// Skips the runs that another connection appends to at this moment: a later cleanup deletes them.
const SELECT_DELETABLE: &str = "SELECT key FROM waft.runs WHERE state IN ('success', 'rolled-back') AND changed_at < $1
    ORDER BY key LIMIT $2 FOR UPDATE SKIP LOCKED";
const DELETE_ENDED: [&str; 10] = [
    "DELETE FROM waft.records WHERE run = ANY ($1)",
    "DELETE FROM waft.snapshots WHERE run = ANY ($1)",
    "DELETE FROM waft.logs WHERE run = ANY ($1)",
    "DELETE FROM waft.last_usages WHERE run = ANY ($1)",
    "DELETE FROM waft.content WHERE run = ANY ($1)",
    "DELETE FROM waft.trim_points WHERE run = ANY ($1)",
    "DELETE FROM waft.revisions WHERE run = ANY ($1)",
    "DELETE FROM waft.labels WHERE run = ANY ($1)",
    "DELETE FROM waft.search_texts WHERE run = ANY ($1)",
    "DELETE FROM waft.runs WHERE key = ANY ($1)",
];
// Locks in the order of ids, as an append does.
const MARK_PUBLISHED: &str =
    "WITH known AS (SELECT key, id FROM waft.runs WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE)
    UPDATE waft.runs AS runs SET published = new.published, unpublished = runs.unpublished AND runs.version > new.published
    FROM known JOIN unnest($1::text[], $2::bigint[]) AS new (id, published) ON new.id = known.id
    WHERE runs.key = known.key AND runs.published < new.published AND runs.version >= new.published";
/// Another process may have made the secret first.
const KEEP_SECRET: &str = "INSERT INTO waft.secret (key, bytes) VALUES (1, $1) ON CONFLICT (key) DO NOTHING";
const SECRET: &str = "SELECT bytes FROM waft.secret WHERE key = 1";

const CHECK: &str = "INSERT INTO waft.checks AS checks (key, number) VALUES (1, 1)
    ON CONFLICT (key) DO UPDATE SET number = checks.number + 1 RETURNING number";
// The first number separates run locks from other locks; the second number is the run's.
const LOCK_RUN: &str = "SELECT pg_try_advisory_lock(hashtext('waft run'), hashtext($1))";
const NAME_SESSION: &str = "SELECT set_config('application_name', $1, false)";
// The two numbers of a lock appear there without their sign.
const LOCK_HOLDER: &str = "SELECT application_name || coalesce(' at ' || host(client_addr), '') FROM pg_locks
    JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted AND objsubid = 2
    AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND classid::bigint = hashtext('waft run')::bigint & 4294967295
    AND objid::bigint = hashtext($1)::bigint & 4294967295 LIMIT 1";
const CHECKED: &str = "SELECT number FROM waft.checks WHERE key = 1";

/// A logbook in a PostgreSQL database.
pub struct Postgres {
    connections: Arc<Connections>,
    /// Whom this handle is for.
    purpose: Purpose,
}

impl Postgres {
    /// The handle for an engine.
    fn new(connections: Connections) -> Self {
        Self { connections: Arc::new(connections), purpose: Purpose::Engine }
    }

    fn attempt_logs(&self, run: &RunId, logs: Vec<row::LogRow>) -> Result<Vec<AttemptLog>, LoadError> {
        let within = |error: LoadError| error.within(self.connections.location());
        logs.into_iter().map(|log| log.into_log(run).map_err(within)).collect()
    }

    /// Connects to the database at `postgres://user:password@host:port/database`, and creates missing tables.
    ///
    /// # Errors
    /// [`OpenError`] when the address is malformed, the database cannot be reached or written, or a newer waft wrote it. No
    /// error shows the password.
    pub async fn connect(url: &str) -> Result<Self, OpenError> {
        Self::with(connection::parse(url)?).await
    }

    async fn with(endpoint: Endpoint) -> Result<Self, OpenError> {
        Ok(Self::new(Connections::open(endpoint).await?))
    }

    /// Runs work on a connection with the query time limit. The error is a reason for people; a write may still have
    /// happened.
    async fn with_connection<Answer>(
        &self,
        work: impl AsyncFnOnce(&mut Client) -> Result<Answer, Error>,
    ) -> Result<Answer, String> {
        self.with_connection_for(self.purpose, work).await
    }

    /// Looks up a token or the summary of a run, as [`Self::with_connection`] runs work.
    async fn look_up<Answer>(
        &self,
        work: impl AsyncFnOnce(&mut Client) -> Result<Answer, Error>,
    ) -> Result<Answer, String> {
        self.with_connection_for(self.purpose.of_lookup(), work).await
    }

    async fn with_connection_for<Answer>(
        &self,
        purpose: Purpose,
        work: impl AsyncFnOnce(&mut Client) -> Result<Answer, Error>,
    ) -> Result<Answer, String> {
        let mut connection = self.connections.get(purpose).await?;
        match timeout(QUERY_TIMEOUT, work(connection.client())).await {
            Ok(result) => {
                let client = connection.end();
                result.map_err(|error| self.connections.reason_for(client, &error))
            }
            Err(_) => Err(self.connections.timed_out(connection, QUERY_TIMEOUT)),
        }
    }

    /// Runs work on a connection without a time limit, for work that grows with the whole logbook.
    async fn with_connection_unbounded<Answer>(
        &self,
        work: impl AsyncFnOnce(&mut Client) -> Result<Answer, Error>,
    ) -> Result<Answer, String> {
        let mut connection = self.connections.get(Purpose::Upkeep).await?;
        let result = work(connection.client()).await;
        let client = connection.end();
        result.map_err(|error| self.connections.reason_for(client, &error))
    }
}

/// Reads data of a run that has to exist.
async fn of_run<Data>(
    run: &RunId,
    data: impl Future<Output = Result<Option<Data>, String>>,
) -> Result<Data, LoadError> {
    data.await.map_err(load_error)?.ok_or_else(|| LoadError::Missing { run: run.clone() })
}

fn append_error(reason: String) -> AppendError {
    AppendError::Unavailable { reason }
}

fn load_error(reason: String) -> LoadError {
    LoadError::Unavailable { reason }
}

#[async_trait]
impl Logbook for Postgres {
    fn for_clients(self: Arc<Self>) -> Arc<dyn Logbook> {
        Arc::new(Self { connections: self.connections.clone(), purpose: Purpose::Clients })
    }

    async fn append(&self, appends: Vec<Append>) -> Result<Vec<AppendOutcome>, AppendError> {
        let rows: Vec<AppendRow> = appends.into_iter().map(AppendRow::from).collect();
        self.with_connection(async |client| append::append(client, &rows).await).await.map_err(append_error)
    }

    async fn load_within(&self, run: &RunId, limit: usize) -> Result<History, LoadError> {
        // The database adds the version of the snapshot.
        let records = column(limit as u64).min(i64::MAX / 2);
        let rows = self.with_connection(async |client| read::load(client, run.as_str(), records).await);
        let loaded = of_run(run, rows).await?;
        let snapshot = loaded.snapshot.as_ref().map_or(0, |(_, body)| body.len());
        let (bytes, of_run) = (snapshot + loaded.chunks.bytes(), run.clone());
        let history = move || row::history(&of_run, loaded.run, loaded.snapshot, loaded.chunks, limit);
        decode(bytes, history).await.map_err(|error| error.within(self.connections.location()))
    }

    async fn load_size(&self, run: &RunId, limit: usize) -> Result<(Summary, u64), LoadError> {
        let records = column(limit as u64).min(i64::MAX / 2);
        let found = self.with_connection(async |client| read::load_size(client, run.as_str(), records).await);
        let (found, bytes) = of_run(run, found).await?;
        Ok((found.into_summary()?, row::count(run, bytes)?))
    }

    async fn read(&self, run: &RunId, after: Version, limit: usize) -> Result<Vec<Record>, ReadError> {
        let until = after.get().saturating_add(limit as u64);
        let (first, end) = (column(after.get()), column(until));
        let rows = self.with_connection(async |client| read::read(client, run.as_str(), first, end).await);
        let read::RecordRows { run: run_row, trim_version, chunks } = of_run(run, rows).await?;
        if first < trim_version {
            return Err(row::trimmed(run, row::count(run, trim_version)?));
        }
        let until = until.min(row::count(run, run_row.version)?);
        let (bytes, of_run) = (chunks.bytes(), run.clone());
        let records = move || row::concat_chunks(&of_run, chunks, after.get(), until);
        Ok(decode(bytes, records).await.map_err(|error| error.within(self.connections.location()))?)
    }

    async fn summary(&self, run: &RunId) -> Result<Summary, LoadError> {
        of_run(run, self.look_up(async |client| read::summary(client, run.as_str()).await)).await?.into_summary()
    }

    async fn open_runs(&self, shard: &Shard) -> Result<Vec<(RunId, Version)>, LoadError> {
        let open = self.with_connection(async |client| read::open_runs(client, shard.as_str()).await).await;
        open.map_err(load_error)?.iter().map(|(id, version)| row::open_run(id, *version)).collect()
    }

    async fn mark_published(&self, versions: &[(RunId, Version)]) -> Result<(), AppendError> {
        let runs: Vec<&str> = versions.iter().map(|(run, _)| run.as_str()).collect();
        let versions: Vec<i64> = versions.iter().map(|(_, version)| column(version.get())).collect();
        let result = self.with_connection(async |client| {
            let statement = client.prepare_cached(MARK_PUBLISHED).await?;
            client.execute(&statement, &[&runs, &versions]).await
        });
        result.await.map(drop).map_err(append_error)
    }

    async fn unpublished_runs(&self, shard: &Shard, limit: usize) -> Result<Vec<RunId>, LoadError> {
        let limit = column(limit as u64);
        let ids = self.with_connection(async |client| read::unpublished(client, shard.as_str(), limit).await).await;
        ids.map_err(load_error)?.iter().map(|id| row::run_id(id)).collect()
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Summary>, LoadError> {
        let rows = self.with_connection(async |client| read::list(client, filter).await).await;
        rows.map_err(load_error)?.into_iter().map(RunRow::into_summary).collect()
    }

    async fn counts(&self, filter: &Filter, max_flows: usize) -> Result<RunCounts, LoadError> {
        let rows = self.with_connection(async |client| read::counts(client, filter, max_flows).await).await;
        row::run_counts(rows.map_err(load_error)?, max_flows)
    }

    async fn save_snapshot(&self, run: &RunId, version: Version, snapshot: Snapshot) -> Result<(), AppendError> {
        let (version, body) = (column(version.get()), snapshot_body::encode(snapshot).await?);
        let result = self.with_connection(async |client| {
            let statement = client.prepare_cached(SAVE_SNAPSHOT).await?;
            client.execute(&statement, &[&run.as_str(), &version, &body]).await
        });
        result.await.map(drop).map_err(append_error)
    }

    async fn trim(&self, run: &RunId, before: Version) -> Result<(), AppendError> {
        let before = column(before.get());
        let trimmed = self.with_connection(async |client| trim::trim(client, run.as_str(), before).await).await;
        trimmed
            .map_err(append_error)?
            .map_err(|error| append_error(format!("the records of run {run} cannot be read: {error}")))
    }

    async fn stored_bytes(&self, run: &RunId) -> Result<u64, LoadError> {
        let bytes = self.with_connection(async |client| read::stored_bytes(client, run.as_str()).await);
        row::count(run, of_run(run, bytes).await?)
    }

    async fn trim_point(&self, run: &RunId) -> Result<Option<TrimPoint>, LoadError> {
        let row =
            of_run(run, self.with_connection(async |client| trim::trim_point(client, run.as_str()).await)).await?;
        let Some(row) = row else { return Ok(None) };
        let (bytes, of_run) = (row.1.len(), run.clone());
        let trim_point = decode(bytes, move || row::trim_point(&of_run, row)).await;
        trim_point.map(Some).map_err(|error| error.within(self.connections.location()))
    }

    async fn logs(&self, run: &RunId, range: &LogRange) -> Result<LogPage, LoadError> {
        let page = of_run(run, self.with_connection(async |client| read::logs(client, run.as_str(), range).await));
        page.await?.decode(run, self.connections.location()).await
    }

    async fn attempt_log(&self, call: &CallId) -> Result<Option<AttemptLog>, LoadError> {
        let read = self.with_connection(async |client| read::attempt_log(client, call).await);
        Ok(self.attempt_logs(&call.run, of_run(&call.run, read).await?)?.pop())
    }

    async fn last_usages(&self, run: &RunId) -> Result<Vec<AttemptLog>, LoadError> {
        let read = self.with_connection(async |client| read::last_usages(client, run.as_str()).await);
        self.attempt_logs(run, of_run(run, read).await?)
    }

    async fn http_logs(&self, run: &RunId, filter: &LogFilter) -> Result<LogPage, LoadError> {
        let read = self.with_connection(async |client| read::http_logs(client, run.as_str(), filter).await);
        let page = of_run(run, read).await?;
        let (positions, logs): (Vec<_>, Vec<_>) = page.logs.into_iter().unzip();
        let logs = positions.into_iter().zip(self.attempt_logs(run, logs)?).collect();
        Ok(LogPage { logs, next: page.next })
    }

    async fn exchange_digests(&self, run: &RunId) -> Result<BTreeSet<Digest>, LoadError> {
        let read = self.with_connection(async |client| read::exchange_digests(client, run.as_str()).await);
        of_run(run, read).await?.iter().map(|digest| row::digest(digest)).collect()
    }

    async fn lock_run(&self, run: &RunId) -> Result<Option<RunLock>, AppendError> {
        let unavailable = |reason| AppendError::Unavailable { reason };
        // The lock has its own session: it ends with the session, and so with the process.
        let mut connection = self.connections.get(Purpose::Engine).await.map_err(unavailable)?;
        let response = timeout(QUERY_TIMEOUT, connection.client().query_one(LOCK_RUN, &[&run.as_str()])).await;
        match response.map(|result| result.and_then(|row| row.try_get::<_, bool>(0))) {
            Ok(Ok(true)) => {
                // The name is for processes that find the run locked; the lock works without it.
                let name = format!("waft, {}", run_lock::this_process());
                let _ = timeout(QUERY_TIMEOUT, connection.client().query_one(NAME_SESSION, &[&name])).await;
                Ok(Some(RunLock::new(Client::take(connection.end()))))
            }
            Ok(Ok(false)) => {
                drop(connection.end());
                Ok(None)
            }
            Ok(Err(error)) => Err(unavailable(self.connections.reason_for(connection.end(), &error))),
            Err(_) => Err(unavailable(self.connections.timed_out(connection, QUERY_TIMEOUT))),
        }
    }

    async fn run_lock_holder(&self, run: &RunId) -> Result<Option<String>, LoadError> {
        let unavailable = |reason| LoadError::Unavailable { reason };
        let row = self.with_connection(async |client| client.query_opt(LOCK_HOLDER, &[&run.as_str()]).await).await;
        let Some(row) = row.map_err(unavailable)? else { return Ok(None) };
        row.try_get(0).map(Some).map_err(|error| unavailable(error.to_string()))
    }

    async fn delete_ended_runs(&self, ended_before: Timestamp) -> Result<u64, AppendError> {
        let before = column(ended_before.as_micros());
        let mut total = 0;
        loop {
            let deleted = self
                .with_connection_unbounded(async |client| delete_batch(client, before).await)
                .await
                .map_err(append_error)?;
            total += deleted as u64;
            if deleted < DELETE_BATCH {
                return Ok(total);
            }
        }
    }

    async fn digests(&self) -> Result<BTreeSet<Digest>, LoadError> {
        let digests = self.with_connection_unbounded(async |client| read::digests(client).await).await;
        let (digests, remembered) = (digests.map_err(load_error)?, self.remembered_digests().await?);
        digests.iter().map(|digest| row::digest(digest)).chain(remembered.into_iter().map(Ok)).collect()
    }

    async fn usage(&self, namespace: &Namespace) -> Result<Usage, LoadError> {
        let (first, last) = row::flows_in(namespace);
        let usage = self.with_connection_unbounded(async |client| read::usage(client, &first, &last).await).await;
        let (bytes, digests) = usage.map_err(load_error)?;
        let name = namespace.as_str();
        let remembered = self.with_connection_unbounded(async |client| memo::usage(client, name).await).await;
        let (remembered_bytes, remembered) = remembered.map_err(load_error)?;
        let of_runs = digests.iter().map(|digest| row::digest(digest));
        let digests = of_runs.chain(remembered.into_iter().map(Ok)).collect::<Result<_, _>>()?;
        Ok(Usage { bytes: u64::try_from(bytes.saturating_add(remembered_bytes)).unwrap_or_default(), digests })
    }

    async fn secret(&self) -> Result<EngineSecret, AppendError> {
        let new = new_secret().map_err(append_error)?;
        let stored = self.with_connection(async |client| {
            // A logbook that is only read has its secret already.
            if let Some(row) = client.query_opt(SECRET, &[]).await? {
                return row.try_get::<_, Vec<u8>>(0);
            }
            client.execute(KEEP_SECRET, &[&&new[..]]).await?;
            client.query_one(SECRET, &[]).await?.try_get::<_, Vec<u8>>(0)
        });
        read_secret(&stored.await.map_err(append_error)?).map_err(append_error)
    }

    async fn check(&self) -> Result<(), AppendError> {
        let checked = self.with_connection(async |client| {
            let written: i64 = client.query_one(CHECK, &[]).await?.try_get(0)?;
            let read: i64 = client.query_one(CHECKED, &[]).await?.try_get(0)?;
            Ok((written, read))
        });
        let (written, read) = checked.await.map_err(append_error)?;
        // Another process may have checked in between.
        if read < written {
            let location = self.connections.location();
            return Err(append_error(format!("{location}: {written} was written, and {read} was read")));
        }
        Ok(())
    }
}

async fn delete_batch(client: &mut Client, before: i64) -> Result<usize, Error> {
    let transaction = client.transaction().await?;
    let statement = transaction.prepare_cached(SELECT_DELETABLE).await?;
    let rows = transaction.query(&statement, &[&before, &(DELETE_BATCH as i64)]).await?;
    let keys = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, Error>>()?;
    if !keys.is_empty() {
        let delete = async |sql| {
            let statement = transaction.prepare_cached(sql).await?;
            transaction.execute(&statement, &[&keys]).await
        };
        // This is separate from the locking statement, which would not see appends that committed while it waited for the
        // locks.
        future::try_join_all(DELETE_ENDED.map(delete)).await?;
    }
    transaction.commit().await?;
    Ok(keys.len())
}
