//! The exclusive lock of a run: only one of several processes without a broker drives the run.
//!
//! A lock ends with its process, however the process ends: the operating system or the database's session holds it.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use flow::RunId;

/// The exclusive lock of a run, held until dropped.
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

/// A locked file, which is removed when the lock is dropped. The next process takes over the file of a killed process.
struct LockedFile {
    _file: File,
    path: PathBuf,
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // The file is still locked, so no other process has locked it. If the removal fails, the next process takes over
        // the file.
        let _ = fs::remove_file(&self.path);
    }
}

/// The number of attempts before a lock counts as held. [`holder`] shares the lock for a moment to read it.
const MAX_ATTEMPTS: u32 = 5;

/// The pause between two attempts: longer than [`holder`] needs.
const PAUSE: Duration = Duration::from_millis(2);

/// Whether a process holds the lock of a run. Creates no file; an existing file is share-locked for a moment.
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

/// Locks a run with a file in a folder; `None` if another process holds the lock. Blocks for some milliseconds.
pub(crate) fn lock_file(folder: &Path, run: &RunId) -> io::Result<Option<RunLock>> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(run.as_str());
    let mut attempts = 0;
    loop {
        let mut file = File::options().create(true).append(true).mode(0o600).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if attempts < MAX_ATTEMPTS => {
                attempts += 1;
                thread::sleep(PAUSE);
                continue;
            }
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // The previous holder may have removed the file between the two steps: then the path has another file or none.
        let current = fs::metadata(&path).ok().map(|metadata| metadata.ino());
        if current == Some(file.metadata()?.ino()) {
            // The content is for processes that find the run locked.
            file.set_len(0)?;
            file.write_all(this_process().as_bytes())?;
            return Ok(Some(RunLock::new(LockedFile { _file: file, path })));
        }
    }
}

/// The process that holds the lock of a run, for people; `None` if the lock is free. The file of a killed process counts as
/// free.
pub(crate) fn holder(folder: &Path, run: &RunId) -> io::Result<Option<String>> {
    let path = folder.join(run.as_str());
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        // The shared lock ends when the file is closed.
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let text = fs::read_to_string(&path).unwrap_or_default();
            // The holder may not have written its name yet.
            Ok(Some(if text.is_empty() { "a process that has just started".into() } else { text }))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The name of this process, shown to people by other processes.
pub(crate) fn this_process() -> String {
    format!("process {}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_of_a_run_names_its_process_and_reading_it_does_not_lock() {
        let folder = tempfile::tempdir().unwrap();
        let run: RunId = "r".parse().unwrap();
        assert_eq!(holder(folder.path(), &run).unwrap(), None);
        let lock = lock_file(folder.path(), &run).unwrap().expect("the lock is free");
        assert_eq!(holder(folder.path(), &run).unwrap(), Some(this_process()));
        assert!(lock_file(folder.path(), &run).unwrap().is_none());
        drop(lock);
        assert_eq!(holder(folder.path(), &run).unwrap(), None);
        // A killed process leaves its file behind.
        fs::write(folder.path().join("r"), "process 1").unwrap();
        assert_eq!(holder(folder.path(), &run).unwrap(), None);
    }
}
