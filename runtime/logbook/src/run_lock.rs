//! The exclusive lock of a run: of the processes that would drive it by themselves, one does.
//!
//! A lock ends with its process, however that ends: the operating system holds it, or the database's session.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use flow::RunId;

/// The exclusive lock of a run, until it is dropped.
pub struct RunLock {
    _held: Box<dyn Send + Sync>,
}

impl RunLock {
    pub(crate) fn new(held: impl Send + Sync + 'static) -> Self {
        Self { _held: Box::new(held) }
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
    loop {
        let file = File::options().create(true).append(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever held it before may have removed it between the two steps: then another file is in its place, or none.
        let in_place = fs::metadata(&path).ok().map(|there| there.ino());
        if in_place == Some(file.metadata()?.ino()) {
            return Ok(Some(RunLock::new(LockedFile { _file: file, path })));
        }
    }
}
