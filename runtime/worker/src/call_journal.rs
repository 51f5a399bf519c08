//! Remembers the running calls in a file, so that a call that killed its process is known after the next start.
//!
//! A broker counts how often a job was delivered and not answered. A broker that ends with its process cannot: the job is a
//! new one after each start. So without this file, a call that kills its process would do so at each start, for ever. A call
//! under a lease needs no entry: the records of its run count its losses.
//!
//! The file has entries of one size, each for one call: its id, and how often it was running when the process died. An entry is
//! written when a call begins, and emptied when it has ended. The operating system keeps what a killed process has written.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flow::CallId;
use tracing::warn;

/// The size of an entry in bytes. A call id has five parts, of which two are names of up to a hundred bytes.
const ENTRY: usize = 512;

/// Maximum number of calls whose losses are remembered. The oldest ones beyond it are forgotten.
const MAX_LOST: usize = 1_000;

/// The running calls of a process, in a file.
#[derive(Debug)]
pub struct CallJournal {
    file: File,
    state: Mutex<JournalState>,
}

#[derive(Debug, Default)]
struct JournalState {
    /// For each call that was running when its process died: the number of times, and its entry.
    lost: BTreeMap<String, (u32, u64)>,
    /// The empty entries before `end`.
    empty: Vec<u64>,
    /// The number of entries in the file.
    end: u64,
}

/// A running call. Dropping it means that the call has ended.
#[derive(Debug)]
pub(crate) struct RunningCall {
    journal: Arc<CallJournal>,
    entry: u64,
}

impl CallJournal {
    /// Opens the file of a process that has died or ended, and creates it if it is missing. Each call that was running counts
    /// as lost once more. Only one process may use the file.
    ///
    /// # Errors
    /// The error of the operating system when the file cannot be read or written.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut lost = read_entries(path)?;
        lost.drain(..lost.len().saturating_sub(MAX_LOST));
        // A process that dies here leaves the old file.
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let journal = Self { file, state: Mutex::default() };
        for (call, times) in lost {
            let mut state = journal.state();
            let entry = state.end;
            state.end += 1;
            journal.write(entry, &call, times)?;
            state.lost.insert(call, (times, entry));
        }
        fs::rename(new, path)?;
        Ok(journal)
    }

    /// How often a call was running when its process died.
    pub(crate) fn times_lost(&self, call: &CallId) -> u32 {
        self.state().lost.get(&call.to_string()).map_or(0, |(times, _)| *times)
    }

    /// Notes that a call begins.
    pub(crate) fn begin(self: &Arc<Self>, call: &CallId) -> RunningCall {
        let call = call.to_string();
        let (times, entry) = {
            let mut state = self.state();
            let (times, entry) = state.lost.remove(&call).map_or((0, None), |(times, entry)| (times, Some(entry)));
            let entry = entry.or_else(|| state.empty.pop()).unwrap_or_else(|| {
                state.end += 1;
                state.end - 1
            });
            (times, entry)
        };
        // A full disk must not stop the work: the call then counts as lost less often.
        if let Err(error) = self.write(entry, &call, times.saturating_add(1)) {
            warn!(%error, "a running call was not noted");
        }
        RunningCall { journal: self.clone(), entry }
    }

    fn write(&self, entry: u64, call: &str, times: u32) -> io::Result<()> {
        let mut bytes = format!("{times} {call}\n").into_bytes();
        bytes.resize(ENTRY, 0);
        self.file.write_all_at(&bytes, entry * ENTRY as u64)
    }

    fn state(&self) -> MutexGuard<'_, JournalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        match self.journal.file.write_all_at(&[0; ENTRY], self.entry * ENTRY as u64) {
            Ok(()) => self.journal.state().empty.push(self.entry),
            Err(error) => warn!(%error, "an ended call was not noted"),
        }
    }
}

/// The calls in a file that were lost, each with the number of times. Entries that cannot be read are passed over.
fn read_entries(path: &Path) -> io::Result<Vec<(String, u32)>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let entry = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes.split(|byte| *byte == b'\n').next()?).ok()?;
        let (times, call) = text.split_once(' ')?;
        Some((call.to_owned(), times.parse().ok()?))
    };
    Ok(bytes.chunks(ENTRY).filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use flow::{Action, Attempt, Firing};

    use super::*;

    fn call(run: &str) -> CallId {
        CallId {
            run: run.parse().expect("a valid id"),
            task: "t".repeat(100).parse().expect("a valid name"),
            firing: Firing::new(u64::MAX),
            attempt: Attempt::new(u32::MAX),
            action: Action::Rollback,
        }
    }

    #[test]
    fn calls_that_run_when_the_process_dies_are_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state/calls");
        let (deadly, harmless) = (call(&"r".repeat(100)), call("s"));
        for times in 0..4 {
            let journal = Arc::new(CallJournal::open(&path).expect("it opens"));
            assert_eq!((journal.times_lost(&deadly), journal.times_lost(&harmless)), (times, 0));
            drop(journal.begin(&harmless));
            let running = journal.begin(&deadly);
            let beside = journal.begin(&harmless);
            assert_ne!(running.entry, beside.entry);
            drop(beside);
            // The process dies.
            std::mem::forget(running);
        }
        let journal = Arc::new(CallJournal::open(&path).expect("it opens"));
        assert_eq!(journal.times_lost(&deadly), 4);
        drop(CallJournal::open(&path).expect("it opens"));
        let journal_of_next = Arc::new(CallJournal::open(&path).expect("it opens"));
        assert_eq!(journal_of_next.times_lost(&deadly), 4, "a start without the call does not count");
        drop(journal_of_next.begin(&deadly));
        assert_eq!(Arc::new(CallJournal::open(&path).expect("it opens")).times_lost(&deadly), 0, "it has ended");
    }

    #[test]
    fn a_damaged_file_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("calls");
        std::fs::write(&path, [b"x".repeat(ENTRY), b"2 a.b.1.1.apply\n".to_vec()].concat()).expect("it is written");
        let journal = CallJournal::open(&path).expect("it opens");
        assert_eq!(journal.state().lost.get("a.b.1.1.apply"), Some(&(2, 0)));
    }
}
