//! Reads rows.

use flow::CallId;
use rusqlite::{Connection, OptionalExtension, Params, Row, ToSql, named_params, params, types::ValueRef};

use crate::{
    Filter, LogFilter, LogPosition, LogRange, MAX_COUNTED,
    log_page::{HttpPageBuilder, PageBuilder},
    row::{self, CountRow, LogRow, MAX_READ_BYTES, RecordChunk, RecordChunks, RunRow, column},
    runs_query::{self, Parameter, SQLITE, Start, Statement},
};

const RUN: &str =
    "SELECT key, id, shard, flow, state, version, started_at, changed_at, published FROM runs WHERE id = ?1";
const SNAPSHOT: &str = "SELECT version, body FROM snapshots WHERE run = ?1";
const SELECT_TRIM_VERSION: &str = "SELECT version FROM trim_points WHERE run = ?1";
// Starts with the chunk that holds the first requested record.
const CHUNKS: &str = "SELECT first, body FROM records WHERE run = ?1 AND first < ?3
    AND first >= coalesce((SELECT max(first) FROM records WHERE run = ?1 AND first <= ?2), 0) ORDER BY first";
// The length of a body is known without its content.
const SNAPSHOT_SIZE: &str = "SELECT version, length(body) FROM snapshots WHERE run = ?1";
const CHUNKS_SIZE: &str = "SELECT coalesce(sum(length(body)), 0) FROM records WHERE run = ?1 AND first < ?3
    AND first >= coalesce((SELECT max(first) FROM records WHERE run = ?1 AND first <= ?2), 0)";
const OPEN_RUNS: &str = "SELECT id, version FROM runs WHERE shard = ?1 AND state IN ('running', 'suspending')
    ORDER BY started_at, id";
const UNPUBLISHED: &str = "SELECT id FROM runs WHERE shard = ?1 AND unpublished = 1 ORDER BY key LIMIT ?2";
const LABELS: &str = "SELECT name, value FROM labels WHERE run = ?1 ORDER BY name";
pub(super) const LOGS: &str =
    "SELECT first, task, firing, attempt, action, at, worker, body, usage, number, length(body) FROM runs
    LEFT JOIN logs ON run = key AND (first, number) >= (:first, :number)
    WHERE id = :run ORDER BY first, number LIMIT :limit";
pub(super) const ATTEMPT_LOG: &str = "SELECT first, task, firing, attempt, action, at, worker, body, usage FROM runs
    LEFT JOIN logs INDEXED BY logs_attempt ON run = key AND task = ?2 AND firing = ?3 AND attempt = ?4 AND action = ?5
    WHERE id = ?1 ORDER BY first DESC, number DESC LIMIT 1";
pub(super) const LAST_USAGES: &str = "SELECT first, task, firing, attempt, action, at, worker, x'', usage FROM runs
    LEFT JOIN last_usages ON run = key WHERE id = ?1 ORDER BY task";
// The index has the logs with exchanges only, in this order. The names of the elements of a task follow its own name and a bracket. The
// body of a log that is not selected is not read.
pub(super) const HTTP_LOGS: &str = "SELECT first, task, firing, attempt, action, at, worker,
        CASE WHEN (:task IS NULL OR task = :task OR substr(task, 1, length(:task) + 1) = :task || '[')
            AND (:firing IS NULL OR firing = :firing) AND (:attempt IS NULL OR attempt = :attempt)
            AND (:action IS NULL OR action = :action) THEN body END,
        usage, number FROM runs
    LEFT JOIN logs INDEXED BY logs_http ON run = key AND has_http = 1 AND (first, number) < (:first, :number)
    WHERE id = :run ORDER BY first DESC, number DESC LIMIT :max_looked_at";
pub(super) const EXCHANGE_DIGESTS: &str = "SELECT exchanges FROM runs LEFT JOIN logs INDEXED BY logs_http
    ON run = key AND has_http = 1 AND exchanges IS NOT NULL WHERE id = ?1";
const DIGESTS: &str = "SELECT DISTINCT digest FROM content";
// The length of a body is known without its content.
const STORED_BYTES: &str = "SELECT coalesce((SELECT sum(length(body)) FROM records WHERE run = key), 0)
    + coalesce((SELECT sum(length(body)) FROM snapshots WHERE run = key), 0)
    + coalesce((SELECT sum(length(body)) FROM trim_points WHERE run = key), 0) FROM runs WHERE id = ?1";

