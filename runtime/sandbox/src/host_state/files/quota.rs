//! How much a directory holds, and how much calls may add.
//!
//! The size of a directory is that of its files, each rounded up to whole blocks, and one block for each file, directory and link in it.
//! Each operation that lets it grow reserves the growth before. The reserved size is never too small: what shrinks is only noticed when
//! the directory is measured again, at the first growth of a call and when the limit seems to be reached.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt as _, unix::fs::MetadataExt as _},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat},
    io::Errno,
};

use crate::host_state::denied::Denied;

/// The unit in which space is counted, in bytes.
pub(super) const BLOCK: u64 = 4 << 10;

/// The maximum number of files, directories and links of a directory that guests write to: it is measured within some ten milliseconds.
pub(super) const MAX_ENTRIES: usize = 10_000;

/// The maximum depth of a directory that guests write to. Measuring opens one file for each level.
const MAX_DEPTH: usize = 32;

/// What all calls of this process know of a directory.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// The bytes that it has at most; `None` before it is measured. Held while a file grows.
    used: Arc<tokio::sync::Mutex<Option<u64>>>,
    /// The files that calls have open to write. One that has no name any more still needs its space.
    open: Mutex<Vec<Weak<File>>>,
}

/// What one call may add to a directory.
#[derive(Debug, Clone)]
pub(crate) struct Quota {
    root: Arc<File>,
    usage: Arc<Usage>,
    max_bytes: u64,
    name: String,
    /// Whether the call has measured it: others may have changed it before.
    is_measured: Arc<AtomicBool>,
    denied: Denied,
}

/// The counted bytes of a directory, while no other call changes them.
struct Ledger {
    used: tokio::sync::OwnedMutexGuard<Option<u64>>,
    quota: Quota,
}

impl Quota {
    pub(super) fn new(name: &str, root: Arc<File>, usage: Arc<Usage>, max_bytes: u64, denied: Denied) -> Self {
        Self { root, usage, max_bytes, name: name.to_owned(), is_measured: Arc::default(), denied }
    }

    /// Counts the space of an open file, also when it has no name any more.
    pub(super) fn watch(&self, file: &Arc<File>) {
        let mut open = self.usage.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|file| file.strong_count() > 0);
        open.push(Arc::downgrade(file));
    }

    /// Reserves the space of a new file, directory or link.
    ///
    /// # Errors
    /// When the directory is full.
    pub(super) async fn reserve_entry(&self) -> io::Result<()> {
        self.with_ledger(|ledger| ledger.reserve(BLOCK)).await
    }

    /// Writes bytes at a position, or at the end of the file.
    ///
    /// # Errors
    /// When the directory is full, or the file cannot be written.
    pub(super) async fn write(&self, file: Arc<File>, bytes: Bytes, position: Option<u64>) -> io::Result<()> {
        self.with_ledger(move |ledger| {
            let size = file.metadata()?.len();
            let start = position.unwrap_or(size);
            let end = start.checked_add(bytes.len() as u64).ok_or(Errno::FBIG)?;
            ledger.reserve_growth(size, end)?;
            file.write_all_at(&bytes, start)
        })
        .await
    }

    /// Sets the size of a file.
    ///
    /// # Errors
    /// When the directory is full, or the file cannot be changed.
    pub(super) async fn resize(&self, file: Arc<File>, new: u64) -> io::Result<()> {
        self.with_ledger(move |ledger| {
            ledger.reserve_growth(file.metadata()?.len(), new)?;
            file.set_len(new)
        })
        .await
    }

    /// Does something that may let the directory grow, on a thread that may block. It waits for other calls without a thread, and goes on
    /// when the call ends meanwhile.
    async fn with_ledger<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let used = self.usage.used.clone().lock_owned().await;
        let mut ledger = Ledger { used, quota: self.clone() };
        tokio::task::spawn_blocking(move || work(&mut ledger)).await.map_err(io::Error::other)?
    }

    /// Notes that the directory is full.
    fn full(&self, reason: &str) -> io::Error {
        self.denied.note(|| {
            format!(
                "writing to the directory {} is denied: {reason}; an operator allows more with `max` in the [[grant]]",
                self.name
            )
        });
        Errno::NOSPC.into()
    }
}

impl Ledger {
    fn reserve_growth(&mut self, old: u64, new: u64) -> io::Result<()> {
        let blocks = |bytes: u64| bytes.div_ceil(BLOCK);
        self.reserve(blocks(new).saturating_sub(blocks(old)).saturating_mul(BLOCK))
    }

    fn reserve(&mut self, growth: u64) -> io::Result<()> {
        if growth == 0 {
            return Ok(());
        }
        let max = self.quota.max_bytes;
        let is_measured = self.quota.is_measured.swap(true, Ordering::Relaxed);
        let counted = (*self.used).filter(|used| is_measured && used.saturating_add(growth) <= max);
        let used = match counted {
            Some(used) => used,
            None => self.measure()?,
        };
        let reserved = used.saturating_add(growth);
        if reserved > max {
            *self.used = Some(used);
            return Err(self.quota.full(&format!("it would hold {reserved} bytes, the limit is {max}")));
        }
        *self.used = Some(reserved);
        Ok(())
    }

