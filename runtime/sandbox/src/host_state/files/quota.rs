//! How much a directory holds, and how much calls may add.
//!
//! The size of a directory is that of its files, each rounded up to whole blocks, and one block for each file, directory and link in it.
//! Each operation that lets it grow reserves the growth before, and all of them wait for each other. So calls of this process never
//! count too little: what shrinks is only noticed when the directory is measured again, at the first growth of a call and when a
//! limit seems to be reached. What other programs add is noticed then too.

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
    process::{Resource, getrlimit},
};
use wasmtime_wasi::filesystem::Descriptor;

use super::open::{Opening, Place};
use crate::host_state::denied::Denied;

/// The unit in which space is counted, in bytes.
pub(super) const BLOCK: u64 = 4 << 10;

/// The maximum number of files, directories and links up to which calls fill a directory: it is measured within some ten
/// milliseconds. Other programs may put more there; then calls add nothing.
pub(super) const MAX_ENTRIES: usize = 10_000;

/// The maximum depth up to which calls nest directories. Measuring opens one file for each level.
const MAX_DEPTH: usize = 32;

/// What all calls of this process know of a directory.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// What it holds at most; `None` before it is measured. Held while it may grow.
    counted: Arc<tokio::sync::Mutex<Option<Count>>>,
    /// The files that calls have open. One that has no name any more still needs its space.
    open: Mutex<Vec<Weak<File>>>,
}

/// What is in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Count {
    bytes: u64,
    entries: usize,
}

/// A new file, directory or link, without the bytes of a file.
const ENTRY: Count = Count { bytes: BLOCK, entries: 1 };

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

/// What is counted of a directory, while no other call changes it.
struct Ledger {
    counted: tokio::sync::OwnedMutexGuard<Option<Count>>,
    quota: Quota,
}

impl Usage {
    /// Opens something, and counts the space of a file as long as it is open, also when it has no name any more.
    pub(super) fn open(&self, open: impl FnOnce() -> io::Result<Descriptor>) -> io::Result<Descriptor> {
        let mut files = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody measures meanwhile: the file may lose its name as soon as it is open.
        let opened = open()?;
        if let Descriptor::File(file) = &opened {
            if files.len() == files.capacity() {
                files.retain(|file| file.strong_count() > 0);
            }
            files.push(Arc::downgrade(&file.file));
        }
        Ok(opened)
    }

    /// The space of the open files that have no name any more.
    fn unnamed_bytes(&self) -> u64 {
        let files = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = files.iter().filter_map(Weak::upgrade).filter_map(|file| file.metadata().ok());
        open.filter(|metadata| metadata.nlink() == 0).map(|metadata| space(metadata.len())).sum()
    }
}

impl Quota {
    pub(super) fn new(name: &str, root: Arc<File>, usage: Arc<Usage>, max_bytes: u64, denied: Denied) -> Self {
        Self { root, usage, max_bytes, name: name.to_owned(), is_measured: Arc::default(), denied }
    }

    /// Opens what a guest may make or truncate.
    ///
    /// # Errors
    /// When the directory is full, or the path cannot be opened.
    pub(super) async fn open(&self, opening: Opening) -> io::Result<Option<Descriptor>> {
        self.with_ledger(move |ledger| {
            let usage = ledger.quota.usage.clone();
            let opened = opening.open(&usage, || ledger.reserve(ENTRY))?;
            if opening.how.truncates
                && let Some(Descriptor::File(file)) = &opened
            {
                file.file.set_len(0)?;
            }
            Ok(opened)
        })
        .await
    }

    /// Creates a directory at a path that begins in an open directory.
    ///
    /// # Errors
    /// When the directory is full, the new one would be too deep, or it cannot be created.
    pub(super) async fn create_directory(&self, start: Arc<File>, path: String) -> io::Result<()> {
        self.with_ledger(move |ledger| {
            let place = Place::find(&start, &path)?;
            place.check_free()?;
            ledger.check_depth(&place)?;
            ledger.reserve(ENTRY)?;
            place.create_directory().inspect_err(|_| ledger.give_back(ENTRY))
        })
        .await
    }

    /// Renames what is at a path, each path with the open directory in which it begins.
    ///
    /// # Errors
    /// When a directory would be too deep, or it cannot be renamed.
    pub(super) async fn rename(
        &self,
        (start, path): (Arc<File>, String),
        (new_start, new_path): (Arc<File>, String),
    ) -> io::Result<()> {
        self.with_ledger(move |ledger| {
            let (from, to) = (Place::find(&start, &path)?, Place::find(&new_start, &new_path)?);
            if let Some(moved) = from.open_directory()? {
                let depth = ledger.check_depth(&to)?;
                let is_deeper = from.depth_below(&ledger.quota.root, depth)?.is_some_and(|old| old < depth);
                if is_deeper && measure(moved, MAX_DEPTH - depth, &mut { MAX_ENTRIES })?.is_none() {
                    return Err(ledger.too_deep());
                }
            }
            from.rename_to(&to)
        })
        .await
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
    /// when the call ends meanwhile. All other calls wait behind it, so it is a task of its own: a guest is not polled while its call waits
    /// for a slot, which one of the other calls may have.
    async fn with_ledger<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let quota = self.clone();
        let working = wasmtime_wasi::runtime::spawn(async move {
            let counted = quota.usage.counted.clone().lock_owned().await;
            let mut ledger = Ledger { counted, quota };
            tokio::task::spawn_blocking(move || work(&mut ledger)).await.map_err(io::Error::other)?
        });
        working.await
    }

