//! Keeps the write-ahead log from growing without end.
//!
//! SQLite writes the log from its start again only in a moment in which no connection reads anything of it. Slow reads of clients that
//! overlap leave no such moment. So when the log is large, the next read of a client waits until the others have ended, and empties the log.
//! The connection that writes waits for none of these reads.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::connection::BUSY_TIMEOUT;
use crate::lock::sibling_path;

/// The size of a log that is emptied, in bytes. It is several times what SQLite keeps of it.
pub(super) const MAX_LOG_BYTES: u64 = 256 << 20;

/// The minimum time between two tries: another process may read meanwhile.
const PAUSE: Duration = Duration::from_secs(10);

/// How long a try waits for other connections, and how long appends may wait for it.
const PATIENCE: Duration = Duration::from_millis(500);

/// The write-ahead log of a file, as the reads of clients see it.
pub(super) struct WriteAheadLog {
    path: PathBuf,
    max_bytes: u64,
    /// Each read of a client shares it; emptying the log has it alone.
    reads: RwLock<()>,
    tried_at: Mutex<Option<Instant>>,
}

impl WriteAheadLog {
    /// The log of a logbook's file.
    pub(super) fn of(file: &Path, max_bytes: u64) -> Self {
        Self { path: sibling_path(file, "-wal"), max_bytes, reads: RwLock::new(()), tried_at: Mutex::new(None) }
    }

    /// Begins a read of a client, which ends when the guard is dropped. If the log is large, it waits for the others, and empties the log.
    pub(super) fn begin_read(&self, connection: &Connection) -> RwLockReadGuard<'_, ()> {
        if self.is_large() && self.is_due() {
            let alone = self.reads.write().unwrap_or_else(PoisonError::into_inner);
            // Best effort: if another process reads the log, or the disk fails, the next try follows.
            let _ = empty(connection);
            drop(alone);
        }
        self.reads.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_large(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| file.len() >= self.max_bytes)
    }

    /// Whether the next try is due. It is the caller's then.
    fn is_due(&self) -> bool {
        let mut tried_at = self.tried_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = tried_at.is_none_or(|tried_at| tried_at.elapsed() >= PAUSE);
        if is_due {
            *tried_at = Some(Instant::now());
        }
        is_due
    }
}

/// Moves the log into the file, and empties it if no connection reads it.
fn empty(connection: &Connection) -> rusqlite::Result<()> {
    // The row says whether another connection was in the way.
    let step = |sql| connection.query_row(sql, [], |_| Ok(()));
    connection.busy_timeout(PATIENCE)?;
    // Appends wait for the second step only, which has little left to move.
    let emptied = step("PRAGMA wal_checkpoint(PASSIVE)").and_then(|()| step("PRAGMA wal_checkpoint(TRUNCATE)"));
    connection.busy_timeout(BUSY_TIMEOUT)?;
    emptied
}

#[cfg(test)]
mod tests {
    use super::{
        super::connection::{open_client_reader, open_writer},
        *,
    };

    const WRITE: &str =
        "INSERT INTO checks (key, number) VALUES (1, 1) ON CONFLICT (key) DO UPDATE SET number = number + 1";

    #[test]
    fn a_large_log_is_emptied_when_no_other_client_reads() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("logbook.db");
        let writer = open_writer(&path).unwrap();
        let write = || writer.execute_batch(WRITE);
        let bytes = || fs::metadata(sibling_path(&path, "-wal")).unwrap().len();
        write().unwrap();
        assert!(bytes() > 0);
        let (reader, other) = (open_client_reader(&path).unwrap(), open_client_reader(&path).unwrap());
        let small = WriteAheadLog::of(&path, u64::MAX);
        drop(small.begin_read(&reader));
        assert!(bytes() > 0, "it is not large");
        let log = WriteAheadLog::of(&path, 1);
        *log.tried_at.lock().unwrap() = Some(Instant::now());
        let slow = log.begin_read(&other);
        let view = other.unchecked_transaction().unwrap();
        let number = view.query_row("SELECT number FROM checks", [], |row| row.get::<_, i64>(0)).unwrap();
        write().unwrap();
        *log.tried_at.lock().unwrap() = None;
        std::thread::scope(|scope| {
            let log = &log;
            let next = scope.spawn(move || drop(log.begin_read(&reader)));
            // It waits for the other client, or has not begun.
            assert!(bytes() > 0);
            assert_eq!(view.query_row("SELECT number FROM checks", [], |row| row.get::<_, i64>(0)), Ok(number));
            drop((view, slow));
            next.join().unwrap();
        });
        assert_eq!(bytes(), 0);
        write().unwrap();
        drop(log.begin_read(&other));
        assert!(bytes() > 0, "the next try is not due");
    }
}
