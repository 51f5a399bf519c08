//! The engine lock: keeps two engines without a shared broker from driving the runs of one logbook.
//!
//! Engines that share a broker divide the runs among themselves, and share the lock. An engine without a broker cannot
//! coordinate with others, so its lock is exclusive. SQLite uses a lock file beside the database; PostgreSQL uses an
//! advisory lock.

use std::{
    fs::{File, TryLockError},
    future,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    OpenError,
    address::{Address, parse},
    postgres::SessionLock,
};

/// Whether an engine drives the runs of a logbook alone or together with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// The engine is alone.
    Exclusive,
    /// Other engines may share the lock.
    Shared,
}

/// The right of an engine to drive the runs of a logbook, held until dropped.
#[derive(Debug)]
pub struct EngineLock(LockHandle);

#[derive(Debug)]
enum LockHandle {
    /// The logbook is private to this process.
    InProcess,
    File(#[expect(dead_code, reason = "it holds the lock for as long as it is open")] File),
    Session(Box<SessionLock>),
}

impl EngineLock {
    /// Takes the lock of the logbook at an address.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another process has the lock and does not share it.
    pub async fn take(url: &str, mode: LockMode) -> Result<Self, OpenError> {
        Ok(Self(match parse(url)? {
            Address::Memory => LockHandle::InProcess,
            Address::Sqlite(path) => LockHandle::File(lock_file(path, mode)?),
            Address::Postgres(url) => LockHandle::Session(Box::new(Box::pin(SessionLock::take(url, mode)).await?)),
        }))
    }

    /// Waits until another process has the lock instead, and returns that error. While this future is awaited, it retakes a
    /// lock that ended with its database connection. Dropping the future is safe.
    pub async fn lost(&mut self) -> OpenError {
        match &mut self.0 {
            LockHandle::InProcess | LockHandle::File(_) => future::pending().await,
            LockHandle::Session(session) => session.lost().await,
        }
    }
}

/// The path of a file beside a database. All links to the database lead to the same file.
pub(crate) fn sibling_path(database: &Path, suffix: &str) -> PathBuf {
    // A database that does not exist yet has no links.
    let mut path = database.canonicalize().unwrap_or_else(|_| database.to_owned());
    path.as_mut_os_string().push(suffix);
    path
}

/// Locks the file beside a database. The operating system unlocks it when the process ends.
fn lock_file(path: PathBuf, mode: LockMode) -> Result<File, OpenError> {
    let path = sibling_path(&path, ".lock");
    let unavailable = |error: std::io::Error| OpenError::Unavailable {
        location: path.display().to_string(),
        reason: error.to_string(),
    };
    let file = File::options().create(true).append(true).mode(0o600).open(&path).map_err(unavailable)?;
    let locked = match mode {
        LockMode::Exclusive => file.try_lock(),
        LockMode::Shared => file.try_lock_shared(),
    };
    match locked {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { location: path.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(unavailable(error)),
    }
}

/// Checks the rules that the lock of every logbook follows.
///
/// # Panics
/// When a logbook violates a rule.
#[cfg(test)]
pub(crate) async fn check_rules(url: &str) {
    use LockMode::{Exclusive, Shared};

    let is_locked = async |mode| match EngineLock::take(url, mode).await {
        Err(OpenError::Locked { .. }) => true,
        Ok(_) => false,
        Err(error) => panic!("{error}"),
    };
    let exclusive = EngineLock::take(url, Exclusive).await.expect("the lock is free");
    assert!(is_locked(Exclusive).await && is_locked(Shared).await, "it is exclusive");
    drop(exclusive);
    // A server may notice the end of a connection late.
    while is_locked(Shared).await {
        tokio::task::yield_now().await;
    }
    let _one = EngineLock::take(url, Shared).await.expect("no process has it exclusively");
    let _other = EngineLock::take(url, Shared).await.expect("it is shared");
    assert!(is_locked(Exclusive).await, "the others share it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_exclusive_lock_keeps_other_engines_out() {
        let folder = tempfile::tempdir().unwrap();
        check_rules(&format!("sqlite:{}", folder.path().join("a.db").display())).await;
    }

    #[tokio::test]
    async fn a_symlinked_logbook_shares_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a.db"), folder.path().join("link.db"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let _one = EngineLock::take(&format!("sqlite:{}", file.display()), LockMode::Exclusive).await.unwrap();
        let other = EngineLock::take(&format!("sqlite:{}", link.display()), LockMode::Exclusive).await;
        assert!(matches!(other, Err(OpenError::Locked { .. })), "{other:?}");
    }

    #[tokio::test]
    async fn a_memory_logbook_needs_no_lock() {
        let _one = EngineLock::take("memory:", LockMode::Exclusive).await.unwrap();
        EngineLock::take("memory:", LockMode::Exclusive).await.unwrap();
    }
}
