//! Remembered results in the database.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use deadpool_postgres::{Client, Transaction};
use flow::{Digest, Timestamp};
use protocol::{MemoAddress, RememberedResult};
use tokio_postgres::Error;

use super::{Postgres, append_error, load_error};
use crate::{
    AppendError, LoadError,
    memo::{DELETE_BATCH, Excess, MemoLimits, MemoRow, Memos, RolledBackTask, digests_of, namespace_column},
    row::column,
};

// Appends that only remember write the rows in the order of their keys, so they cannot deadlock. One that forgets finds its rows by
// their run, so it waits for the others, and they wait for it.
const LOCK_TO_REMEMBER: &str = "SELECT pg_advisory_xact_lock_shared(hashtext('waft remembered'), 0)";
const LOCK_TO_FORGET: &str = "SELECT pg_advisory_xact_lock(hashtext('waft remembered'), 0)";
const REMEMBER: &str = "INSERT INTO waft.remembered AS known
        (namespace, key, run, task, firing, at, expires_at, size, content, body)
    SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
            $8::bigint[], $9::bytea[], $10::bytea[])
        AS new (namespace, key, run, task, firing, at, expires_at, size, content, body)
        ORDER BY new.namespace COLLATE \"C\", new.key
    ON CONFLICT (namespace, key) DO UPDATE SET run = excluded.run, task = excluded.task, firing = excluded.firing,
        at = excluded.at, expires_at = excluded.expires_at, size = excluded.size, content = excluded.content,
        body = excluded.body";
const FORGET: &str = "DELETE FROM waft.remembered USING unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
        AS gone (run, task, firing, namespace)
    WHERE remembered.run = gone.run AND remembered.task = gone.task AND remembered.firing = gone.firing
        AND remembered.namespace = gone.namespace";
const FIND: &str = "SELECT wanted.position, remembered.body
    FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS wanted (namespace, key, position)
    JOIN waft.remembered USING (namespace, key) WHERE remembered.expires_at > $3";
// A row that an append writes is left to the next time.
const DELETE_EXPIRED: &str = "DELETE FROM waft.remembered WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM waft.remembered WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED))";
const FULL: &str = "SELECT namespace, count(*), sum(size)::bigint FROM waft.remembered GROUP BY namespace
    HAVING count(*) > $1::bigint OR sum(size) > $2::bigint LIMIT 1";
const OLDEST: &str = "SELECT key, size FROM waft.remembered WHERE namespace = $1 ORDER BY at, key LIMIT $2
    FOR UPDATE SKIP LOCKED";
const DELETE: &str = "DELETE FROM waft.remembered WHERE namespace = $1 AND key = ANY ($2)";
const CONTENT: &str = "SELECT content FROM waft.remembered WHERE content IS NOT NULL";
const BYTES: &str = "SELECT coalesce(sum(octet_length(body)), 0)::bigint FROM waft.remembered WHERE namespace = $1";
const CONTENT_OF_NAMESPACE: &str = "SELECT content FROM waft.remembered WHERE namespace = $1 AND content IS NOT NULL";

/// Writes what appends change. Their runs are locked.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    remembered: BTreeMap<&(String, [u8; 32]), &MemoRow>,
    forgotten: Vec<&RolledBackTask>,
) -> Result<(), Error> {
    if remembered.is_empty() && forgotten.is_empty() {
        return Ok(());
    }
    let lock = if forgotten.is_empty() { LOCK_TO_REMEMBER } else { LOCK_TO_FORGET };
    transaction.query(&transaction.prepare_cached(lock).await?, &[]).await?;
    if !remembered.is_empty() {
        let (addresses, rows): (Vec<_>, Vec<&MemoRow>) = remembered.into_iter().unzip();
        let namespaces: Vec<&str> = addresses.iter().map(|(namespace, _)| namespace.as_str()).collect();
        let keys: Vec<&[u8]> = addresses.iter().map(|(_, key)| &key[..]).collect();
        let runs: Vec<&str> = rows.iter().map(|row| row.run.as_str()).collect();
        let tasks: Vec<&str> = rows.iter().map(|row| row.task.as_str()).collect();
        let firings: Vec<i64> = rows.iter().map(|row| row.firing).collect();
        let times: Vec<i64> = rows.iter().map(|row| row.at).collect();
        let expiries: Vec<i64> = rows.iter().map(|row| row.expires_at).collect();
        let sizes: Vec<i64> = rows.iter().map(|row| row.size).collect();
        let content: Vec<Option<&[u8]>> = rows.iter().map(|row| row.content.as_deref()).collect();
        let bodies: Vec<&[u8]> = rows.iter().map(|row| row.body.as_slice()).collect();
        let statement = transaction.prepare_cached(REMEMBER).await?;
        transaction
            .execute(
                &statement,
                &[&namespaces, &keys, &runs, &tasks, &firings, &times, &expiries, &sizes, &content, &bodies],
            )
            .await?;
    }
    if !forgotten.is_empty() {
        let runs: Vec<&str> = forgotten.iter().map(|task| task.run.as_str()).collect();
        let tasks: Vec<&str> = forgotten.iter().map(|task| task.task.as_str()).collect();
        let firings: Vec<i64> = forgotten.iter().map(|task| column(task.firing.get())).collect();
        let namespaces: Vec<String> = forgotten.iter().map(|task| namespace_column(task.namespace.as_ref())).collect();
        let statement = transaction.prepare_cached(FORGET).await?;
        transaction.execute(&statement, &[&runs, &tasks, &firings, &namespaces]).await?;
    }
    Ok(())
}

