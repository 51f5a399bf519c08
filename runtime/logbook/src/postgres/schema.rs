//! The tables of the database, and how those of an older waft become those of this.

use tokio_postgres::{Client, Error, GenericClient};

/// What leads from each schema version to the next, beginning with an empty database. Those that were released never
/// change.
pub(super) const MIGRATIONS: &[&str] =
    &[include_str!("schema/1.sql"), include_str!("schema/2.sql"), include_str!("schema/3.sql")];

/// "waft" in ASCII: the lock that those who migrate hold one after another.
const LOCK: i64 = 0x7761_6674;

// Not `to_regclass`: it answers from a cache, which may not know yet what another process has made.
const TABLES: &str = "SELECT coalesce(bool_or(tablename = 'meta'), false), count(*) > 0
    FROM pg_catalog.pg_tables WHERE schemaname = 'waft'";
const SET_VERSION: &str = "INSERT INTO waft.meta (key, schema) VALUES (1, $1)
    ON CONFLICT (key) DO UPDATE SET schema = excluded.schema";

/// Why a database's schema cannot be used.
#[derive(Debug)]
pub(super) enum SchemaError {
    /// It has a newer version than there are migrations.
    Newer { found: i64, known: i64 },
    /// There is something else in its place.
    Foreign(String),
    /// The database could not be reached, read or written.
    Failed(Error),
}

impl From<Error> for SchemaError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Brings a database up to the newest schema, in one transaction. One that is there already is only read.
pub(super) async fn migrate(client: &mut Client, migrations: &[&str]) -> Result<(), SchemaError> {
    if missing_migrations(client, migrations).await?.is_empty() {
        return Ok(());
    }
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    // Another process may have done it since.
    for migration in missing_migrations(&transaction, migrations).await? {
        transaction.batch_execute(migration).await?;
    }
    transaction.execute(SET_VERSION, &[&(migrations.len() as i64)]).await?;
    Ok(transaction.commit().await?)
}

/// The migrations that the database lacks.
async fn missing_migrations<'a>(
    client: &impl GenericClient,
    migrations: &'a [&'a str],
) -> Result<&'a [&'a str], SchemaError> {
    let version = version(client, migrations).await?;
    let done =
        usize::try_from(version).map_err(|_| SchemaError::Foreign(format!("its schema version is {version}")))?;
    Ok(&migrations[done..])
}

/// The version of the database's schema, which has to be ours and no newer than what the migrations lead to. One without
/// our tables has none: 0.
pub(super) async fn version(client: &impl GenericClient, migrations: &[&str]) -> Result<i64, SchemaError> {
    let row = client.query_one(TABLES, &[]).await?;
    let version = match (row.try_get(0)?, row.try_get(1)?) {
        (true, _) => client.query_one("SELECT schema FROM waft.meta", &[]).await?.try_get(0)?,
        (false, false) => 0_i64,
        (false, true) => {
            return Err(SchemaError::Foreign("it has a schema waft with tables that are not ours".to_owned()));
        }
    };
    let known = migrations.len() as i64;
    if version > known {
        return Err(SchemaError::Newer { found: version, known });
    }
    Ok(version)
}
