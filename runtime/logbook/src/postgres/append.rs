//! Appends a batch of runs with a constant number of round trips.

use std::collections::BTreeMap;

use deadpool_postgres::{Client, Transaction};
use futures::future;
use tokio_postgres::{Error, Row, types::ToSql};

use super::memo;
use crate::{
    AppendOutcome, Counted, Version,
    row::{AppendRow, LogRow, UnendedRange},
};

// In the order of ids, so that two engines cannot deadlock. The statement returns the locked rows.
const LOCK: &str = "SELECT id, key, version, state IN ('pending', 'running', 'suspending', 'suspended') FROM waft.runs
    WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE";
// In the order of the locks' numbers, for the same reason. Engines start runs of one flow, and of one namespace, one after the
// other, so that each counts the runs of the others.
const LOCK_FLOWS: &str = "SELECT pg_advisory_xact_lock(hashtext('waft flow'), flows.number)
    FROM (SELECT DISTINCT hashtext(name) AS number FROM unnest($1::text[]) AS name ORDER BY number) AS flows";
const UNENDED: &str = "SELECT names.first, (SELECT count(*) FROM waft.runs
        WHERE flow >= names.first COLLATE \"C\" AND flow <= names.last COLLATE \"C\"
            AND state IN ('pending', 'running', 'suspending', 'suspended'))
    FROM (SELECT DISTINCT first, last FROM unnest($1::text[], $2::text[]) AS names (first, last)) AS names";
const ADVANCE: &str = "UPDATE waft.runs AS runs
    SET shard = new.shard, state = new.state, version = new.version, changed_at = new.changed_at,
        published = greatest(runs.published, new.published), unpublished = new.unpublished
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[])
        AS new (key, shard, state, version, changed_at, published, unpublished)
    WHERE runs.key = new.key";
const INSERT_RUNS: &str = "INSERT INTO waft.runs (id, shard, flow, state, version, started_at, changed_at, published, unpublished)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
            $8::bigint[], $9::boolean[])
        AS new (id, shard, flow, state, version, started_at, changed_at, published, unpublished) ORDER BY new.id COLLATE \"C\"
    ON CONFLICT (id) DO NOTHING RETURNING id, key";
const VERSIONS: &str = "SELECT id, version FROM waft.runs WHERE id = ANY ($1)";
const RECORDS: &str = "INSERT INTO waft.records (run, first, body)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])";
const LOGS: &str =
    "INSERT INTO waft.logs (run, first, number, task, firing, attempt, action, at, worker, body, usage, exchanges,
        has_http)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::text[],
        $8::bigint[], $9::text[], $10::bytea[], $11::bytea[], $12::bytea[], $13::boolean[])";
// The rows of the runs are locked, so no other connection inserts or updates usages of them.
const LAST_USAGES: &str = "INSERT INTO waft.last_usages (run, task, first, firing, attempt, action, at, worker, usage)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[],
        $8::text[], $9::bytea[])
    ON CONFLICT (run, task) DO UPDATE SET first = excluded.first, firing = excluded.firing, attempt = excluded.attempt,
        action = excluded.action, at = excluded.at, worker = excluded.worker, usage = excluded.usage";
const LABELS: &str = "INSERT INTO waft.labels (run, name, value, started_at, id)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[])";
const SEARCH_TEXTS: &str = "INSERT INTO waft.search_texts (run, text, started_at, id)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[])";
const CONTENT: &str = "INSERT INTO waft.content (run, digest) SELECT * FROM unnest($1::bigint[], $2::bytea[])
    ON CONFLICT DO NOTHING";

/// Writes a batch in one transaction.
pub(super) async fn append(client: &mut Client, rows: &[AppendRow]) -> Result<Vec<AppendOutcome>, Error> {
    let transaction = client.transaction().await?;
    // Before all other locks, so that a transaction that waits here holds none that others wait for.
    let (limited, _) = limited_flows(rows.iter());
    if !limited.is_empty() {
        query(&transaction, LOCK_FLOWS, &[&limited]).await?;
    }
    let mut outcomes = vec![AppendOutcome::Durable; rows.len()];
    for group in conflict_free_groups(rows) {
        let group_rows: Vec<&AppendRow> = group.iter().map(|index| &rows[*index]).collect();
        let refused = write(&transaction, &group_rows).await?;
        for index in group {
            if let Some(outcome) = refused.get(rows[index].run.as_str()) {
                outcomes[index] = *outcome;
            }
        }
    }
    transaction.commit().await?;
    Ok(outcomes)
}

