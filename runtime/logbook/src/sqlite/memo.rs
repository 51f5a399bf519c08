//! Remembered results in the file.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use flow::{Digest, Timestamp};
use protocol::{MemoAddress, RememberedResult};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::Sqlite;
use crate::{
    AppendError, LoadError,
    memo::{DELETE_BATCH, Excess, MemoLimits, MemoRow, Memos, RolledBackTask, digests_of, namespace_column},
    row::column,
};

const REMEMBER: &str =
    "INSERT OR REPLACE INTO remembered (namespace, key, run, task, firing, at, expires_at, size, content, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
const FORGET: &str = "DELETE FROM remembered WHERE run = ?1 AND task = ?2 AND firing = ?3 AND namespace = ?4";
const FIND: &str = "SELECT body FROM remembered WHERE namespace = ?1 AND key = ?2 AND expires_at > ?3";
const DELETE_EXPIRED: &str =
    "DELETE FROM remembered WHERE rowid IN (SELECT rowid FROM remembered WHERE expires_at <= ?1 LIMIT ?2)";
const FULL: &str = "SELECT namespace, count(*), sum(size) FROM remembered GROUP BY namespace
    HAVING count(*) > ?1 OR sum(size) > ?2 LIMIT 1";
const OLDEST: &str = "SELECT rowid, size FROM remembered WHERE namespace = ?1 ORDER BY at, rowid LIMIT ?2";
const DELETE: &str = "DELETE FROM remembered WHERE rowid = ?1";
const CONTENT: &str = "SELECT content FROM remembered WHERE content IS NOT NULL";
const BYTES: &str = "SELECT coalesce(sum(length(body)), 0) FROM remembered WHERE namespace = ?1";
const CONTENT_OF_NAMESPACE: &str = "SELECT content FROM remembered WHERE namespace = ?1 AND content IS NOT NULL";

/// Writes what an append changes.
pub(super) fn write(
    transaction: &Transaction<'_>,
    remembered: &BTreeMap<(String, [u8; 32]), MemoRow>,
    forgotten: &[RolledBackTask],
) -> rusqlite::Result<()> {
    for ((namespace, key), row) in remembered {
        let MemoRow { run, task, firing, at, expires_at, size, content, body } = row;
        let columns = params![namespace, key, run, task, firing, at, expires_at, size, content, body];
        transaction.prepare_cached(REMEMBER)?.execute(columns)?;
    }
    for RolledBackTask { namespace, run, task, firing } in forgotten {
        let columns = params![run.as_str(), task.as_str(), column(firing.get()), namespace_column(namespace.as_ref())];
        transaction.prepare_cached(FORGET)?.execute(columns)?;
    }
    Ok(())
}

/// Deletes some results that have expired, or are more than the limits allow; returns their number, which is 0 once there are
/// none.
fn trim(connection: &mut Connection, limits: MemoLimits, now: i64) -> rusqlite::Result<usize> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut deleted = transaction.prepare_cached(DELETE_EXPIRED)?.execute(params![now, DELETE_BATCH as i64])?;
    if deleted == 0 {
        let limit = params![column(limits.results), column(limits.bytes)];
        let full = transaction
            .prepare_cached(FULL)?
            .query_row(limit, |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)));
        let excess = full.optional()?.and_then(|(namespace, results, bytes)| {
            let number = |column: i64| u64::try_from(column).unwrap_or_default();
            Some((namespace, Excess::of(number(results), number(bytes), limits)?))
        });
        if let Some((namespace, excess)) = excess {
            let mut oldest = transaction.prepare_cached(OLDEST)?;
            let oldest = oldest.query_map(params![namespace, DELETE_BATCH as i64], |row| {
                Ok((row.get::<_, i64>(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or_default()))
            })?;
            for row in excess.oldest(oldest.collect::<rusqlite::Result<Vec<_>>>()?) {
                deleted += transaction.prepare_cached(DELETE)?.execute([row])?;
            }
        }
    }
    transaction.commit()?;
    Ok(deleted)
}

/// The digests of all values in the store that are remembered.
fn digests(connection: &Connection) -> rusqlite::Result<Vec<Digest>> {
    let mut statement = connection.prepare_cached(CONTENT)?;
    let content = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
    Ok(content.collect::<rusqlite::Result<Vec<_>>>()?.iter().flat_map(|content| digests_of(content)).collect())
}

/// The bytes of the results of a namespace, and the digests of their values in the store.
pub(super) fn usage(connection: &Connection, namespace: &str) -> rusqlite::Result<(i64, Vec<Digest>)> {
    let bytes = connection.prepare_cached(BYTES)?.query_row([namespace], |row| row.get(0))?;
    let mut statement = connection.prepare_cached(CONTENT_OF_NAMESPACE)?;
    let content = statement.query_map([namespace], |row| row.get::<_, Vec<u8>>(0))?;
    let content = content.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok((bytes, content.iter().flat_map(|content| digests_of(content)).collect()))
}

#[async_trait]
impl Memos for Sqlite {
    async fn remembered(
        &self,
        addresses: &[MemoAddress],
        now: Timestamp,
    ) -> Result<Vec<Option<RememberedResult>>, LoadError> {
        let now = column(now.as_micros());
        let columns = |address: &MemoAddress| (namespace_column(address.namespace.as_ref()), *address.key.as_bytes());
        let addresses: Vec<(String, [u8; 32])> = addresses.iter().map(columns).collect();
        let found = self.reader.read(move |connection| {
            let mut find = connection.prepare_cached(FIND)?;
            let mut body = |(namespace, key): &(String, [u8; 32])| {
                find.query_row(params![namespace, key, now], |row| row.get::<_, Vec<u8>>(0)).optional()
            };
            addresses.iter().map(&mut body).collect::<rusqlite::Result<Vec<_>>>()
        });
        let bodies = found.await.map_err(|failure| self.load_error(failure))?;
        Ok(bodies.into_iter().map(|body| RememberedResult::decode(&body?).ok()).collect())
    }

    async fn trim_remembered(&self, limits: MemoLimits, now: Timestamp) -> Result<u64, AppendError> {
        let now = column(now.as_micros());
        let mut total = 0;
        loop {
            let batch = self.writer.run(move |connection| trim(connection, limits, now));
            match batch.await.map_err(|failure| self.append_error(failure))? {
                0 => return Ok(total),
                deleted => total += deleted as u64,
            }
        }
    }

    async fn remembered_digests(&self) -> Result<BTreeSet<Digest>, LoadError> {
        let digests = self.reader.read(|connection| digests(connection)).await;
        Ok(digests.map_err(|failure| self.load_error(failure))?.into_iter().collect())
    }
}