/// The rows from which a run is loaded.
pub(super) struct RunRows {
    pub(super) run: RunRow,
    pub(super) snapshot: Option<(i64, Vec<u8>)>,
    pub(super) chunks: RecordChunks,
}

/// Some records of a run.
pub(super) struct RecordRows {
    pub(super) run: RunRow,
    /// The version after the trimmed records.
    pub(super) trim_version: i64,
    pub(super) chunks: RecordChunks,
}

/// Reads a run with its snapshot and at least this number of later records, if the run exists and has as many. They may be fewer if
/// they are large.
pub(super) fn load(connection: &mut Connection, id: &str, records: i64) -> rusqlite::Result<Option<RunRows>> {
    // One view of the file: another process may append or delete in the meantime.
    let view = connection.transaction()?;
    let Some((key, run)) = find(&view, id)? else { return Ok(None) };
    let snapshot = view.prepare_cached(SNAPSHOT)?.query_row([key], |row| Ok((row.get(0)?, row.get(1)?)));
    let snapshot: Option<(i64, Vec<u8>)> = snapshot.optional()?;
    let after = snapshot.as_ref().map_or(0, |(version, _)| *version);
    let chunks = chunks(&view, key, after, run.version.min(after.saturating_add(records)))?;
    Ok(Some(RunRows { run, snapshot, chunks }))
}

/// Reads the summary of a run, if it exists, and the bytes of what [`load`] would read.
pub(super) fn load_size(
    connection: &mut Connection,
    id: &str,
    records: i64,
) -> rusqlite::Result<Option<(RunRow, i64)>> {
    let view = connection.transaction()?;
    let Some((key, run)) = find(&view, id)? else { return Ok(None) };
    let snapshot = view.prepare_cached(SNAPSHOT_SIZE)?.query_row([key], |row| Ok((row.get(0)?, row.get(1)?)));
    let (after, snapshot): (i64, i64) = snapshot.optional()?.unwrap_or_default();
    let until = run.version.min(after.saturating_add(records));
    let chunks: i64 = view.prepare_cached(CHUNKS_SIZE)?.query_row(params![key, after, until], |row| row.get(0))?;
    Ok(Some((run, snapshot.saturating_add(chunks))))
}

/// Reads a run with the chunks that hold its records after one version and up to another, if the run exists.
pub(super) fn read(
    connection: &mut Connection,
    id: &str,
    after: i64,
    until: i64,
) -> rusqlite::Result<Option<RecordRows>> {
    let view = connection.transaction()?;
    let Some((key, run)) = find(&view, id)? else { return Ok(None) };
    let trim_version =
        view.prepare_cached(SELECT_TRIM_VERSION)?.query_row([key], |row| row.get(0)).optional()?.unwrap_or_default();
    let chunks = chunks(&view, key, after, until)?;
    Ok(Some(RecordRows { run, trim_version, chunks }))
}

/// Reads the summary of a run, if the run exists.
pub(super) fn summary(connection: &mut Connection, id: &str) -> rusqlite::Result<Option<RunRow>> {
    let view = connection.transaction()?;
    let Some((key, run)) = find(&view, id)? else { return Ok(None) };
    Ok(Some(RunRow { labels: labels(&view, key)?, ..run }))
}

/// The bytes of the records and snapshots of a run, if the run exists.
pub(super) fn stored_bytes(connection: &Connection, id: &str) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached(STORED_BYTES)?.query_row([id], |row| row.get(0)).optional()
}

