//! Appends of many callers in one transaction.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::{failure::Failure, memo};
use crate::{
    AppendOutcome, Counted, Version,
    row::{AppendRow, LogRow, UnendedRange},
};

/// The appends of one caller, which waits for the answer.
pub(super) struct AppendRequest {
    pub(super) rows: Vec<AppendRow>,
    pub(super) answer: oneshot::Sender<Result<Vec<AppendOutcome>, Failure>>,
}

const ADVANCE: &str = "UPDATE runs SET shard = ?3, state = ?4, version = ?5, changed_at = ?6,
    published = max(published, ?7), unpublished = ?8
    WHERE id = ?1 AND version = ?2 RETURNING key";
const INSERT_RUN: &str =
    "INSERT INTO runs (id, shard, flow, state, version, started_at, changed_at, published, unpublished)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING RETURNING key";
const MARK_PUBLISHED: &str = "UPDATE runs SET published = ?2, unpublished = unpublished AND version > ?2
    WHERE id = ?1 AND published < ?2 AND version >= ?2";
const UNENDED: &str = "SELECT count(*) FROM (SELECT 1 FROM runs INDEXED BY runs_unended
    WHERE flow BETWEEN ?1 AND ?2 AND state IN ('pending', 'running', 'suspending', 'suspended') LIMIT ?3)";
const IS_UNENDED: &str = "SELECT EXISTS (SELECT 1 FROM runs
    WHERE id = ?1 AND state IN ('pending', 'running', 'suspending', 'suspended'))";
const VERSION: &str = "SELECT version FROM runs WHERE id = ?1";
const RECORDS: &str = "INSERT INTO records (run, first, body) VALUES (?1, ?2, ?3)";
const LOG: &str = "INSERT INTO logs (run, first, number, task, firing, attempt, action, at, worker, body, usage,
    exchanges, has_http) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
const LAST_USAGE: &str = "INSERT INTO last_usages (run, task, first, firing, attempt, action, at, worker, usage)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (run, task) DO UPDATE SET first = excluded.first,
    firing = excluded.firing, attempt = excluded.attempt, action = excluded.action, at = excluded.at,
    worker = excluded.worker, usage = excluded.usage";
const LABEL: &str = "INSERT INTO labels (run, name, value, started_at, id) VALUES (?1, ?2, ?3, ?4, ?5)";
const SEARCH_TEXT: &str = "INSERT INTO search_texts (run, text, started_at, id) VALUES (?1, ?2, ?3, ?4)";
const CONTENT: &str = "INSERT INTO content (run, digest) VALUES (?1, ?2) ON CONFLICT DO NOTHING";

/// Writes the appends of several callers in one transaction, and answers each caller. A failure fails them all.
pub(super) fn append(connection: &mut Connection, requests: Vec<AppendRequest>) {
    if requests.is_empty() {
        return;
    }
    let (rows, answers): (Vec<_>, Vec<_>) =
        requests.into_iter().map(|AppendRequest { rows, answer }| (rows, answer)).unzip();
    let result = write_all(connection, &rows).map_err(Failure::from);
    let results = match result {
        Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
        Err(failure) => vec![Err(failure); answers.len()],
    };
    for (answer, result) in answers.into_iter().zip(results) {
        // A caller that has disconnected loads the run again and finds the written records.
        let _ = answer.send(result);
    }
}

/// Stores the published versions of some runs, in one transaction.
pub(super) fn mark_published(connection: &mut Connection, versions: &[(String, i64)]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (run, version) in versions {
        transaction.prepare_cached(MARK_PUBLISHED)?.execute(params![run, version])?;
    }
    transaction.commit()
}

fn write_all(connection: &mut Connection, requests: &[Vec<AppendRow>]) -> rusqlite::Result<Vec<Vec<AppendOutcome>>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let write_request = |rows: &Vec<AppendRow>| rows.iter().map(|row| write(&transaction, row)).collect();
    let outcomes = requests.iter().map(write_request).collect::<rusqlite::Result<_>>()?;
    transaction.commit()?;
    Ok(outcomes)
}

