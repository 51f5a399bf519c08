//! Trims records in the database.

use deadpool_postgres::{Client, Transaction};
use flow::Digest;
use futures::TryStreamExt as _;
use protocol::{DecodeError, decode_records, decode_snapshot};
use tokio::task::spawn_blocking;
use tokio_postgres::{Error, Row, types::ToSql};

use crate::{
    row::{RevisionRow, TrimPointRow},
    trim_point::{RevisionEntry, TrimSummary},
};

const SNAPSHOT: &str = "SELECT key, body FROM waft.runs AS runs JOIN waft.snapshots AS snapshots ON run = key
    WHERE id = $1 AND snapshots.version = $2 AND published >= $2";
// Locks the run's row until the trim is done: no append happens in between.
const LOCK: &str = "SELECT key FROM waft.runs AS runs JOIN waft.snapshots AS snapshots ON run = key
    WHERE id = $1 AND snapshots.version = $2 AND published >= $2 FOR NO KEY UPDATE OF runs";
const INSERT_TRIM_POINT: &str = "INSERT INTO waft.trim_points (run, version, body)
    SELECT run, version, body FROM waft.snapshots WHERE run = $1
    ON CONFLICT (run) DO UPDATE SET version = excluded.version, body = excluded.body";
// An append that spans the version stays complete.
const CHUNKS: &str = "SELECT first, body, first < coalesce((SELECT max(first) FROM waft.records
        WHERE run = $1 AND first <= $2), 0) FROM waft.records WHERE run = $1 ORDER BY first";
const LATER_CHUNKS: &str = "SELECT body FROM waft.records WHERE run = $1 AND first > $2 ORDER BY first";
const INSERT_REVISIONS: &str = "INSERT INTO waft.revisions (run, revision, at, edits)
    SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) ON CONFLICT DO NOTHING";
const TRIM: [&str; 3] = [
    "DELETE FROM waft.records WHERE run = $1 AND first < $2",
    "DELETE FROM waft.logs WHERE run = $1 AND first < $2",
    "DELETE FROM waft.last_usages WHERE run = $1 AND first < $2",
];
const DELETE_CONTENT: &str = "DELETE FROM waft.content WHERE run = $1 AND digest <> ALL ($2::bytea[])
    AND digest NOT IN (SELECT exchanges FROM waft.logs WHERE run = $1 AND has_http AND exchanges IS NOT NULL)";
const SELECT_TRIM_POINT: &str = "SELECT trim_points.version, body, revisions.revisions, revisions.at, revisions.edits
    FROM waft.runs LEFT JOIN waft.trim_points AS trim_points ON run = key CROSS JOIN LATERAL (
        SELECT array_agg(revision ORDER BY revision) AS revisions, array_agg(at ORDER BY revision) AS at,
            array_agg(edits ORDER BY revision) AS edits FROM waft.revisions WHERE run = key
    ) AS revisions WHERE id = $1";

/// Deletes the records before a version, if the run's last snapshot has this version and everything up to it was published.
/// The outer error is the database's; the inner one says that a stored record cannot be decoded.
///
/// Appends to the run wait only for the second part, which reads what was appended during the first.
pub(super) async fn trim(client: &mut Client, id: &str, before: i64) -> Result<Result<(), DecodeError>, Error> {
    let PreparedTrim { key, mut summary, first_remaining, last } = match prepare(client, id, before).await? {
        Ok(Some(prepared)) => prepared,
        Ok(None) => return Ok(Ok(())),
        Err(error) => return Ok(Err(error)),
    };
    let transaction = client.transaction().await?;
    let Some(locked) = query(&transaction, LOCK, &[&id, &before]).await?.into_iter().next() else {
        return Ok(Ok(()));
    };
    if locked.try_get::<_, i64>(0)? != key {
        return Ok(Ok(()));
    }
    for row in query(&transaction, LATER_CHUNKS, &[&key, &last]).await? {
        match decode_records(row.try_get(0)?) {
            Ok(records) => summary.add_remaining(&records),
            Err(error) => return Ok(Err(error)),
        }
    }
    query(&transaction, INSERT_TRIM_POINT, &[&key]).await?;
    insert_revisions(&transaction, key, &summary.revisions).await?;
    for delete in TRIM {
        query(&transaction, delete, &[&key, &first_remaining]).await?;
    }
    let needed: Vec<&[u8]> = summary.digests.iter().map(|digest: &Digest| digest.as_bytes().as_slice()).collect();
    query(&transaction, DELETE_CONTENT, &[&key, &needed]).await?;
    transaction.commit().await?;
    Ok(Ok(()))
}