    /// Notes why the directory takes no more.
    fn refuse(&self, reason: &str) -> io::Error {
        self.denied.note(|| format!("writing to the directory {} is denied: {reason}", self.name));
        Errno::NOSPC.into()
    }
}

impl Count {
    fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), entries: self.entries.saturating_add(other.entries) }
    }
}

impl Ledger {
    fn reserve_growth(&mut self, old: u64, new: u64) -> io::Result<()> {
        let blocks = |bytes: u64| bytes.div_ceil(BLOCK);
        let bytes = blocks(new).saturating_sub(blocks(old)).saturating_mul(BLOCK);
        self.reserve(Count { bytes, entries: 0 })
    }

    fn reserve(&mut self, growth: Count) -> io::Result<()> {
        if growth == Count::default() {
            return Ok(());
        }
        let max = self.quota.max_bytes;
        let fits = |count: &Count| count.bytes <= max && count.entries <= MAX_ENTRIES;
        let is_measured = self.quota.is_measured.load(Ordering::Relaxed);
        let counted = self.counted.filter(|_| is_measured).map(|counted| counted.plus(growth)).filter(fits);
        let reserved = match counted {
            Some(reserved) => reserved,
            None => {
                // Nobody may rely on the old count if this fails.
                *self.counted = None;
                let measured = self.measure()?;
                *self.counted = Some(measured);
                self.quota.is_measured.store(true, Ordering::Relaxed);
                measured.plus(growth)
            }
        };
        if reserved.bytes > max {
            return Err(self.quota.refuse(&format!(
                "it would hold {} bytes, the limit is {max}; an operator allows more with `max` in the [[grant]]",
                reserved.bytes
            )));
        }
        if reserved.entries > MAX_ENTRIES {
            return Err(self.too_many());
        }
        *self.counted = Some(reserved);
        Ok(())
    }

    /// Takes a reservation back: nothing has grown.
    fn give_back(&mut self, Count { bytes, entries }: Count) {
        if let Some(counted) = &mut *self.counted {
            counted.bytes = counted.bytes.saturating_sub(bytes);
            counted.entries = counted.entries.saturating_sub(entries);
        }
    }

    /// Checks that a directory at a place is not too deep; returns how deep it is.
    fn check_depth(&self, place: &Place<'_>) -> io::Result<usize> {
        let parent = place.depth_below(&self.quota.root, MAX_DEPTH - 1)?;
        parent.map(|parent| parent + 1).ok_or_else(|| self.too_deep())
    }

    /// What is in the directory now.
    fn measure(&self) -> io::Result<Count> {
        let named = measure(self.quota.root.try_clone()?.into(), MAX_DEPTH, &mut { MAX_ENTRIES })?;
        let named = named.ok_or_else(|| self.too_many())?;
        Ok(named.plus(Count { bytes: self.quota.usage.unnamed_bytes(), entries: 0 }))
    }

    fn too_many(&self) -> io::Error {
        self.quota.refuse(&format!(
            "it has no place for more than {MAX_ENTRIES} files and directories, or for some that are more than {MAX_DEPTH} deep"
        ))
    }

    fn too_deep(&self) -> io::Error {
        self.quota.refuse(&format!("a directory would be more than {MAX_DEPTH} deep in it"))
    }
}

/// The space of a file of a size.
fn space(size: u64) -> u64 {
    size.div_ceil(BLOCK).saturating_add(1).saturating_mul(BLOCK)
}

/// What is in a directory; `None` if it has too many entries, or is too deep.
fn measure(directory: OwnedFd, depth: usize, left: &mut usize) -> io::Result<Option<Count>> {
    let mut total = Count::default();
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
        let inner = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let Some(depth) = depth.checked_sub(1) else { return Ok(None) };
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = match openat(&directory, name, flags, Mode::empty()) {
                    Ok(inner) => measure(inner, depth, left)?,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Some(Count::default()),
                    Err(error) => return Err(error.into()),
                };
                let Some(inner) = inner else { return Ok(None) };
                inner
            }
            FileType::RegularFile => {
                let blocks = u64::try_from(stat.st_size).unwrap_or(u64::MAX).div_ceil(BLOCK);
                Count { bytes: blocks.saturating_mul(BLOCK), entries: 0 }
            }
            _ => Count::default(),
        };
        total = total.plus(ENTRY).plus(inner);
    }
    Ok(Some(total))
}

/// The directories that calls of this process use.
#[derive(Debug)]
pub struct DirectoryUsages {
    /// By their paths: calls that share a directory share its count.
    usages: Mutex<std::collections::BTreeMap<PathBuf, Weak<Usage>>>,
    /// The places of the files that all calls have open.
    open_files: Arc<tokio::sync::Semaphore>,
}

/// Calls have a quarter of the files that this process may open. The rest is for the connections of the process, and its own files.
impl Default for DirectoryUsages {
    fn default() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 4;
        let places = usize::try_from(limit).unwrap_or(usize::MAX).min(tokio::sync::Semaphore::MAX_PERMITS);
        Self { usages: Mutex::default(), open_files: Arc::new(tokio::sync::Semaphore::new(places)) }
    }
}

impl DirectoryUsages {
    pub(super) fn open_files(&self) -> Arc<tokio::sync::Semaphore> {
        self.open_files.clone()
    }

    pub(super) fn of(&self, path: &PathBuf) -> Arc<Usage> {
        let mut usages = self.usages.lock().unwrap_or_else(PoisonError::into_inner);
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
mod tests;
