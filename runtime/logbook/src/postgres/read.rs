//! Reads rows. Each read of a run is one statement, which sees one state of the database. A list may take several.

use deadpool_postgres::Client;
use flow::CallId;
use tokio_postgres::{Error, Row, types::ToSql};

use crate::{
    Filter, LogFilter, LogPosition, LogRange, MAX_COUNTED,
    log_page::{HttpPageBuilder, PageBuilder},
    row::{self, CountRow, LogRow, MAX_READ_BYTES, RecordChunk, RecordChunks, RunRow, column},
    runs_query::{self, POSTGRES, Parameter, Start, Statement},
};

// The bytes of the appends before one decide whether it is read. Their sizes are known without reading them.
const LOAD: &str = "SELECT id, shard, flow, state, runs.version, started_at, changed_at, published,
        pieces.firsts, pieces.bodies, pieces.is_cut, snapshots.version, snapshots.body
    FROM waft.runs AS runs LEFT JOIN waft.snapshots AS snapshots ON snapshots.run = key
    CROSS JOIN LATERAL (
        SELECT array_agg(first ORDER BY first) FILTER (WHERE before < $3) AS firsts,
            array_agg(body ORDER BY first) FILTER (WHERE before < $3) AS bodies, bool_or(before >= $3) AS is_cut
        FROM (
            SELECT first, body, sum(octet_length(body)) OVER (ORDER BY first) - octet_length(body) AS before
            FROM waft.records WHERE run = key AND first < least(runs.version, coalesce(snapshots.version, 0) + $2)
                AND first >= coalesce((SELECT max(first) FROM waft.records
                    WHERE run = key AND first <= coalesce(snapshots.version, 0)), 0)
        ) AS sized
    ) AS pieces WHERE id = $1";
// The rows that LOAD reads.
const LOAD_SIZE: &str = "SELECT id, shard, flow, state, runs.version, started_at, changed_at, published,
        (coalesce(octet_length(snapshots.body), 0) + pieces.bytes)::bigint
    FROM waft.runs AS runs LEFT JOIN waft.snapshots AS snapshots ON snapshots.run = key
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(octet_length(body)), 0) AS bytes FROM waft.records
        WHERE run = key AND first < least(runs.version, coalesce(snapshots.version, 0) + $2)
            AND first >= coalesce((SELECT max(first) FROM waft.records
                WHERE run = key AND first <= coalesce(snapshots.version, 0)), 0)
    ) AS pieces WHERE id = $1";
const READ: &str = "SELECT id, shard, flow, state, runs.version, started_at, changed_at, published,
        pieces.firsts, pieces.bodies, pieces.is_cut, trim_points.version
    FROM waft.runs AS runs LEFT JOIN waft.trim_points AS trim_points ON trim_points.run = key
    CROSS JOIN LATERAL (
        SELECT array_agg(first ORDER BY first) FILTER (WHERE before < $4) AS firsts,
            array_agg(body ORDER BY first) FILTER (WHERE before < $4) AS bodies, bool_or(before >= $4) AS is_cut
        FROM (
            SELECT first, body, sum(octet_length(body)) OVER (ORDER BY first) - octet_length(body) AS before
            FROM waft.records WHERE run = key AND first < $3
                AND first >= coalesce((SELECT max(first) FROM waft.records WHERE run = key AND first <= $2), 0)
        ) AS sized
    ) AS pieces WHERE id = $1";
const SUMMARY: &str = "SELECT id, shard, flow, state, version, started_at, changed_at, published,
        (SELECT array_agg(name ORDER BY name) FROM waft.labels WHERE run = key),
        (SELECT array_agg(value ORDER BY name) FROM waft.labels WHERE run = key) FROM waft.runs WHERE id = $1";
const OPEN_RUNS: &str = "SELECT id, version FROM waft.runs WHERE shard = $1 AND state IN ('running', 'suspending')
    ORDER BY started_at, id";
const UNPUBLISHED: &str = "SELECT id FROM waft.runs WHERE shard = $1 AND unpublished ORDER BY key LIMIT $2";
// Adds the labels of the runs of a list.
const WITH_LABELS: &str =
    "SELECT page.id, page.shard, page.flow, page.state, page.version, page.started_at, page.changed_at,
        page.published, (SELECT array_agg(name ORDER BY name) FROM waft.labels WHERE run = page.key),
        (SELECT array_agg(value ORDER BY name) FROM waft.labels WHERE run = page.key) FROM";
