//! The exclusive lock of a run: of the processes that would drive it by themselves, one does.
//!
//! A lock ends with its process, however that ends: the operating system holds it, or the database's session.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use flow::RunId;

/// The exclusive lock of a run, until it is dropped.
pub struct RunLock {
    _handle: Box<dyn Send + Sync>,
}

impl RunLock {
    pub(crate) fn new(held: impl Send + Sync + 'static) -> Self {
        Self { _handle: Box::new(held) }
    }
}

impl std::fmt::Debug for RunLock {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("RunLock")
    }
}

/// A locked file, which goes when the lock is dropped. What a killed process left is taken over.
struct LockedFile {
    _file: File,
    path: PathBuf,
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // Still locked: nobody else can have taken it. One that stays is taken over next time.
        let _ = fs::remove_file(&self.path);
    }
}

/// How often a lock is tried before it counts as held. [`holder`] shares the lock for a moment to look at it.
const TRIES: u32 = 5;

/// The pause between two tries: longer than a look takes.
const PAUSE: Duration = Duration::from_millis(2);

/// Whether a process holds the lock of a run. No file is made; one that is there is locked for a moment, together with others
/// that look.
pub(crate) fn is_locked(folder: &Path, run: &RunId) -> io::Result<bool> {
    let file = match File::open(folder.join(run.as_str())) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Locks a run by a file in a folder; `None` when another process holds it. It blocks for moments.
pub(crate) fn lock_file(folder: &Path, run: &RunId) -> io::Result<Option<RunLock>> {
    fs::create_dir_all(folder)?;
    let path = folder.join(run.as_str());
    let mut tries = 0;
    loop {
        let mut file = File::options().create(true).append(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if tries < TRIES => {
                tries += 1;
                thread::sleep(PAUSE);
                continue;
            }
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever held it before may have removed it between the two steps: then another file is in its place, or none.
        let in_place = fs::metadata(&path).ok().map(|there| there.ino());
        if in_place == Some(file.metadata()?.ino()) {
            // For whoever finds it locked.
            file.set_len(0)?;
            file.write_all(this_process().as_bytes())?;
            return Ok(Some(RunLock::new(LockedFile { _file: file, path })));
        }
    }
}

/// The process that holds the lock of a run, for people; `None` when nobody does. What a killed process left counts as nothing.
pub(crate) fn holder(folder: &Path, run: &RunId) -> io::Result<Option<String>> {
    let path = folder.join(run.as_str());
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        // It ends with the file.
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let text = fs::read_to_string(&path).unwrap_or_default();
            // It may be written in the next moment.
            Ok(Some(if text.is_empty() { "a process that has just started".into() } else { text }))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// This process, as others name it to people.
pub(crate) fn this_process() -> String {
    format!("process {}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_of_a_run_names_its_process_and_a_look_at_it_takes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let run: RunId = "r".parse().unwrap();
        assert_eq!(holder(folder.path(), &run).unwrap(), None);
        let lock = lock_file(folder.path(), &run).unwrap().expect("nobody holds it");
        assert_eq!(holder(folder.path(), &run).unwrap(), Some(this_process()));
        assert!(lock_file(folder.path(), &run).unwrap().is_none());
        drop(lock);
        assert_eq!(holder(folder.path(), &run).unwrap(), None);
        // As a killed process leaves it.
        fs::write(folder.path().join("r"), "process 1").unwrap();
        assert_eq!(holder(folder.path(), &run).unwrap(), None);
    }
}