/// Deletes some results that have expired, or are more than the limits allow; returns their number, which is 0 once there are
/// none, or once others write all of them.
async fn trim(client: &mut Client, limits: MemoLimits, now: i64) -> Result<u64, Error> {
    let batch = DELETE_BATCH as i64;
    let statement = client.prepare_cached(DELETE_EXPIRED).await?;
    let expired = client.execute(&statement, &[&now, &batch]).await?;
    if expired > 0 {
        return Ok(expired);
    }
    let statement = client.prepare_cached(FULL).await?;
    let full = client.query_opt(&statement, &[&column(limits.results), &column(limits.bytes)]).await?;
    let Some(full) = full else { return Ok(0) };
    let number = |column: i64| u64::try_from(column).unwrap_or_default();
    let (namespace, results, bytes): (String, i64, i64) = (full.try_get(0)?, full.try_get(1)?, full.try_get(2)?);
    let Some(excess) = Excess::of(number(results), number(bytes), limits) else { return Ok(0) };
    let transaction = client.transaction().await?;
    let statement = transaction.prepare_cached(OLDEST).await?;
    let oldest = transaction.query(&statement, &[&namespace, &batch]).await?;
    let oldest = oldest.iter().map(|row| Ok((row.try_get::<_, Vec<u8>>(0)?, number(row.try_get(1)?))));
    let keys = excess.oldest(oldest.collect::<Result<Vec<_>, Error>>()?);
    let statement = transaction.prepare_cached(DELETE).await?;
    let deleted = transaction.execute(&statement, &[&namespace, &keys]).await?;
    transaction.commit().await?;
    Ok(deleted)
}

/// The digests of all values in the store that are remembered.
async fn digests(client: &Client) -> Result<Vec<Digest>, Error> {
    let rows = client.query(&client.prepare_cached(CONTENT).await?, &[]).await?;
    let content = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Vec<u8>>, Error>>()?;
    Ok(content.iter().flat_map(|content| digests_of(content)).collect())
}

/// The bytes of the results of a namespace, and the digests of their values in the store.
pub(super) async fn usage(client: &Client, namespace: &str) -> Result<(i64, Vec<Digest>), Error> {
    let bytes = client.query_one(&client.prepare_cached(BYTES).await?, &[&namespace]).await?.try_get(0)?;
    let rows = client.query(&client.prepare_cached(CONTENT_OF_NAMESPACE).await?, &[&namespace]).await?;
    let content = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Vec<u8>>, Error>>()?;
    Ok((bytes, content.iter().flat_map(|content| digests_of(content)).collect()))
}

#[async_trait]
impl Memos for Postgres {
    async fn remembered(
        &self,
        addresses: &[MemoAddress],
        now: Timestamp,
    ) -> Result<Vec<Option<RememberedResult>>, LoadError> {
        let namespaces: Vec<String> =
            addresses.iter().map(|address| namespace_column(address.namespace.as_ref())).collect();
        let keys: Vec<&[u8]> = addresses.iter().map(|address| &address.key.as_bytes()[..]).collect();
        let now = column(now.as_micros());
        let rows = self.with_connection(async |client| {
            let statement = client.prepare_cached(FIND).await?;
            let rows = client.query(&statement, &[&namespaces, &keys, &now]).await?;
            rows.iter()
                .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                .collect::<Result<Vec<(i64, Vec<u8>)>, Error>>()
        });
        let mut found = vec![None; addresses.len()];
        for (position, body) in rows.await.map_err(load_error)? {
            let index = usize::try_from(position).ok().and_then(|position| position.checked_sub(1));
            if let Some(found) = index.and_then(|index| found.get_mut(index)) {
                *found = RememberedResult::decode(&body).ok();
            }
        }
        Ok(found)
    }

    async fn trim_remembered(&self, limits: MemoLimits, now: Timestamp) -> Result<u64, AppendError> {
        let now = column(now.as_micros());
        let mut total = 0;
        loop {
            let deleted = self.with_connection_unbounded(async |client| trim(client, limits, now).await).await;
            match deleted.map_err(append_error)? {
                0 => return Ok(total),
                deleted => total += deleted,
            }
        }
    }

    async fn remembered_digests(&self) -> Result<BTreeSet<Digest>, LoadError> {
        let digests = self.with_connection_unbounded(async |client| digests(client).await).await;
        Ok(digests.map_err(load_error)?.into_iter().collect())
    }
}
