//! Inspects a file without changing it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
};

use rusqlite::Connection;

use super::{
    Sqlite,
    connection::{open_to_look, refused},
    schema::{self, MIGRATIONS},
    thread::ConnectionThread,
};
use crate::{
    OpenError,
    inspect::{Found, Inspection, Opened},
    lock,
};

/// The state of a logbook's place in the file system.
enum Place {
    Absent { obstacle: Option<String> },
    There { path: PathBuf, locks: PathBuf, obstacle: Option<String> },
}

/// Inspects the logbook in a file.
pub(crate) async fn inspect(path: PathBuf) -> Result<Inspection, OpenError> {
    let place = path.display().to_string();
    let unavailable = |reason: String| OpenError::Unavailable { place: place.clone(), reason };
    // A network file system may never answer.
    let found =
        tokio::task::spawn_blocking(move || find(path)).await.map_err(|error| unavailable(error.to_string()))?;
    let (path, locks, obstacle) = match found.map_err(|error| unavailable(error.to_string()))? {
        Place::Absent { obstacle } => return Ok(Inspection::Absent { place, obstacle }),
        Place::There { path, locks, obstacle } => (path, locks, obstacle),
    };
    let (known, versions) = mpsc::channel();
    let file = path.clone();
    let writer = ConnectionThread::start(&place, move || {
        let (connection, version) = look(&file)?;
        // The receiver is gone only if nobody can use the connection.
        let _ = known.send(version);
        Ok(connection)
    });
    let writer = writer.await?;
    let schema = versions.recv().expect("a thread that has started has sent the version");
    let reader = ConnectionThread::start(&place, move || look(&path).map(|(connection, _)| connection)).await?;
    let sqlite = Sqlite { place: place.clone(), writer, reader, locks };
    Ok(Inspection::Found(Found {
        place,
        schema,
        known: MIGRATIONS.len() as i64,
        obstacle,
        // SQLite uses the clock of this machine.
        clock: None,
        opened: Opened::Sqlite(Arc::new(sqlite)),
    }))
}

/// Finds the file. Blocks.
fn find(path: PathBuf) -> io::Result<Place> {
    let path = std::path::absolute(path)?;
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Place::Absent { obstacle: obstacle_to_making(&path) })
        }
        Err(error) => Err(error),
        Ok(there) if !there.is_file() => Err(io::Error::other("it is no file")),
        Ok(_) => {
            Ok(Place::There { locks: lock::sibling_path(&path, ".locks"), obstacle: obstacle_to_writing(&path), path })
        }
    }
}

fn look(path: &Path) -> Result<(Connection, i64), OpenError> {
    let refused = |unusable| refused(path.display().to_string(), unusable);
    let connection = open_to_look(path).map_err(|failure| refused(failure.into()))?;
    let version = schema::version(&connection, MIGRATIONS).map_err(refused)?;
    Ok((connection, version))
}

/// Why an existing file cannot be written. SQLite also creates files beside it.
fn obstacle_to_writing(path: &Path) -> Option<String> {
    if let Err(error) = File::options().append(true).open(path) {
        return Some(format!("the file cannot be written: {error}"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let tried = tempfile::tempfile_in(folder);
    tried.err().map(|error| format!("no file can be made in {}: {error}", folder.display()))
}

/// Why a missing file cannot be created. Its folder may have to be created first.
fn obstacle_to_making(path: &Path) -> Option<String> {
    let folder = path.ancestors().skip(1).find(|folder| folder.exists())?;
    let tried = tempfile::tempfile_in(folder);
    tried.err().map(|error| format!("nothing can be made in {}: {error}", folder.display()))
}
