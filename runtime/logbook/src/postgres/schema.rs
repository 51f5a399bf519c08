//! The tables of the database, and their migration from an older waft.

use tokio_postgres::{Client, Error, GenericClient};

/// The migrations from each schema version to the next, starting with an empty database. Released migrations never change.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
    include_str!("schema/8.sql"),
    include_str!("schema/9.sql"),
    include_str!("schema/10.sql"),
    include_str!("schema/11.sql"),
    include_str!("schema/12.sql"),
    include_str!("schema/13.sql"),
    include_str!("schema/14.sql"),
    include_str!("schema/15.sql"),
];

/// "waft" in ASCII: the lock that serializes migrations.
const LOCK: i64 = 0x7761_6674;

// Not `to_regclass`: it answers from a cache, which may not yet contain a table that another process created.
const TABLES: &str = "SELECT coalesce(bool_or(tablename = 'meta'), false), count(*) > 0
    FROM pg_catalog.pg_tables WHERE schemaname = 'waft'";
const SET_VERSION: &str = "INSERT INTO waft.meta (key, schema) VALUES (1, $1)
    ON CONFLICT (key) DO UPDATE SET schema = excluded.schema";

/// Why a database's schema cannot be used.
#[derive(Debug)]
pub(super) enum SchemaError {
    /// The database has a newer version than the migrations lead to.
    Newer { found: i64, known: i64 },
    /// The database belongs to another program.
    Foreign(String),
    /// The database could not be reached, read or written.
    Failed(Error),
}

impl From<Error> for SchemaError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Migrates a database to the newest schema, in one transaction. A current database is only read.
pub(super) async fn migrate(client: &mut Client, migrations: &[&str]) -> Result<(), SchemaError> {
    if missing_migrations(client, migrations).await?.is_empty() {
        return Ok(());
    }
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    // Another process may have migrated it in the meantime.
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
    let applied =
        usize::try_from(version).map_err(|_| SchemaError::Foreign(format!("its schema version is {version}")))?;
    Ok(&migrations[applied..])
}

/// The version of the database's schema, which has to be one of waft, and not newer than the newest known version. A database without our
/// tables has version 0.
pub(super) async fn version(client: &impl GenericClient, migrations: &[&str]) -> Result<i64, SchemaError> {
    let row = client.query_one(TABLES, &[]).await?;
    let version = match (row.try_get(0)?, row.try_get(1)?) {
        (true, _) => client.query_one("SELECT schema FROM waft.meta", &[]).await?.try_get(0)?,
        (false, false) => 0_i64,
        (false, true) => {
            return Err(SchemaError::Foreign("it has a schema waft with tables of another program".to_owned()));
        }
    };
    let known = migrations.len() as i64;
    if version > known {
        return Err(SchemaError::Newer { found: version, known });
    }
    Ok(version)
}