/// Groups rows so that each group has a run at most once, in the order of ids. There is one group, unless a batch names a
/// run twice.
fn conflict_free_groups(rows: &[AppendRow]) -> Vec<Vec<usize>> {
    let mut sorted: Vec<usize> = (0..rows.len()).collect();
    sorted.sort_by_key(|index| &rows[*index].run);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for same_run in sorted.chunk_by(|one, other| rows[*one].run == rows[*other].run) {
        for (occurrence, index) in same_run.iter().enumerate() {
            if occurrence == groups.len() {
                groups.push(Vec::new());
            }
            groups[occurrence].push(*index);
        }
    }
    groups
}

/// The first and the last names of the ranges of flows in which the number of runs that have not ended is limited.
fn limited_flows<'a>(rows: impl Iterator<Item = &'a AppendRow>) -> (Vec<&'a str>, Vec<&'a str>) {
    rows.flat_map(|row| &row.max_unended).map(|range| (range.first.as_str(), range.last.as_str())).unzip()
}

/// A run that starts, or that has ended and starts again: then with its key.
type StartingRun<'a> = (Option<i64>, &'a AppendRow);

/// Splits runs into those that may start, and those of whose flow or namespace too many runs have not ended.
async fn admit<'a>(
    transaction: &Transaction<'_>,
    starting: Vec<StartingRun<'a>>,
) -> Result<(Vec<StartingRun<'a>>, Vec<(&'a AppendRow, Counted)>), Error> {
    let (first, last) = limited_flows(starting.iter().map(|(_, row)| *row));
    if first.is_empty() {
        return Ok((starting, Vec::new()));
    }
    let counted = query(transaction, UNENDED, &[&first, &last]).await?;
    let counted = counted.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    let mut unended: BTreeMap<&str, i64> = counted.collect::<Result<_, Error>>()?;
    let (mut admitted, mut refused) = (Vec::new(), Vec::new());
    for (key, row) in starting {
        let mut ranges = row.max_unended.iter();
        let is_full =
            |range: &&UnendedRange| unended.get(range.first.as_str()).is_some_and(|count| *count >= range.most);
        match ranges.find(is_full) {
            Some(range) => refused.push((row, range.counted)),
            None => {
                for range in row.max_unended.iter().filter(|_| !row.info.state.is_final()) {
                    *unended.entry(&range.first).or_default() += 1;
                }
                admitted.push((key, row));
            }
        }
    }
    Ok((admitted, refused))
}

/// The outcome for a run at another version than the one that the append follows.
fn conflict(version: i64) -> AppendOutcome {
    AppendOutcome::Conflict(Version::new(u64::try_from(version).unwrap_or_default()))
}

/// Writes one group; returns the outcomes of the runs of which nothing was written.
async fn write<'a>(
    transaction: &Transaction<'_>,
    rows: &[&'a AppendRow],
) -> Result<BTreeMap<&'a str, AppendOutcome>, Error> {
    let ids: Vec<&str> = rows.iter().map(|row| row.run.as_str()).collect();
    let locked = query(transaction, LOCK, &[&ids]).await?;
    let known = locked.iter().map(|row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))));
    let known: BTreeMap<&str, (i64, i64, bool)> = known.collect::<Result<_, Error>>()?;

    let mut refused = BTreeMap::new();
    let mut existing = Vec::new();
    let mut starting = Vec::new();
    for row in rows {
        match known.get(row.run.as_str()) {
            Some((key, version, false)) if *version == row.follows => starting.push((Some(*key), *row)),
            Some((key, version, true)) if *version == row.follows => existing.push((*key, *row)),
            None if row.follows == 0 => starting.push((None, *row)),
            other => {
                refused.insert(row.run.as_str(), conflict(other.map_or(0, |(_, version, _)| *version)));
            }
        }
    }
    let (admitted, too_many) = admit(transaction, starting).await?;
    let too_many = too_many.into_iter();
    refused.extend(too_many.map(|(row, counted)| (row.run.as_str(), AppendOutcome::TooManyUnended(counted))));
    let (again, new): (Vec<_>, Vec<_>) = admitted.into_iter().partition(|(key, _)| key.is_some());
    existing.extend(again.into_iter().filter_map(|(key, row)| Some((key?, row))));
    let new: Vec<&AppendRow> = new.into_iter().map(|(_, row)| row).collect();
    let ((), inserted) = future::try_join(update_runs(transaction, &existing), insert_runs(transaction, &new)).await?;
    let (inserted, conflicting): (Vec<_>, Vec<_>) =
        new.into_iter().map(|row| (inserted.get(row.run.as_str()), row)).partition(|(key, _)| key.is_some());
    if !conflicting.is_empty() {
        let ids: Vec<&str> = conflicting.iter().map(|(_, row)| row.run.as_str()).collect();
        let versions = query(transaction, VERSIONS, &[&ids]).await?;
        let versions = versions.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let versions: BTreeMap<&str, i64> = versions.collect::<Result<_, Error>>()?;
        // A missing run was deleted in between.
        let version = |row: &AppendRow| versions.get(row.run.as_str()).copied().unwrap_or(0);
        refused.extend(conflicting.into_iter().map(|(_, row)| (row.run.as_str(), conflict(version(row)))));
    }
    existing.extend(inserted.into_iter().filter_map(|(key, row)| Some((*key?, row))));
    insert_records(transaction, &existing).await?;
    // Several runs may have computed the same result.
    let remembered = existing.iter().flat_map(|(_, row)| &row.remembered).collect();
    let forgotten = existing.iter().flat_map(|(_, row)| &row.forgotten).collect();
    memo::write(transaction, remembered, forgotten).await?;
    Ok(refused)
}