// The sizes of bodies are known without the bodies, and only those on the page are read.
const LOGS: &str = "SELECT first, task, firing, attempt, action, at, worker,
        CASE WHEN bytes_before < $6 THEN selected END, usage, number
    FROM waft.runs LEFT JOIN LATERAL (
        SELECT looked_at.*, sum(coalesce(octet_length(selected), 0)) OVER (ORDER BY first, number)
            - coalesce(octet_length(selected), 0) AS bytes_before
        FROM (
            SELECT first, number, task, firing, attempt, action, at, worker, usage, CASE WHEN octet_length(body) > 0
                AND ($4::text IS NULL OR task = $4 OR starts_with(task, $4 || '[')) THEN body END AS selected
            FROM waft.logs WHERE run = key AND (first, number) >= ($2, $3) ORDER BY first, number LIMIT $5
        ) AS looked_at
    ) AS logs ON true WHERE id = $1 ORDER BY first, number";
const ATTEMPT_LOG: &str = "SELECT first, task, firing, attempt, action, at, worker, body, usage FROM waft.runs
    LEFT JOIN waft.logs ON run = key AND task = $2 AND firing = $3 AND attempt = $4 AND action = $5
    WHERE id = $1 ORDER BY first DESC, number DESC LIMIT 1";
const LAST_USAGES: &str = "SELECT first, task, firing, attempt, action, at, worker, ''::bytea, usage
    FROM waft.runs LEFT JOIN waft.last_usages ON run = key WHERE id = $1 ORDER BY task";
// The names of the elements of a task follow its own name and a bracket. Only the bodies of the first selected logs are read.
const HTTP_LOGS: &str = "SELECT first, task, firing, attempt, action, at, worker,
        CASE WHEN is_selected AND place <= $9 THEN body END, usage, number
    FROM waft.runs LEFT JOIN LATERAL (
        SELECT looked_at.*, count(*) FILTER (WHERE is_selected) OVER (ORDER BY first DESC, number DESC) AS place
        FROM (
            SELECT first, number, task, firing, attempt, action, at, worker, body, usage,
                (($4::text IS NULL OR task = $4 OR starts_with(task, $4 || '['))
                    AND ($5::bigint IS NULL OR firing = $5) AND ($6::bigint IS NULL OR attempt = $6)
                    AND ($7::text IS NULL OR action = $7)) AS is_selected
            FROM waft.logs WHERE run = key AND has_http AND (first, number) < ($2, $3)
            ORDER BY first DESC, number DESC LIMIT $8
        ) AS looked_at
    ) AS logs ON true WHERE id = $1 ORDER BY first DESC, number DESC";
const EXCHANGE_DIGESTS: &str = "SELECT first, exchanges FROM waft.runs
    LEFT JOIN waft.logs ON run = key AND has_http AND exchanges IS NOT NULL WHERE id = $1";
const DIGESTS: &str = "SELECT DISTINCT digest FROM waft.content";
const STORED_BYTES: &str = "SELECT (coalesce((SELECT sum(octet_length(body)) FROM waft.records WHERE run = key), 0)
        + coalesce((SELECT sum(octet_length(body)) FROM waft.snapshots WHERE run = key), 0)
        + coalesce((SELECT sum(octet_length(body)) FROM waft.trim_points WHERE run = key), 0))::bigint
    FROM waft.runs WHERE id = $1";
const USED_BYTES: &str = "WITH chosen AS (SELECT key FROM waft.runs WHERE flow BETWEEN $1 AND $2)
    SELECT ((SELECT coalesce(sum(octet_length(body)), 0) FROM waft.records WHERE run IN (SELECT key FROM chosen))
        + (SELECT coalesce(sum(octet_length(body)), 0) FROM waft.snapshots WHERE run IN (SELECT key FROM chosen))
        + (SELECT coalesce(sum(octet_length(body)), 0) FROM waft.trim_points WHERE run IN (SELECT key FROM chosen))
        + (SELECT coalesce(sum(octet_length(body) + coalesce(octet_length(usage), 0)), 0) FROM waft.logs WHERE run IN (SELECT key FROM chosen)))::bigint";
