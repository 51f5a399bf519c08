//! What the runs of a namespace take. It is read in small parts, so that other readers need not wait long.

use rusqlite::{Connection, params};

use super::{Sqlite, failure::Failure};
use crate::{LoadError, Usage, row};

/// Number of runs that are read at once, those of other namespaces included.
const RUNS_AT_ONCE: i64 = 500;

const LAST_RUN: &str = "SELECT coalesce(max(key), 0) FROM runs";
// With a plus, no index of the flow is used: it would go through all runs of the namespace for each part.
const BYTES: &str = "WITH chosen AS (SELECT key FROM runs WHERE key > ?1 AND key <= ?2 AND +flow BETWEEN ?3 AND ?4)
    SELECT (SELECT coalesce(sum(length(body)), 0) FROM records WHERE run IN chosen)
        + (SELECT coalesce(sum(length(body)), 0) FROM snapshots WHERE run IN chosen)
        + (SELECT coalesce(sum(length(body)), 0) FROM trim_points WHERE run IN chosen)
        + (SELECT coalesce(sum(length(body) + coalesce(length(usage), 0)), 0) FROM logs WHERE run IN chosen)";
const DIGESTS: &str = "SELECT DISTINCT digest FROM content
    WHERE run IN (SELECT key FROM runs WHERE key > ?1 AND key <= ?2 AND +flow BETWEEN ?3 AND ?4)";

impl Sqlite {
    pub(super) async fn usage_between(&self, first: String, last: String) -> Result<Usage, LoadError> {
        let mut usage = Usage::default();
        let mut after = 0;
        loop {
            let (first, last) = (first.clone(), last.clone());
            let part = self.reader.read(move |connection| part(connection, after, &first, &last));
            let (last_run, bytes, digests) = part.await.map_err(|failure: Failure| self.load_error(failure))?;
            usage.bytes += u64::try_from(bytes).unwrap_or_default();
            let digests = digests.iter().map(|digest| row::digest(digest));
            usage.digests.extend(digests.collect::<Result<Vec<_>, _>>()?);
            after += RUNS_AT_ONCE;
            if after >= last_run {
                return Ok(usage);
            }
        }
    }
}

/// The last run of all, and the bytes and digests of the next runs after one.
fn part(connection: &Connection, after: i64, first: &str, last: &str) -> rusqlite::Result<(i64, i64, Vec<Vec<u8>>)> {
    let last_run = connection.prepare_cached(LAST_RUN)?.query_row([], |row| row.get(0))?;
    let range = params![after, after + RUNS_AT_ONCE, first, last];
    let bytes = connection.prepare_cached(BYTES)?.query_row(range, |row| row.get(0))?;
    let mut digests = connection.prepare_cached(DIGESTS)?;
    let digests = digests.query_map(range, |row| row.get(0))?;
    Ok((last_run, bytes, digests.collect::<Result<_, _>>()?))
}