/// What a trim needs of the snapshot and the records of a run.
struct PreparedTrim {
    key: i64,
    summary: TrimSummary,
    /// The version before the first record that stays.
    first_remaining: i64,
    /// The version before the last append that was read.
    last: i64,
}

/// Reads the snapshot and the records of a run without a lock: what is stored never changes. `None` if the run is not to be trimmed.
async fn prepare(client: &Client, id: &str, before: i64) -> Result<Result<Option<PreparedTrim>, DecodeError>, Error> {
    let statement = client.prepare_cached(SNAPSHOT).await?;
    let Some(row) = client.query_opt(&statement, &[&id, &before]).await? else { return Ok(Ok(None)) };
    let (key, body): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
    let decoding = spawn_blocking(move || decode_snapshot(&body).map(|snapshot| TrimSummary::of(&snapshot)));
    let mut summary = match decoding.await.expect("decoding does not panic") {
        Ok(summary) => summary,
        Err(error) => return Ok(Err(error)),
    };
    let (mut first_remaining, mut last) = (None, -1);
    let statement = client.prepare_cached(CHUNKS).await?;
    let rows = client.query_raw(&statement, [&key, &before]).await?;
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.try_next().await? {
        let (first, body, is_old): (i64, Vec<u8>, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let records = match decode_records(&body) {
            Ok(records) => records,
            Err(error) => return Ok(Err(error)),
        };
        if is_old {
            summary.add_trimmed(&records);
        } else {
            first_remaining.get_or_insert(first);
            summary.add_remaining(&records);
        }
        last = first;
    }
    Ok(Ok(Some(PreparedTrim { key, summary, first_remaining: first_remaining.unwrap_or(before), last })))
}

async fn insert_revisions(transaction: &Transaction<'_>, key: i64, entries: &[RevisionEntry]) -> Result<(), Error> {
    if entries.is_empty() {
        return Ok(());
    }
    let rows: Vec<RevisionRow> = entries.iter().copied().map(RevisionRow::from).collect();
    let revisions: Vec<i64> = rows.iter().map(|row| row.revision).collect();
    let at: Vec<i64> = rows.iter().map(|row| row.at).collect();
    let edits: Vec<i64> = rows.iter().map(|row| row.edits).collect();
    query(transaction, INSERT_REVISIONS, &[&key, &revisions, &at, &edits]).await.map(drop)
}

/// Reads the trim point of a run, if the run exists.
pub(super) async fn trim_point(client: &Client, id: &str) -> Result<Option<Option<TrimPointRow>>, Error> {
    let Some(row) = client.query_opt(&client.prepare_cached(SELECT_TRIM_POINT).await?, &[&id]).await? else {
        return Ok(None);
    };
    let (Some(version), Some(body)) = (row.try_get(0)?, row.try_get(1)?) else { return Ok(Some(None)) };
    let column = |index: usize| Ok::<_, Error>(row.try_get::<_, Option<Vec<i64>>>(index)?.unwrap_or_default());
    let times_and_edits = column(3)?.into_iter().zip(column(4)?);
    let revisions = column(2)?.into_iter().zip(times_and_edits);
    let revisions = revisions.map(|(revision, (at, edits))| RevisionRow { revision, at, edits }).collect();
    Ok(Some(Some((version, body, revisions))))
}

async fn query(transaction: &Transaction<'_>, sql: &str, columns: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
    let statement = transaction.prepare_cached(sql).await?;
    transaction.query(&statement, columns).await
}
