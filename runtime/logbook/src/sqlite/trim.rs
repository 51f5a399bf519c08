//! Trims records in the file.

use std::collections::BTreeSet;

use protocol::{DecodeError, decode_records, decode_snapshot};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params, types::Type};

use crate::{
    row::{RevisionRow, TrimPointRow},
    trim_point::TrimSummary,
};

const SNAPSHOT: &str = "SELECT key, body FROM runs JOIN snapshots ON run = key
    WHERE id = ?1 AND snapshots.version = ?2 AND published >= ?2";
const TRIMMABLE: &str = "SELECT key FROM runs JOIN snapshots ON run = key
    WHERE id = ?1 AND snapshots.version = ?2 AND published >= ?2";
const INSERT_TRIM_POINT: &str = "INSERT INTO trim_points (run, version, body)
    SELECT run, version, body FROM snapshots WHERE run = ?1
    ON CONFLICT (run) DO UPDATE SET version = excluded.version, body = excluded.body";
// An append that spans the version stays complete.
const FIRST: &str = "SELECT coalesce(max(first), 0) FROM records WHERE run = ?1 AND first <= ?2";
const CHUNKS: &str = "SELECT first, body FROM records WHERE run = ?1 ORDER BY first";
const LATER_CHUNKS: &str = "SELECT body FROM records WHERE run = ?1 AND first > ?2 ORDER BY first";
const INSERT_REVISION: &str =
    "INSERT INTO revisions (run, revision, at, edits) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
const TRIM: [&str; 3] = [
    "DELETE FROM records WHERE run = ?1 AND first < ?2",
    "DELETE FROM logs WHERE run = ?1 AND first < ?2",
    "DELETE FROM last_usages WHERE run = ?1 AND first < ?2",
];
pub(super) const EXCHANGES: &str = "SELECT exchanges FROM logs INDEXED BY logs_http
    WHERE run = ?1 AND first >= ?2 AND has_http = 1 AND exchanges IS NOT NULL";
const CONTENT: &str = "SELECT digest FROM content WHERE run = ?1";
const DELETE_CONTENT: &str = "DELETE FROM content WHERE run = ?1 AND digest = ?2";
const SELECT_TRIM_POINT: &str = "SELECT key, trim_points.version, body FROM runs
    LEFT JOIN trim_points ON run = key WHERE id = ?1";
const REVISIONS: &str = "SELECT revision, at, edits FROM revisions WHERE run = ?1 ORDER BY revision";

/// What a trim needs of the snapshot and the records of a run.
pub(super) struct PreparedTrim {
    key: i64,
    summary: TrimSummary,
    /// The version before the first record that stays.
    first: i64,
    /// The version before the last append that was read.
    last: i64,
}

/// Reads the snapshot and the records of a run, on a thread that does not write: what is stored never changes. `None` if the run is not to be
/// trimmed.
pub(super) fn prepare(connection: &mut Connection, id: &str, before: i64) -> rusqlite::Result<Option<PreparedTrim>> {
    let view = connection.transaction()?;
    let snapshot = view
        .prepare_cached(SNAPSHOT)?
        .query_row(params![id, before], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)));
    let Some((key, body)) = snapshot.optional()? else { return Ok(None) };
    let first: i64 = view.query_row(FIRST, params![key, before], |row| row.get(0))?;
    let mut summary = TrimSummary::of(&decode_snapshot(&body).map_err(damaged)?);
    let mut last = -1;
    let mut statement = view.prepare_cached(CHUNKS)?;
    let mut rows = statement.query([key])?;
    while let Some(row) = rows.next()? {
        let records = decode_records(&row.get::<_, Vec<u8>>(1)?).map_err(damaged)?;
        last = row.get(0)?;
        if last < first { summary.add_trimmed(&records) } else { summary.add_remaining(&records) }
    }
    Ok(Some(PreparedTrim { key, summary, first, last }))
}

/// Deletes the records before a version, if the run's last snapshot has this version and everything up to it was published. Appends wait only
/// for this part, which reads what was appended since the trim was prepared.
pub(super) fn trim(
    connection: &mut Connection,
    id: &str,
    before: i64,
    PreparedTrim { key, mut summary, first, last }: PreparedTrim,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = transaction.query_row(TRIMMABLE, params![id, before], |row| row.get::<_, i64>(0)).optional()?;
    if found != Some(key) {
        return Ok(());
    }
    {
        let mut statement = transaction.prepare_cached(LATER_CHUNKS)?;
        let mut rows = statement.query([key, last])?;
        while let Some(row) = rows.next()? {
            summary.add_remaining(&decode_records(&row.get::<_, Vec<u8>>(0)?).map_err(damaged)?);
        }
    }
    let mut needed: BTreeSet<Vec<u8>> = summary.digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let exchanges: Vec<Vec<u8>> = transaction
        .prepare_cached(EXCHANGES)?
        .query_map(params![key, first], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    needed.extend(exchanges);
    transaction.execute(INSERT_TRIM_POINT, [key])?;
    for entry in summary.revisions {
        let row = RevisionRow::from(entry);
        transaction.execute(INSERT_REVISION, params![key, row.revision, row.at, row.edits])?;
    }
    for delete in TRIM {
        transaction.prepare_cached(delete)?.execute(params![key, first])?;
    }
    let stored: Vec<Vec<u8>> =
        transaction.prepare_cached(CONTENT)?.query_map([key], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for digest in stored.iter().filter(|digest| !needed.contains(*digest)) {
        transaction.prepare_cached(DELETE_CONTENT)?.execute(params![key, digest])?;
    }
    transaction.commit()
}

/// Reads the trim point of a run, if the run exists.
pub(super) fn trim_point(connection: &mut Connection, id: &str) -> rusqlite::Result<Option<Option<TrimPointRow>>> {
    let view = connection.transaction()?;
    let row = view.query_row(SELECT_TRIM_POINT, [id], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)));
    let Some((key, version, body)) = row.optional()? else { return Ok(None) };
    let (Some(version), Some(body)) = (version, body) else { return Ok(Some(None)) };
    let mut statement = view.prepare_cached(REVISIONS)?;
    let revision_row =
        |row: &rusqlite::Row<'_>| Ok(RevisionRow { revision: row.get(0)?, at: row.get(1)?, edits: row.get(2)? });
    let revisions = statement.query_map([key], revision_row)?.collect::<rusqlite::Result<_>>()?;
    Ok(Some(Some((version, body, revisions))))
}

fn damaged(error: DecodeError) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, Box::new(error))
}
