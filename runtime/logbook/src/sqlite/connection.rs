//! One connection to the file: how it is opened, and why opening can fail.

use std::{
    fs::{DirBuilder, OpenOptions},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::{
    failure::Failure,
    schema::{self, MIGRATIONS, Unusable},
};
use crate::{OpenError, lock::sibling_path};

/// How long to wait for another process that writes the same file. Its transactions take milliseconds; a slow disk or a
/// big checkpoint may take seconds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause between tries where SQLite itself does not wait.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Settings of every connection. Each commit is on the disk before it is answered, on macOS too. The write-ahead log is
/// moved into the file after 16 MiB and truncated to 64 MiB, so that a burst leaves no huge file behind.
const PRAGMAS: &str = "
    PRAGMA synchronous = FULL;
    PRAGMA fullfsync = ON;
    PRAGMA foreign_keys = ON;
    PRAGMA wal_autocheckpoint = 4096;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA cache_size = -32768;
    PRAGMA temp_store = MEMORY;
";

/// The mode of a new folder: only its owner may open it.
const PRIVATE_FOLDER: u32 = 0o700;

/// The mode of a new file: the values in a logbook are for its owner only.
const PRIVATE_FILE: u32 = 0o600;

/// Opens the connection that writes; creates the file, its folder and its tables if missing.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let location = path.display().to_string();
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(folder).map_err(|error| {
            let reason = format!("the folder {} cannot be created: {error}", folder.display());
            OpenError::Unavailable { location: location.clone(), reason }
        })?;
        // SQLite would create a file that everyone may read; it gives its other files the mode of this one. If this fails,
        // SQLite reports it.
        let _ = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(path);
    }
    let opened = connect(path, OpenFlags::SQLITE_OPEN_CREATE).map_err(Unusable::Failed).and_then(|mut connection| {
        schema::migrate(&mut connection, MIGRATIONS)?;
        Ok(connection)
    });
    opened.map_err(|error| open_error(location, error))
}

/// Opens a read-only connection to an existing file.
pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let opened = connect(path, OpenFlags::empty()).and_then(|connection| {
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    });
    opened.map_err(|failure| open_error(path.display().to_string(), Unusable::Failed(failure)))
}

/// Opens one of the read-only connections for the clients of a server. They are several, so each has less memory.
pub(super) fn open_client_reader(path: &Path) -> Result<Connection, OpenError> {
    let connection = open_reader(path)?;
    let failed = |failure: rusqlite::Error| open_error(path.display().to_string(), Unusable::Failed(failure.into()));
    // In KiB.
    connection.pragma_update(None, "cache_size", -8_192).map_err(failed)?;
    Ok(connection)
}

/// How long to wait for another process during an inspection: a user waits for the result.
const INSPECTION_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens a connection that changes nothing, not even the files beside the database: SQLite would create them for a reader
/// and leave them behind. Without a write-ahead log no process has the file open, and it is read as immutable.
pub(super) fn open_for_inspection(path: &Path) -> Result<Connection, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if sibling_path(path, "-wal").exists() {
        Connection::open_with_flags(path, flags)?
    } else {
        Connection::open_with_flags(immutable(path), flags | OpenFlags::SQLITE_OPEN_URI)?
    };
    connection.busy_timeout(INSPECTION_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// The URI that opens a file as immutable.
fn immutable(path: &Path) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    let encode = |byte: &u8| if is_plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02x}") };
    let path: String = path.as_os_str().as_bytes().iter().map(encode).collect();
    format!("file://{path}?immutable=1")
}

fn connect(path: &Path, extra: OpenFlags) -> Result<Connection, Failure> {
    // No URIs: a path is a path, whatever characters it contains.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | extra;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    enable_wal(&connection)?;
    connection.execute_batch(PRAGMAS)?;
    // Otherwise SQLite prepares some statements again whenever a value is bound, to plan for that value.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // All statements stay prepared.
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Allows readers together with one writer. SQLite does not wait by itself while another process sets the same mode.
fn enable_wal(connection: &Connection) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        let switched = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0));
        let is_busy = |error: &rusqlite::Error| error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
        match switched {
            Err(error) if is_busy(&error) && started.elapsed() < BUSY_TIMEOUT => thread::sleep(RETRY_DELAY),
            Err(error) => return Err(error.into()),
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                let reason = format!("its file system supports no write-ahead log, only {mode}");
                return Err(Failure::Unavailable(reason));
            }
        }
    }
}

pub(super) fn open_error(location: String, error: Unusable) -> OpenError {
    match error {
        Unusable::Newer { found, known } => OpenError::Newer { location, found, known },
        Unusable::Foreign(reason) | Unusable::Failed(Failure::Damaged(reason)) => {
            OpenError::Damaged { location, reason }
        }
        Unusable::Failed(Failure::Unavailable(reason)) => OpenError::Unavailable { location, reason },
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_commit_waits_for_the_disk_and_rows_follow_their_run() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("logbook.db");
        let opened = [open_writer(&path), open_reader(&path), open_client_reader(&path)];
        for connection in opened.map(Result::unwrap) {
            let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
            // 2 is FULL.
            assert_eq!((pragma("synchronous"), pragma("foreign_keys"), pragma("busy_timeout")), (2, 1, 10_000));
        }
    }

    #[test]
    fn a_statement_is_not_prepared_again_for_other_values() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("logbook.db");
        for connection in [open_writer(&path).unwrap(), open_reader(&path).unwrap()] {
            let mut statement = connection.prepare("SELECT id FROM runs WHERE key > ?1 LIMIT ?2").unwrap();
            for number in 1..5_i64 {
                assert!(!statement.exists([number, number]).unwrap());
            }
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
        }
    }
}