    /// The bytes that the directory has now.
    fn measure(&self) -> io::Result<u64> {
        let mut left = MAX_ENTRIES;
        let too_many =
            || format!("it has more than {MAX_ENTRIES} files and directories, or some that are {MAX_DEPTH} deep");
        let named = measure(self.quota.root.try_clone()?.into(), MAX_DEPTH, &mut left)?;
        let named = named.ok_or_else(|| self.quota.full(&too_many()))?;
        let open = self.quota.usage.open.lock().unwrap_or_else(PoisonError::into_inner);
        let unnamed = open.iter().filter_map(Weak::upgrade).filter_map(|file| file.metadata().ok());
        let unnamed = unnamed.filter(|metadata| metadata.nlink() == 0).map(|metadata| space(metadata.len()));
        Ok(named.saturating_add(unnamed.sum()))
    }
}

/// The space of a file of a size.
fn space(size: u64) -> u64 {
    size.div_ceil(BLOCK).saturating_add(1).saturating_mul(BLOCK)
}

/// The bytes in a directory; `None` if it has too many entries, or is too deep.
fn measure(directory: OwnedFd, depth: usize, left: &mut usize) -> io::Result<Option<u64>> {
    let mut total = 0_u64;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Some(fewer) = left.checked_sub(1) else { return Ok(None) };
        *left = fewer;
        // What is gone meanwhile has no size.
        let Ok(stat) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let size = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let Some(depth) = depth.checked_sub(1) else { return Ok(None) };
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = match openat(&directory, name, flags, Mode::empty()) {
                    Ok(inner) => measure(inner, depth, left)?,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Some(0),
                    Err(error) => return Err(error.into()),
                };
                let Some(inner) = inner else { return Ok(None) };
                inner.saturating_add(BLOCK)
            }
            FileType::RegularFile => space(u64::try_from(stat.st_size).unwrap_or(u64::MAX)),
            _ => BLOCK,
        };
        total = total.saturating_add(size);
    }
    Ok(Some(total))
}

/// The directories that calls of this process write to, by their paths: calls that share a directory share its count.
#[derive(Debug, Default)]
pub struct DirectoryUsages(Mutex<std::collections::BTreeMap<PathBuf, Weak<Usage>>>);

impl DirectoryUsages {
    pub(super) fn of(&self, path: &PathBuf) -> Arc<Usage> {
        let mut usages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        usages.retain(|_, usage| usage.strong_count() > 0);
        if let Some(usage) = usages.get(path).and_then(Weak::upgrade) {
            return usage;
        }
        let usage = Arc::new(Usage::default());
        usages.insert(path.clone(), Arc::downgrade(&usage));
        usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(folder: &std::path::Path, max_bytes: u64) -> (Quota, Denied) {
        let denied = Denied::default();
        let root = Arc::new(File::open(folder).unwrap());
        (Quota::new("data", root, Arc::default(), max_bytes, denied.clone()), denied)
    }

    fn file(folder: &std::path::Path, name: &str) -> Arc<File> {
        let options = std::fs::OpenOptions::new().create(true).write(true).truncate(false).open(folder.join(name));
        Arc::new(options.unwrap())
    }

    #[tokio::test]
    async fn a_directory_grows_to_its_limit_and_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let (quota, denied) = quota(folder.path(), 4 * BLOCK);
        let one = file(folder.path(), "one");
        // The file has a block for its name, and two for its bytes.
        quota.write(one.clone(), vec![0; 5_000].into(), None).await.unwrap();
        quota.write(one.clone(), vec![1; 4_999].into(), Some(1)).await.expect("it does not grow");
        let error = quota.write(one.clone(), vec![0; 9_000].into(), None).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let reason = denied.first().unwrap();
        assert!(reason.starts_with("writing to the directory data is denied: it would hold "), "{reason}");
        assert_eq!(one.metadata().unwrap().len(), 5_000, "nothing was written");
        assert!(quota.resize(one.clone(), 1 << 40).await.is_err(), "a hole counts too");
        assert!(quota.write(one.clone(), vec![0].into(), Some(u64::MAX)).await.is_err());
        // A file that shrinks frees its bytes.
        quota.resize(one.clone(), 0).await.unwrap();
        quota.write(one, vec![0; 9_000].into(), None).await.unwrap();
        assert!(quota.reserve_entry().await.is_err());
    }

    #[tokio::test]
    async fn an_open_file_without_a_name_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (quota, _) = quota(folder.path(), 4 * BLOCK);
        let one = file(folder.path(), "one");
        quota.watch(&one);
        quota.write(one.clone(), vec![0; 9_000].into(), None).await.unwrap();
        std::fs::remove_file(folder.path().join("one")).unwrap();
        let two = file(folder.path(), "two");
        assert!(quota.write(two.clone(), vec![0; 9_000].into(), None).await.is_err());
        drop(one);
        quota.write(two, vec![0; 9_000].into(), None).await.unwrap();
    }

    #[tokio::test]
    async fn links_and_inner_directories_count_without_being_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (quota, _) = quota(folder.path(), 5 * BLOCK);
        std::fs::create_dir(folder.path().join("inner")).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("inner/root")).unwrap();
        std::os::unix::fs::symlink(".", folder.path().join("loop")).unwrap();
        for name in ["one", "two"] {
            quota.reserve_entry().await.unwrap();
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert!(quota.reserve_entry().await.is_err());
        let mut deep = folder.path().to_owned();
        for _ in 0..=MAX_DEPTH {
            deep.push("d");
            std::fs::create_dir(&deep).unwrap();
        }
        assert!(quota.reserve_entry().await.is_err());
    }
}
