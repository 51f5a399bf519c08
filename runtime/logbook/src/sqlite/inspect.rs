//! Inspects a file without changing it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
};

use rusqlite::Connection;

use super::{
    ClientThreads, Sqlite,
    connection::{open_error, open_for_inspection},
    schema::{self, MIGRATIONS},
    thread::ConnectionThreads,
};
use crate::{
    OpenError,
    inspect::{Backend, ExistingLogbook, Inspection},
    lock,
};

/// Whether the file of a logbook exists.
enum FileState {
    Absent { write_error: Option<String> },
    Exists { path: PathBuf, locks: PathBuf, write_error: Option<String> },
}

/// Inspects the logbook in a file.
pub(crate) async fn inspect(path: PathBuf) -> Result<Inspection, OpenError> {
    let location = path.display().to_string();
    let unavailable = |reason: String| OpenError::Unavailable { location: location.clone(), reason };
    // A network file system may never answer.
    let state =
        tokio::task::spawn_blocking(move || find(path)).await.map_err(|error| unavailable(error.to_string()))?;
    let (path, locks, write_error) = match state.map_err(|error| unavailable(error.to_string()))? {
        FileState::Absent { write_error } => return Ok(Inspection::Absent { place: location, write_error }),
        FileState::Exists { path, locks, write_error } => (path, locks, write_error),
    };
    let (version_tx, version_rx) = mpsc::channel();
    let file = path.clone();
    let writer = ConnectionThreads::start(&location, move || {
        let (connection, version) = open_and_read_version(&file)?;
        // The receiver is gone only if nobody can use the connection.
        let _ = version_tx.send(version);
        Ok(connection)
    });
    let writer = writer.await?;
    let schema = version_rx.recv().expect("a thread that has started has sent the version");
    let reader =
        ConnectionThreads::start(&location, move || open_and_read_version(&path).map(|(connection, _)| connection))
            .await?;
    let clients = ClientThreads { reads: reader.clone(), lookups: reader.clone() };
    let (lookups, trims) = (reader.clone(), reader.clone());
    let sqlite = Sqlite { location: location.clone(), writer, reader, trims, lookups, clients, locks };
    Ok(Inspection::Existing(ExistingLogbook {
        place: location,
        schema,
        known: MIGRATIONS.len() as i64,
        write_error,
        // SQLite uses the clock of this machine.
        clock: None,
        opened: Backend::Sqlite(Arc::new(sqlite)),
    }))
}

/// Finds the file. Blocks.
fn find(path: PathBuf) -> io::Result<FileState> {
    let path = std::path::absolute(path)?;
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(FileState::Absent { write_error: creation_error(&path) })
        }
        Err(error) => Err(error),
        Ok(metadata) if !metadata.is_file() => Err(io::Error::other("it is not a file")),
        Ok(_) => Ok(FileState::Exists {
            locks: lock::sibling_path(&path, ".locks"),
            write_error: write_error_of(&path),
            path,
        }),
    }
}

fn open_and_read_version(path: &Path) -> Result<(Connection, i64), OpenError> {
    let error = |unusable| open_error(path.display().to_string(), unusable);
    let connection = open_for_inspection(path).map_err(|failure| error(failure.into()))?;
    let version = schema::version(&connection, MIGRATIONS).map_err(error)?;
    Ok((connection, version))
}

/// Why an existing file cannot be written. SQLite also creates files beside it.
fn write_error_of(path: &Path) -> Option<String> {
    if let Err(error) = File::options().append(true).open(path) {
        return Some(format!("the file cannot be written: {error}"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::tempfile_in(folder);
    file.err().map(|error| format!("no file can be created in {}: {error}", folder.display()))
}

/// Why a missing file cannot be created. Its folder may have to be created first.
fn creation_error(path: &Path) -> Option<String> {
    let folder = path.ancestors().skip(1).find(|folder| folder.exists())?;
    let file = tempfile::tempfile_in(folder);
    file.err().map(|error| format!("nothing can be created in {}: {error}", folder.display()))
}