const USED_DIGESTS: &str = "SELECT DISTINCT digest FROM waft.content
    WHERE run IN (SELECT key FROM waft.runs WHERE flow BETWEEN $1 AND $2)";

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
pub(super) async fn load(client: &Client, id: &str, records: i64) -> Result<Option<RunRows>, Error> {
    let row = client.query_opt(&client.prepare_cached(LOAD).await?, &[&id, &records, &max_bytes()]).await?;
    let run_rows = |row: Row| {
        let snapshot: (Option<i64>, Option<Vec<u8>>) = (row.try_get(11)?, row.try_get(12)?);
        Ok(RunRows { run: run_row(&row)?, snapshot: snapshot.0.zip(snapshot.1), chunks: chunks(&row)? })
    };
    row.map(run_rows).transpose()
}

/// Reads the summary of a run, if it exists, and the bytes of what [`load`] would read.
pub(super) async fn load_size(client: &Client, id: &str, records: i64) -> Result<Option<(RunRow, i64)>, Error> {
    let row = client.query_opt(&client.prepare_cached(LOAD_SIZE).await?, &[&id, &records]).await?;
    row.map(|row| Ok((run_row(&row)?, row.try_get(8)?))).transpose()
}

/// Reads a run with the chunks that hold its records after one version and up to another, if the run exists.
pub(super) async fn read(client: &Client, id: &str, after: i64, until: i64) -> Result<Option<RecordRows>, Error> {
    let row = client.query_opt(&client.prepare_cached(READ).await?, &[&id, &after, &until, &max_bytes()]).await?;
    let record_rows = |row: Row| {
        let trim_version: Option<i64> = row.try_get(11)?;
        Ok(RecordRows { run: run_row(&row)?, trim_version: trim_version.unwrap_or_default(), chunks: chunks(&row)? })
    };
    row.map(record_rows).transpose()
}

/// Reads the summary of a run, if the run exists.
pub(super) async fn summary(client: &Client, id: &str) -> Result<Option<RunRow>, Error> {
    let row = client.query_opt(&client.prepare_cached(SUMMARY).await?, &[&id]).await?;
    row.as_ref().map(labelled_row).transpose()
}

/// The bytes of the records and snapshots of a run, if the run exists.
pub(super) async fn stored_bytes(client: &Client, id: &str) -> Result<Option<i64>, Error> {
    let row = client.query_opt(&client.prepare_cached(STORED_BYTES).await?, &[&id]).await?;
    row.map(|row| row.try_get(0)).transpose()
}

