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

/// The minimum time between two tries. It doubles as long as something else keeps the log large, such as another process that reads.
const PAUSE: Duration = Duration::from_secs(10);

/// The maximum time between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(160);

/// How long a try waits for other connections, and how long appends may wait for it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Moves what no connection needs any more into the file. It waits for nobody.
const MOVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Moves everything into the file, and empties the log if no connection reads it.
const EMPTY: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// The write-ahead log of a file, as the reads of clients see it.
pub(super) struct WriteAheadLog {
    path: PathBuf,
    max_bytes: u64,
    /// Each read of a client shares it; emptying the log has it alone.
    reads: RwLock<()>,
    tries: Mutex<Tries>,
}

/// When the log may be emptied.
struct Tries {
    /// Whether a read tries it now.
    is_trying: bool,
    /// When the next try is due; `None` before the first one.
    next_at: Option<Instant>,
    /// The time from the end of the last try to the next one.
    pause: Duration,
}

impl WriteAheadLog {
    /// The log of a logbook's file.
    pub(super) fn of(file: &Path, max_bytes: u64) -> Self {
        let tries = Tries { is_trying: false, next_at: None, pause: PAUSE };
        Self { path: sibling_path(file, "-wal"), max_bytes, reads: RwLock::new(()), tries: Mutex::new(tries) }
    }

    /// Begins a read of a client, which ends when the guard is dropped. If the log is large, it waits for the others, and empties the log.
    pub(super) fn begin_read(&self, connection: &Connection) -> RwLockReadGuard<'_, ()> {
        if self.is_large() && self.begin_try() {
            // Others read on while most of the log is moved. Best effort: if another process reads the log, or the disk fails, the next
            // try follows.
            let _ = checkpoint(connection, MOVE);
            let alone = self.reads.write().unwrap_or_else(PoisonError::into_inner);
            let _ = empty(connection);
            drop(alone);
            self.end_try();
        }
        self.reads.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_large(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| file.len() >= self.max_bytes)
    }

    /// Whether the next try is due. It is the caller's then.
    fn begin_try(&self) -> bool {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = !tries.is_trying && tries.next_at.is_none_or(|next_at| Instant::now() >= next_at);
        tries.is_trying |= is_due;
        is_due
    }

    /// Ends a try. The pause begins now: the try may have waited for slow reads, and all reads have waited for it.
    fn end_try(&self) {
        let is_large = self.is_large();
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.is_trying = false;
        tries.pause = if is_large { MAX_PAUSE.min(2 * tries.pause) } else { PAUSE };
        tries.next_at = Some(Instant::now() + tries.pause);
    }
}

/// Moves the log into the file, and empties it if no connection reads it.
fn empty(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    // Appends wait for the second step only, which has little left to move.
    let emptied = checkpoint(connection, MOVE).and_then(|()| checkpoint(connection, EMPTY));
    connection.busy_timeout(BUSY_TIMEOUT)?;
    emptied
}

fn checkpoint(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    // The row says whether another connection was in the way.
    connection.query_row(sql, [], |_| Ok(()))
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
        log.tries.lock().unwrap().next_at = Some(Instant::now() + PAUSE);
        let slow = log.begin_read(&other);
        let view = other.unchecked_transaction().unwrap();
        let number = view.query_row("SELECT number FROM checks", [], |row| row.get::<_, i64>(0)).unwrap();
        write().unwrap();
        log.tries.lock().unwrap().next_at = None;
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

    #[test]
    fn a_log_that_others_keep_large_is_tried_less_and_less_often() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("logbook.db");
        let writer = open_writer(&path).unwrap();
        writer.execute_batch(WRITE).unwrap();
        let (reader, other) = (open_client_reader(&path).unwrap(), open_client_reader(&path).unwrap());
        // It reads like another process: the log does not know of it.
        let view = other.unchecked_transaction().unwrap();
        view.query_row("SELECT number FROM checks", [], |row| row.get::<_, i64>(0)).unwrap();
        writer.execute_batch(WRITE).unwrap();
        let log = WriteAheadLog::of(&path, 1);
        let try_now = || {
            log.tries.lock().unwrap().next_at = None;
            drop(log.begin_read(&reader));
            let tries = log.tries.lock().unwrap();
            assert!(!tries.is_trying && tries.next_at.is_some());
            tries.pause
        };
        assert_eq!([try_now(), try_now()], [2 * PAUSE, 4 * PAUSE]);
        drop(view);
        assert_eq!(try_now(), PAUSE, "it is empty");
        assert_eq!(fs::metadata(sibling_path(&path, "-wal")).unwrap().len(), 0);
    }
}