fn write(transaction: &Transaction<'_>, row: &AppendRow) -> rusqlite::Result<AppendOutcome> {
    if let Some(counted) = too_many_unended(transaction, row)? {
        let version = version(transaction, row)?;
        let follows = u64::try_from(row.follows).unwrap_or_default();
        return Ok(match version.get() == follows {
            true => AppendOutcome::TooManyUnended(counted),
            false => AppendOutcome::Conflict(version),
        });
    }
    let Some(key) = advance_run(transaction, row)? else {
        return Ok(AppendOutcome::Conflict(version(transaction, row)?));
    };
    transaction.prepare_cached(RECORDS)?.execute(params![key, row.follows, row.body])?;
    for (number, log) in (0_i64..).zip(&row.logs) {
        let LogRow { task, firing, attempt, action, at, worker, body, usage, exchanges, has_http } = log;
        transaction.prepare_cached(LOG)?.execute(params![
            key,
            row.follows,
            number,
            task,
            firing,
            attempt,
            action,
            at,
            worker,
            body,
            usage,
            exchanges,
            has_http
        ])?;
        if let Some(usage) = log.last_usage() {
            let columns = params![key, task, row.follows, firing, attempt, action, at, worker, usage];
            transaction.prepare_cached(LAST_USAGE)?.execute(columns)?;
        }
    }
    for digest in &row.content {
        transaction.prepare_cached(CONTENT)?.execute(params![key, digest.as_bytes()])?;
    }
    for (name, value) in row.labels.iter() {
        let columns = params![key, name.as_str(), value.as_str(), row.started_at, row.run.as_str()];
        transaction.prepare_cached(LABEL)?.execute(columns)?;
    }
    for text in &row.search_texts {
        let columns = params![key, text.as_str(), row.started_at, row.run.as_str()];
        transaction.prepare_cached(SEARCH_TEXT)?.execute(columns)?;
    }
    memo::write(transaction, &row.remembered, &row.forgotten)?;
    Ok(AppendOutcome::Durable)
}

/// The runs of which too many have not ended for this one to start, or to start again. The transaction is the only one that
/// writes, so no other run starts meanwhile.
fn too_many_unended(transaction: &Transaction<'_>, row: &AppendRow) -> rusqlite::Result<Option<Counted>> {
    if row.max_unended.is_empty()
        || transaction.prepare_cached(IS_UNENDED)?.query_row([row.run.as_str()], |row| row.get(0))?
    {
        return Ok(None);
    }
    for UnendedRange { counted, first, last, most } in &row.max_unended {
        let count: i64 =
            transaction.prepare_cached(UNENDED)?.query_row(params![first, last, most], |row| row.get(0))?;
        if count >= *most {
            return Ok(Some(*counted));
        }
    }
    Ok(None)
}

/// The version of a run, which may not exist.
fn version(transaction: &Transaction<'_>, row: &AppendRow) -> rusqlite::Result<Version> {
    let version = transaction.prepare_cached(VERSION)?.query_row([row.run.as_str()], |row| row.get::<_, i64>(0));
    let version = version.optional()?.and_then(|version| u64::try_from(version).ok());
    Ok(version.map_or(Version::NONE, Version::new))
}

/// Moves a run from the version that the append follows to the next; returns its key, or `None` if it is at another version.
fn advance_run(transaction: &Transaction<'_>, row: &AppendRow) -> rusqlite::Result<Option<i64>> {
    let AppendRow { run, info, .. } = row;
    let (run, shard, state) = (run.as_str(), info.shard.as_str(), info.state.as_str());
    let key = if row.follows == 0 {
        let columns = params![
            run,
            shard,
            info.flow.as_str(),
            state,
            row.version,
            row.started_at,
            row.changed_at,
            row.published,
            row.has_unpublished
        ];
        transaction.prepare_cached(INSERT_RUN)?.query_row(columns, |row| row.get(0))
    } else {
        let columns =
            params![run, row.follows, shard, state, row.version, row.changed_at, row.published, row.has_unpublished];
        transaction.prepare_cached(ADVANCE)?.query_row(columns, |row| row.get(0))
    };
    key.optional()
}