pub(super) async fn open_runs(client: &Client, shard: &str) -> Result<Vec<(String, i64)>, Error> {
    let rows = client.query(&client.prepare_cached(OPEN_RUNS).await?, &[&shard]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

pub(super) async fn unpublished(client: &Client, shard: &str, limit: i64) -> Result<Vec<String>, Error> {
    let rows = client.query(&client.prepare_cached(UNPUBLISHED).await?, &[&shard, &limit]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Reads the runs of a list.
pub(super) async fn list(client: &Client, filter: &Filter) -> Result<Vec<RunRow>, Error> {
    let mut parts = Vec::new();
    for start in starts(client, filter).await? {
        let Statement { sql, parameters } = runs_query::list(filter, start, POSTGRES);
        let sql = format!("{WITH_LABELS} ({sql}) AS page");
        let rows = run(client, &Statement { sql, parameters }).await?;
        parts.push(rows.iter().map(labelled_row).collect::<Result<_, Error>>()?);
    }
    Ok(row::merge(parts, filter.limit))
}

/// Counts runs by flow and state.
pub(super) async fn counts(client: &Client, filter: &Filter, max_flows: usize) -> Result<Vec<CountRow>, Error> {
    let (groups, runs) = (row::max_groups(max_flows), column(MAX_COUNTED + 1));
    let starts = starts(client, filter).await?;
    let rows = run(client, &runs_query::counts(filter, &starts, groups, runs, POSTGRES)).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))).collect()
}

/// Where the statements start that together find the runs of a filter.
async fn starts(client: &Client, filter: &Filter) -> Result<Vec<Start>, Error> {
    let mut counts = Vec::new();
    if runs_query::needs_counts(filter) {
        for start in runs_query::starts(filter) {
            let counted = run(client, &runs_query::count_of_start(filter, start, POSTGRES)).await?;
            counts.push((start, counted.first().map_or(Ok(0), |row| row.try_get(0))?));
        }
    }
    Ok(runs_query::choose(filter, &counts))
}

/// Runs a statement with its parameters. It is not cached: the planner sees the parameters, and a label may be rare or common.
async fn run(client: &Client, Statement { sql, parameters }: &Statement) -> Result<Vec<Row>, Error> {
    client.query(sql.as_str(), &parameters.iter().map(parameter).collect::<Vec<_>>()).await
}

pub(super) fn parameter(parameter: &Parameter) -> &(dyn ToSql + Sync) {
    match parameter {
        Parameter::Number(number) => number,
        Parameter::Text(text) => text,
    }
}

/// Reads a page of the attempt logs of a run, if the run exists.
pub(super) async fn logs(client: &Client, id: &str, range: &LogRange) -> Result<Option<PageBuilder<LogRow>>, Error> {
    let LogRange { task, from, limit, max_bytes } = range;
    let (first, number) = (column(from.first), column(from.number));
    let task = task.as_ref().map(flow::NodeName::as_str);
    // One more shows whether there is a next page.
    let limit = i64::try_from(*limit).unwrap_or(i64::MAX).max(1).saturating_add(1);
    let max_bytes = i64::try_from(*max_bytes).unwrap_or(i64::MAX).max(1);
    let statement = client.prepare_cached(LOGS).await?;
    let rows = client.query(&statement, &[&id, &first, &number, &task, &limit, &max_bytes]).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut page = PageBuilder::new(range);
    for row in &rows {
        // A run without such rows is one row of nulls.
        if row.try_get::<_, Option<i64>>(0)?.is_none() {
            continue;
        }
        let position = position(row)?;
        if !page.has_room(position) {
            break;
        }
        let bytes = row.try_get::<_, Option<&[u8]>>(7)?.map(<[u8]>::len);
        if let Some(bytes) = bytes {
            page.push(position, bytes, log_row(row)?);
        }
    }
    Ok(Some(page))
}

/// Reads the last log of an attempt, if the run exists.
pub(super) async fn attempt_log(client: &Client, call: &CallId) -> Result<Option<Vec<LogRow>>, Error> {
    let (firing, attempt) = (column(call.firing.get()), i64::from(call.attempt.get()));
    let (run, task, action) = (call.run.as_str(), call.task.as_str(), call.action.as_str());
    query_logs(client, ATTEMPT_LOG, &[&run, &task, &firing, &attempt, &action]).await
}

/// Reads the last usage of each task of a run, if the run exists.
pub(super) async fn last_usages(client: &Client, id: &str) -> Result<Option<Vec<LogRow>>, Error> {
    query_logs(client, LAST_USAGES, &[&id]).await
}

/// Reads a page of the logs with HTTP exchanges, if the run exists.
pub(super) async fn http_logs(
    client: &Client,
    id: &str,
    filter: &LogFilter,
) -> Result<Option<HttpPageBuilder<LogRow>>, Error> {
    let LogFilter { task, firing, attempt, action, before, limit, max_looked_at } = filter;
    let (first, number) = before.map_or((i64::MAX, 0), |before| (column(before.first), column(before.number)));
    let task = task.as_ref().map(flow::NodeName::as_str);
    let firing = firing.map(|firing| column(firing.get()));
    let attempt = attempt.map(|attempt| i64::from(attempt.get()));
    let action = action.map(flow::Action::as_str);
    let limit = i64::try_from(*limit).unwrap_or(i64::MAX).max(1);
    // One more shows whether there is a next page.
    let looked_at = i64::try_from(*max_looked_at).unwrap_or(i64::MAX).max(1).saturating_add(1);
    let of: [&(dyn ToSql + Sync); 9] = [&id, &first, &number, &task, &firing, &attempt, &action, &looked_at, &limit];
    let rows = client.query(&client.prepare_cached(HTTP_LOGS).await?, &of).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut page = HttpPageBuilder::new(filter);
    for row in &rows {
        // A run without such rows is one row of nulls.
        if row.try_get::<_, Option<i64>>(0)?.is_none() {
            continue;
        }
        let position = position(row)?;
        if !page.has_room(position) {
            break;
        }
        if row.try_get::<_, Option<&[u8]>>(7)?.is_some() {
            page.push(position, log_row(row)?);
        }
    }
    Ok(Some(page))
}

/// Reads the digests of the HTTP exchanges of a run that are in the store, if the run exists.
pub(super) async fn exchange_digests(client: &Client, id: &str) -> Result<Option<Vec<Vec<u8>>>, Error> {
    query_rows(client, EXCHANGE_DIGESTS, &[&id], |row| row.try_get(1)).await
}

/// The position of a log, whose number is the tenth column.
fn position(row: &Row) -> Result<LogPosition, Error> {
    let (first, number): (i64, i64) = (row.try_get(0)?, row.try_get(9)?);
    let count = |column| u64::try_from(column).unwrap_or_default();
    Ok(LogPosition { first: count(first), number: count(number) })
}

async fn query_logs(client: &Client, sql: &str, of: &[&(dyn ToSql + Sync)]) -> Result<Option<Vec<LogRow>>, Error> {
    query_rows(client, sql, of, log_row).await
}

/// Reads the rows of a run, whose first column is a number, if the run exists.
async fn query_rows<One>(
    client: &Client,
    sql: &str,
    of: &[&(dyn ToSql + Sync)],
    read: impl Fn(&Row) -> Result<One, Error>,
) -> Result<Option<Vec<One>>, Error> {
    let rows = client.query(&client.prepare_cached(sql).await?, of).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    // A run without such rows is one row of nulls.
    let mut found = Vec::new();
    for row in &rows {
        if row.try_get::<_, Option<i64>>(0)?.is_some() {
            found.push(read(row)?);
        }
    }
    Ok(Some(found))
}

pub(super) async fn digests(client: &Client) -> Result<Vec<Vec<u8>>, Error> {
    let rows = client.query(&client.prepare_cached(DIGESTS).await?, &[]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The bytes of the runs of some flows, and the digests that they refer to.
pub(super) async fn usage(client: &Client, first: &str, last: &str) -> Result<(i64, Vec<Vec<u8>>), Error> {
    let bytes = client.query_one(&client.prepare_cached(USED_BYTES).await?, &[&first, &last]).await?.try_get(0)?;
    let rows = client.query(&client.prepare_cached(USED_DIGESTS).await?, &[&first, &last]).await?;
    Ok((bytes, rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?))
}

fn run_row(row: &Row) -> Result<RunRow, Error> {
    Ok(RunRow {
        id: row.try_get(0)?,
        shard: row.try_get(1)?,
        flow: row.try_get(2)?,
        state: row.try_get(3)?,
        version: row.try_get(4)?,
        started_at: row.try_get(5)?,
        changed_at: row.try_get(6)?,
        published: row.try_get(7)?,
        labels: Vec::new(),
    })
}

/// A run with its labels, whose names and values follow the other columns. A run without labels has no arrays.
fn labelled_row(row: &Row) -> Result<RunRow, Error> {
    let (names, values): (Option<Vec<String>>, Option<Vec<String>>) = (row.try_get(8)?, row.try_get(9)?);
    let labels = names.unwrap_or_default().into_iter().zip(values.unwrap_or_default()).collect();
    Ok(RunRow { labels, ..run_row(row)? })
}

/// The chunks of a row, which follow the run's columns. A row without chunks has no array.
fn chunks(row: &Row) -> Result<RecordChunks, Error> {
    let firsts: Option<Vec<i64>> = row.try_get(8)?;
    let bodies: Option<Vec<Vec<u8>>> = row.try_get(9)?;
    let is_cut: Option<bool> = row.try_get(10)?;
    let chunks = firsts.unwrap_or_default().into_iter().zip(bodies.unwrap_or_default());
    let chunks = chunks.map(|(first, body)| RecordChunk { first, body }).collect();
    Ok(RecordChunks { chunks, is_cut: is_cut.unwrap_or_default() })
}

/// The maximum bytes of the appends that are read at once, as a column.
fn max_bytes() -> i64 {
    column(MAX_READ_BYTES as u64)
}

fn log_row(row: &Row) -> Result<LogRow, Error> {
    Ok(LogRow {
        task: row.try_get(1)?,
        firing: row.try_get(2)?,
        attempt: row.try_get(3)?,
        action: row.try_get(4)?,
        at: row.try_get(5)?,
        worker: row.try_get(6)?,
        body: row.try_get(7)?,
        usage: row.try_get(8)?,
        // Only an append uses them.
        exchanges: None,
        has_http: false,
    })
}
