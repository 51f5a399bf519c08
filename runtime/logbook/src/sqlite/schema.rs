//! The tables of the file, and their migration from an older waft.

use rusqlite::{Connection, TransactionBehavior};

use super::failure::Failure;

/// "waft" in ASCII: marks files of waft.
const APPLICATION: i64 = 0x7761_6674;

/// The migrations from each schema version to the next, starting with an empty file. Released migrations never change.
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

/// Why a file's schema cannot be used.
#[derive(Debug, PartialEq)]
pub(super) enum Unusable {
    /// The file has a newer version than the migrations lead to.
    Newer { found: i64, known: i64 },
    /// The file belongs to another program.
    Foreign(String),
    /// The file could not be read or written.
    Failed(Failure),
}

impl From<Failure> for Unusable {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Migrates a file to the newest schema, in one transaction. A current file is only read.
pub(super) fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), Unusable> {
    if pending(connection, migrations)?.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have migrated it in the meantime.
    for migration in pending(&transaction, migrations)? {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", migrations.len() as i64)?;
    Ok(transaction.commit()?)
}

/// The migrations that the file lacks.
fn pending<'a>(connection: &Connection, migrations: &'a [&'a str]) -> Result<&'a [&'a str], Unusable> {
    let version = version(connection, migrations)?;
    let applied =
        usize::try_from(version).map_err(|_| Unusable::Foreign(format!("its schema version is {version}")))?;
    Ok(&migrations[applied..])
}

/// The version of the file's schema, which has to be one of waft, and not newer than the newest known version. An empty file has version 0.
pub(super) fn version(connection: &Connection, migrations: &[&str]) -> Result<i64, Unusable> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION && (application != 0 || version != 0 || tables > 0) {
        return Err(Unusable::Foreign(format!(
            "it is a database of another program, with {tables} tables and indices and application id {application}"
        )));
    }
    let known = migrations.len() as i64;
    if version > known {
        return Err(Unusable::Newer { found: version, known });
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: &str = "ALTER TABLE runs ADD COLUMN note TEXT NOT NULL DEFAULT 'none';";

    fn version(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_older_file_is_migrated_and_then_newer_to_those_before() {
        let mut connection = Connection::open_in_memory().unwrap();
        let newest = [MIGRATIONS, &[SECOND]].concat();
        migrate(&mut connection, MIGRATIONS).unwrap();
        assert_eq!(version(&connection), MIGRATIONS.len() as i64);
        let run = "INSERT INTO runs VALUES (1, 'a', 's', 'f', 'running', 1, 1, 1, 0, 0)";
        connection.execute(run, []).unwrap();
        migrate(&mut connection, &newest).unwrap();
        migrate(&mut connection, &newest).unwrap();
        let note: String = connection.query_row("SELECT note FROM runs", [], |row| row.get(0)).unwrap();
        assert_eq!(note, "none");
        let known = MIGRATIONS.len() as i64;
        assert_eq!(migrate(&mut connection, MIGRATIONS), Err(Unusable::Newer { found: known + 1, known }));
    }

    #[test]
    fn migrated_runs_count_as_published() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &MIGRATIONS[..1]).unwrap();
        connection.execute("INSERT INTO runs VALUES (1, 'a', 's', 'f', 'success', 7, 1, 1)", []).unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let migrated: (i64, i64) = connection.query_row("SELECT published, unpublished FROM runs", [], row).unwrap();
        assert_eq!(migrated, (7, 0));
    }

    #[test]
    fn a_migration_that_fails_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        let failing = [MIGRATIONS, &[SECOND, "CREATE TABLE runs (twice);"]].concat();
        assert!(matches!(migrate(&mut connection, &failing), Err(Unusable::Failed(_))));
        assert_eq!(version(&connection), MIGRATIONS.len() as i64);
        assert!(connection.prepare("SELECT note FROM runs").is_err());
    }

    #[test]
    fn a_database_of_another_program_is_unchanged() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute("CREATE TABLE runs (other)", []).unwrap();
        assert!(matches!(migrate(&mut connection, MIGRATIONS), Err(Unusable::Foreign(_))));
        assert_eq!(version(&connection), 0);
    }
}
