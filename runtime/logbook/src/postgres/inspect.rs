//! Inspects a database without changing it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use flow::RunId;
use tokio_postgres::{Client, Error};

use super::{
    Postgres,
    connection::{self, Endpoint, open_error},
    pools::Connections,
    schema::{self, MIGRATIONS, SchemaError},
};
use crate::{
    OpenError,
    inspect::{Backend, ClockReading, ExistingLogbook},
};

// In microseconds. `clock_timestamp` is the current time, not the start of the transaction.
const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
const STATE: &str = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on'";
const TABLES: [&str; 2] = ["waft.runs", "waft.records"];
const MAY_WRITE: &str = "SELECT has_table_privilege($1, 'INSERT') AND has_table_privilege($1, 'UPDATE')
    AND has_table_privilege($1, 'DELETE')";
const MAY_CREATE: &str = "SELECT has_database_privilege(current_database(), 'CREATE')
    OR coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace WHERE nspname = 'waft'), false)";
// The two numbers of a run lock; PostgreSQL shows them unsigned. The last condition says that the lock has two numbers.
const IS_RUN_LOCKED: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted
    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND classid::bigint = hashtext('waft run')::bigint & 4294967295
    AND objid::bigint = hashtext($1)::bigint & 4294967295 AND objsubid = 2)";

/// Inspects the logbook in a database.
pub(crate) async fn inspect(url: &str) -> Result<ExistingLogbook, OpenError> {
    inspect_database(connection::parse(url)?).await
}

/// Inspects the logbook in the database of an endpoint.
pub(super) async fn inspect_database(endpoint: Endpoint) -> Result<ExistingLogbook, OpenError> {
    let (connections, client) = Connections::connect(endpoint).await?;
    let location = connections.location().to_owned();
    match read_state(&client).await {
        Ok((schema, clock, write_error)) => Ok(ExistingLogbook {
            place: location,
            schema,
            known: MIGRATIONS.len() as i64,
            write_error,
            clock: Some(clock),
            opened: Backend::Postgres(Arc::new(Postgres::new(connections))),
        }),
        Err(error) => Err(open_error(location, error)),
    }
}

async fn read_state(client: &Client) -> Result<(i64, ClockReading, Option<String>), SchemaError> {
    let schema = schema::version(client, MIGRATIONS).await?;
    // Prepared first, so that only one round trip lies between the two readings of the local clock.
    let statement = client.prepare(NOW).await?;
    let requested_at = SystemTime::now();
    let micros: i64 = client.query_one(&statement, &[]).await?.try_get(0)?;
    let clock = ClockReading {
        sent_at: requested_at,
        shown: UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or_default()),
        received_at: SystemTime::now(),
    };
    Ok((schema, clock, write_error(client, schema).await?))
}

/// Why this user cannot write.
async fn write_error(client: &Client, schema: i64) -> Result<Option<String>, Error> {
    let state = client.query_one(STATE, &[]).await?;
    if state.try_get(0)? {
        return Ok(Some("the server is a standby, which accepts no writes".to_owned()));
    }
    if state.try_get(1)? {
        return Ok(Some("transactions are read-only (default_transaction_read_only)".to_owned()));
    }
    if schema == 0 {
        let may_create: bool = client.query_one(MAY_CREATE, &[]).await?.try_get(0)?;
        return Ok((!may_create).then(|| "this user may not create the schema waft".to_owned()));
    }
    for table in TABLES {
        let may_write: bool = client.query_one(MAY_WRITE, &[&table]).await?.try_get(0)?;
        if !may_write {
            return Ok(Some(format!("this user may not write the table {table}")));
        }
    }
    Ok(None)
}

impl Postgres {
    /// Whether a session holds the lock of a run.
    pub(crate) async fn is_run_locked(&self, run: &RunId) -> Result<bool, String> {
        self.with_connection(async |client| client.query_one(IS_RUN_LOCKED, &[&run.as_str()]).await?.try_get(0)).await
    }
}