/// Moves locked runs to their next version.
async fn update_runs(transaction: &Transaction<'_>, rows: &[(i64, &AppendRow)]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let keys = column(rows, |(key, _)| *key);
    let shards = column(rows, |(_, row)| row.info.shard.as_str());
    let states = column(rows, |(_, row)| row.info.state.as_str());
    let versions = column(rows, |(_, row)| row.version);
    let changed_at = column(rows, |(_, row)| row.changed_at);
    let published = column(rows, |(_, row)| row.published);
    let has_unpublished = column(rows, |(_, row)| row.has_unpublished);
    let columns: [Column<'_>; 7] = [&keys, &shards, &states, &versions, &changed_at, &published, &has_unpublished];
    query(transaction, ADVANCE, &columns).await.map(drop)
}

/// Inserts the rows of new runs; returns the keys of those that no other connection has inserted in the meantime.
async fn insert_runs(transaction: &Transaction<'_>, rows: &[&AppendRow]) -> Result<BTreeMap<String, i64>, Error> {
    if rows.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids = column(rows, |row| row.run.as_str());
    let shards = column(rows, |row| row.info.shard.as_str());
    let flows = column(rows, |row| row.info.flow.as_str());
    let states = column(rows, |row| row.info.state.as_str());
    let versions = column(rows, |row| row.version);
    let started_at = column(rows, |row| row.started_at);
    let changed_at = column(rows, |row| row.changed_at);
    let published = column(rows, |row| row.published);
    let has_unpublished = column(rows, |row| row.has_unpublished);
    let columns: [Column<'_>; 9] =
        [&ids, &shards, &flows, &states, &versions, &started_at, &changed_at, &published, &has_unpublished];
    let inserted = query(transaction, INSERT_RUNS, &columns).await?;
    inserted.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Inserts the records, logs and digests of runs whose rows are written.
async fn insert_records(transaction: &Transaction<'_>, rows: &[(i64, &AppendRow)]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let records = async {
        let keys = column(rows, |(key, _)| *key);
        let firsts = column(rows, |(_, row)| row.follows);
        let bodies = column(rows, |(_, row)| row.body.as_slice());
        query(transaction, RECORDS, &[&keys, &firsts, &bodies]).await
    };
    // The statements are pipelined: each is sent without waiting for the previous answer.
    let (logs, usages) = (insert_logs(transaction, rows), insert_last_usages(transaction, rows));
    let (content, found_by) = (insert_content(transaction, rows), insert_found_by(transaction, rows));
    future::try_join5(records, logs, usages, content, found_by).await.map(drop)
}

async fn insert_logs(transaction: &Transaction<'_>, rows: &[(i64, &AppendRow)]) -> Result<(), Error> {
    let mut logs: Vec<(i64, i64, i64, &LogRow)> = Vec::new();
    for (key, row) in rows {
        logs.extend((0..).zip(&row.logs).map(|(number, log)| (*key, row.follows, number, log)));
    }
    if logs.is_empty() {
        return Ok(());
    }
    let keys = column(&logs, |(key, ..)| *key);
    let firsts = column(&logs, |(_, first, ..)| *first);
    let numbers = column(&logs, |(_, _, number, _)| *number);
    let tasks = column(&logs, |(.., log)| log.task.as_str());
    let firings = column(&logs, |(.., log)| log.firing);
    let attempts = column(&logs, |(.., log)| log.attempt);
    let actions = column(&logs, |(.., log)| log.action.as_str());
    let at = column(&logs, |(.., log)| log.at);
    let workers = column(&logs, |(.., log)| log.worker.as_deref());
    let bodies = column(&logs, |(.., log)| log.body.as_slice());
    let usages = column(&logs, |(.., log)| log.usage.as_deref());
    let exchanges = column(&logs, |(.., log)| log.exchanges.as_deref());
    let has_http = column(&logs, |(.., log)| log.has_http);
    let columns: [Column<'_>; 13] = [
        &keys, &firsts, &numbers, &tasks, &firings, &attempts, &actions, &at, &workers, &bodies, &usages, &exchanges,
        &has_http,
    ];
    query(transaction, LOGS, &columns).await.map(drop)
}

async fn insert_last_usages(transaction: &Transaction<'_>, rows: &[(i64, &AppendRow)]) -> Result<(), Error> {
    // Several attempts of a task may end in one append, and the statement may name a row only once.
    let mut last: BTreeMap<(i64, &str), (i64, &LogRow, &[u8])> = BTreeMap::new();
    for (key, row) in rows {
        for log in &row.logs {
            if let Some(usage) = log.last_usage() {
                last.insert((*key, &log.task), (row.follows, log, usage));
            }
        }
    }
    if last.is_empty() {
        return Ok(());
    }
    let last: Vec<_> = last.into_iter().collect();
    let keys = column(&last, |((key, _), _)| *key);
    let tasks = column(&last, |((_, task), _)| *task);
    let firsts = column(&last, |(_, (first, ..))| *first);
    let firings = column(&last, |(_, (_, log, _))| log.firing);
    let attempts = column(&last, |(_, (_, log, _))| log.attempt);
    let actions = column(&last, |(_, (_, log, _))| log.action.as_str());
    let at = column(&last, |(_, (_, log, _))| log.at);
    let workers = column(&last, |(_, (_, log, _))| log.worker.as_deref());
    let usages = column(&last, |(_, (.., usage))| *usage);
    let columns: [Column<'_>; 9] = [&keys, &tasks, &firsts, &firings, &attempts, &actions, &at, &workers, &usages];
    query(transaction, LAST_USAGES, &columns).await.map(drop)
}

async fn insert_content(transaction: &Transaction<'_>, rows: &[(i64, &AppendRow)]) -> Result<(), Error> {
    let mut content: Vec<(i64, &[u8; 32])> = Vec::new();
    for (key, row) in rows {
        content.extend(row.content.iter().map(|digest| (*key, digest.as_bytes())));
    }
    if content.is_empty() {
        return Ok(());
    }
    let keys = column(&content, |(key, _)| *key);
    let digests = column(&content, |(_, digest)| digest.as_slice());
    query(transaction, CONTENT, &[&keys, &digests]).await.map(drop)
}

/// Inserts that by which new runs are found.
async fn insert_found_by(transaction: &Transaction<'_>, rows: &[(i64, &AppendRow)]) -> Result<(), Error> {
    let (mut labels, mut texts) = (Vec::new(), Vec::new());
    for (key, row) in rows {
        let (at, id) = (row.started_at, row.run.as_str());
        labels.extend(row.labels.iter().map(|(name, value)| (*key, name.as_str(), value.as_str(), at, id)));
        texts.extend(row.search_texts.iter().map(|text| (*key, text.as_str(), at, id)));
    }
    if !labels.is_empty() {
        let keys = column(&labels, |(key, ..)| *key);
        let names = column(&labels, |(_, name, ..)| *name);
        let values = column(&labels, |(_, _, value, ..)| *value);
        let started_at = column(&labels, |(.., at, _)| *at);
        let ids = column(&labels, |(.., id)| *id);
        query(transaction, LABELS, &[&keys, &names, &values, &started_at, &ids]).await?;
    }
    if !texts.is_empty() {
        let keys = column(&texts, |(key, ..)| *key);
        let values = column(&texts, |(_, text, ..)| *text);
        let started_at = column(&texts, |(.., at, _)| *at);
        let ids = column(&texts, |(.., id)| *id);
        query(transaction, SEARCH_TEXTS, &[&keys, &values, &started_at, &ids]).await?;
    }
    Ok(())
}

type Column<'a> = &'a (dyn ToSql + Sync);

fn column<'a, One, Value>(rows: &'a [One], value: impl Fn(&'a One) -> Value) -> Vec<Value> {
    rows.iter().map(value).collect()
}

async fn query(transaction: &Transaction<'_>, sql: &str, columns: &[Column<'_>]) -> Result<Vec<Row>, Error> {
    let statement = transaction.prepare_cached(sql).await?;
    transaction.query(&statement, columns).await
}