pub(super) fn open_runs(connection: &Connection, shard: &str) -> rusqlite::Result<Vec<(String, i64)>> {
    connection.prepare_cached(OPEN_RUNS)?.query_map([shard], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

pub(super) fn unpublished(connection: &Connection, shard: &str, limit: i64) -> rusqlite::Result<Vec<String>> {
    connection.prepare_cached(UNPUBLISHED)?.query_map(params![shard, limit], |row| row.get(0))?.collect()
}

/// Reads the runs of a list.
pub(super) fn list(connection: &mut Connection, filter: &Filter) -> rusqlite::Result<Vec<RunRow>> {
    let view = connection.transaction()?;
    let mut parts = Vec::new();
    for start in starts(&view, filter)? {
        let rows = run(&view, &runs_query::list(filter, start, SQLITE), run_row)?;
        parts.push(
            rows.into_iter()
                .map(|(key, row)| Ok(RunRow { labels: labels(&view, key)?, ..row }))
                .collect::<rusqlite::Result<_>>()?,
        );
    }
    Ok(row::merge(parts, filter.limit))
}

/// Counts runs by flow and state.
pub(super) fn counts(
    connection: &mut Connection,
    filter: &Filter,
    max_flows: usize,
) -> rusqlite::Result<Vec<CountRow>> {
    let view = connection.transaction()?;
    let (groups, runs) = (row::max_groups(max_flows), column(MAX_COUNTED + 1));
    let statement = runs_query::counts(filter, &starts(&view, filter)?, groups, runs, SQLITE);
    run(&view, &statement, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
}

/// Where the statements start that together find the runs of a filter.
fn starts(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Start>> {
    let mut counts = Vec::new();
    if runs_query::needs_counts(filter) {
        for start in runs_query::starts(filter) {
            let counted = run(connection, &runs_query::count_of_start(filter, start, SQLITE), |row| row.get(0))?;
            counts.push((start, counted.first().copied().unwrap_or_default()));
        }
    }
    Ok(runs_query::choose(filter, &counts))
}

/// Runs a statement with its parameters.
fn run<One>(
    connection: &Connection,
    Statement { sql, parameters }: &Statement,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<One>,
) -> rusqlite::Result<Vec<One>> {
    let mut statement = connection.prepare_cached(sql)?;
    let parameters: Vec<&dyn ToSql> = parameters.iter().map(parameter).collect();
    let rows = statement.query_map(&parameters[..], read)?;
    rows.collect()
}

fn parameter(parameter: &Parameter) -> &dyn ToSql {
    match parameter {
        Parameter::Number(number) => number,
        Parameter::Text(text) => text,
    }
}

fn labels(connection: &Connection, key: i64) -> rusqlite::Result<Vec<(String, String)>> {
    connection.prepare_cached(LABELS)?.query_map([key], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Reads a page of the attempt logs of a run, if the run exists.
pub(super) fn logs(
    connection: &Connection,
    id: &str,
    range: &LogRange,
) -> rusqlite::Result<Option<PageBuilder<LogRow>>> {
    let params = named_params! {
        ":run": id,
        ":first": column(range.from.first),
        ":number": column(range.from.number),
        // One more shows whether there is a next page.
        ":limit": i64::try_from(range.limit).unwrap_or(i64::MAX).max(1).saturating_add(1),
    };
    let mut statement = connection.prepare_cached(LOGS)?;
    let mut rows = statement.query(params)?;
    let mut result = None;
    while let Some(row) = rows.next()? {
        let page = result.get_or_insert_with(|| PageBuilder::new(range));
        // A run without such rows is one row of nulls.
        if matches!(row.get_ref(0)?, ValueRef::Null) {
            continue;
        }
        let position = position(row)?;
        if !page.has_room(position) {
            break;
        }
        // The bodies of other logs are not read.
        if row.get::<_, i64>(10)? > 0 && range.selects(row.get_ref(1)?.as_str()?) {
            let log = log_row(row)?;
            page.push(position, log.body.len(), log);
        }
    }
    Ok(result)
}

/// Reads the last log of an attempt, if the run exists.
pub(super) fn attempt_log(connection: &Connection, call: &CallId) -> rusqlite::Result<Option<Vec<LogRow>>> {
    let (firing, attempt) = (column(call.firing.get()), call.attempt.get());
    let of_call = params![call.run.as_str(), call.task.as_str(), firing, attempt, call.action.as_str()];
    query_logs(connection, ATTEMPT_LOG, of_call)
}

/// Reads the last usage of each task of a run, if the run exists.
pub(super) fn last_usages(connection: &Connection, id: &str) -> rusqlite::Result<Option<Vec<LogRow>>> {
    query_logs(connection, LAST_USAGES, params![id])
}

/// Reads a page of the logs with HTTP exchanges, if the run exists.
pub(super) fn http_logs(
    connection: &Connection,
    id: &str,
    filter: &LogFilter,
) -> rusqlite::Result<Option<HttpPageBuilder<LogRow>>> {
    let LogFilter { task, firing, attempt, action, before, limit: _, max_looked_at } = filter;
    let (first, number) = before.map_or((i64::MAX, 0), |before| (column(before.first), column(before.number)));
    let params = named_params! {
        ":run": id,
        ":first": first,
        ":number": number,
        ":task": task.as_ref().map(flow::NodeName::as_str),
        ":firing": firing.map(|firing| column(firing.get())),
        ":attempt": attempt.map(flow::Attempt::get),
        ":action": action.map(flow::Action::as_str),
        // One more shows whether there is a next page.
        ":max_looked_at": i64::try_from(*max_looked_at).unwrap_or(i64::MAX).max(1).saturating_add(1),
    };
    let mut statement = connection.prepare_cached(HTTP_LOGS)?;
    let mut rows = statement.query(params)?;
    let mut result = None;
    while let Some(row) = rows.next()? {
        let page = result.get_or_insert_with(|| HttpPageBuilder::new(filter));
        // A run without such rows is one row of nulls.
        if matches!(row.get_ref(0)?, ValueRef::Null) {
            continue;
        }
        let position = position(row)?;
        if !page.has_room(position) {
            break;
        }
        if !matches!(row.get_ref(7)?, ValueRef::Null) {
            page.push(position, log_row(row)?);
        }
    }
    Ok(result)
}

/// Reads the digests of the HTTP exchanges of a run that are in the store, if the run exists.
pub(super) fn exchange_digests(connection: &Connection, id: &str) -> rusqlite::Result<Option<Vec<Vec<u8>>>> {
    query_rows(connection, EXCHANGE_DIGESTS, params![id], |row| row.get(0))
}

/// The position of a log, whose number is the tenth column.
fn position(row: &Row<'_>) -> rusqlite::Result<LogPosition> {
    let (first, number): (i64, i64) = (row.get(0)?, row.get(9)?);
    let count = |column| u64::try_from(column).unwrap_or_default();
    Ok(LogPosition { first: count(first), number: count(number) })
}

fn query_logs(connection: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<Option<Vec<LogRow>>> {
    query_rows(connection, sql, params, log_row)
}

/// Reads the rows of a run, whose first column is not null, if the run exists.
fn query_rows<One>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<One>,
) -> rusqlite::Result<Option<Vec<One>>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut result = None;
    while let Some(row) = rows.next()? {
        let found: &mut Vec<One> = result.get_or_insert_default();
        // A run without such rows is one row of nulls.
        if !matches!(row.get_ref(0)?, ValueRef::Null) {
            found.push(read(row)?);
        }
    }
    Ok(result)
}

pub(super) fn digests(connection: &Connection) -> rusqlite::Result<Vec<Vec<u8>>> {
    connection.prepare_cached(DIGESTS)?.query_map([], |row| row.get(0))?.collect()
}

fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<(i64, RunRow)>> {
    connection.prepare_cached(RUN)?.query_row([id], run_row).optional()
}

fn chunks(connection: &Connection, key: i64, after: i64, until: i64) -> rusqlite::Result<RecordChunks> {
    let mut statement = connection.prepare_cached(CHUNKS)?;
    let mut rows = statement.query(params![key, after, until])?;
    let (mut chunks, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        if bytes >= MAX_READ_BYTES {
            return Ok(RecordChunks { chunks, is_cut: true });
        }
        let chunk = RecordChunk { first: row.get(0)?, body: row.get(1)? };
        bytes += chunk.body.len();
        chunks.push(chunk);
    }
    Ok(RecordChunks { chunks, is_cut: false })
}

fn run_row(row: &Row<'_>) -> rusqlite::Result<(i64, RunRow)> {
    let run = RunRow {
        id: row.get(1)?,
        shard: row.get(2)?,
        flow: row.get(3)?,
        state: row.get(4)?,
        version: row.get(5)?,
        started_at: row.get(6)?,
        changed_at: row.get(7)?,
        published: row.get(8)?,
        labels: Vec::new(),
    };
    Ok((row.get(0)?, run))
}

fn log_row(row: &Row<'_>) -> rusqlite::Result<LogRow> {
    Ok(LogRow {
        task: row.get(1)?,
        firing: row.get(2)?,
        attempt: row.get(3)?,
        action: row.get(4)?,
        at: row.get(5)?,
        worker: row.get(6)?,
        body: row.get(7)?,
        usage: row.get(8)?,
        // Only an append uses them.
        exchanges: None,
        has_http: false,
    })
}
