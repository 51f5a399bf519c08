//! Content in files that are named by their digest: what the directory and the cache share.
//!
//! ```text
//! format             waft-store 1
//! sha256/ab/abcd…    one content each, by the hex digits of its digest
//! tags/NAME          the digest that a tag stands for
//! incoming/          what is being written
//! lock               locked by who removes something, and shared by who puts or touches something
//! ```
//!
//! Several processes use one folder without knowing of one another: a file is written under `incoming`, synced, and
//! renamed to its place, so that what is there is whole. What a process that died left under `incoming` is removed by
//! whoever opens the folder a while later. All of it blocks.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use flow::Digest;
use tracing::{debug, warn};

use crate::{Entry, FetchError, ListError, PutError, digest::digest_of};

/// What the file `format` says.
const FORMAT: &str = "waft-store 1\n";

/// How long ago something under `incoming` was last written to when nobody writes it any more: no writer pauses for
/// as long as this.
const STALE_AFTER: Duration = Duration::from_secs(60 * 60);

/// Why a folder cannot be used as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It could not be made, or not read and written.
    #[error("could not set up {}", path.display())]
    SetUp {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is of a format that this build does not know.
    #[error("{} is a store of another format, {format:?}: upgrade waft", path.display())]
    Format {
        /// The folder.
        path: PathBuf,
        /// What it says of itself.
        format: String,
    },
}

/// A folder of content.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Makes the folder if it is not there, and removes what dead processes left in it.
    pub(crate) fn open(root: PathBuf) -> Result<Self, OpenError> {
        let folder = Self { root };
        for part in [folder.content(), folder.tags(), folder.incoming()] {
            fs::create_dir_all(&part).map_err(|source| OpenError::SetUp { path: part, source })?;
        }
        folder.check_format()?;
        folder.remove_stale(SystemTime::now());
        Ok(folder)
    }

    /// Opens the folder for somebody who only reads: nothing is made, and a folder that is not there has nothing in it.
    pub(crate) fn open_to_read(root: PathBuf) -> Result<Self, OpenError> {
        let folder = Self { root };
        folder.has_format()?;
        Ok(folder)
    }

    fn check_format(&self) -> Result<(), OpenError> {
        if self.has_format()? {
            return Ok(());
        }
        let path = self.root.join("format");
        self.write_atomic(&path, FORMAT.as_bytes()).map_err(|source| OpenError::SetUp { path, source })
    }

    /// Whether the folder says its format, which has to be ours.
    fn has_format(&self) -> Result<bool, OpenError> {
        let path = self.root.join("format");
        let known = match fs::read(&path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim_end().chars().take(80).collect::<String>())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        match known {
            Ok(Some(format)) if format == FORMAT.trim_end() => Ok(true),
            Ok(Some(format)) => Err(OpenError::Format { path: self.root.clone(), format }),
            Ok(None) => Ok(false),
            Err(source) => Err(OpenError::SetUp { path, source }),
        }
    }

    /// Removes what nobody writes any more. Another process may do the same; what cannot be removed does no harm.
    fn remove_stale(&self, now: SystemTime) {
        let Ok(incoming) = fs::read_dir(self.incoming()) else { return };
        for file in incoming.flatten() {
            let written = file.metadata().and_then(|metadata| metadata.modified());
            let age = written.ok().and_then(|written| now.duration_since(written).ok());
            if age.is_some_and(|age| age >= STALE_AFTER) && fs::remove_file(file.path()).is_ok() {
                debug!(file = %file.path().display(), "removed what a process that died had left half written");
            }
        }
    }

    fn content(&self) -> PathBuf {
        self.root.join("sha256")
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// The folder of the tags.
    pub(crate) fn tags(&self) -> PathBuf {
        self.root.join("tags")
    }

    /// The file of a content.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        // Shelves of their own for each first byte: no folder grows too large for those who list it.
        self.content().join(&hex[..2]).join(hex)
    }

    /// Writes a file that appears under its name whole or not at all, and lasts from then on.
    pub(crate) fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // Others may read it, as far as this process's mask lets them.
        let permissions = Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(self.incoming())?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        let shelf = path.parent().expect("the files of a store are in folders of their own");
        fs::create_dir_all(shelf)?;
        file.persist(path)?;
        sync_name(path)
    }

    /// Makes sure these bytes are there. What is there in their place and differs is replaced.
    pub(crate) fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<(), PutError> {
        let path = self.path(digest);
        let _with_others = self.lock(File::lock_shared);
        let written = match fs::read(&path) {
            Ok(known) if known == bytes => self.refresh(digest, &path, bytes),
            Ok(_) => {
                warn!(%digest, path = %path.display(), "other bytes are in the place of a module; they are replaced");
                self.write_atomic(&path, bytes)
            }
            // Whatever keeps it from being read and is no obstacle to writing it anew is repaired by that.
            Err(_) => self.write_atomic(&path, bytes),
        };
        written.map_err(|source| PutError::new(*digest, path, source))
    }

    /// Makes what is there as new as if it had just been written, so that nobody who cleans up takes it for old.
    fn refresh(&self, digest: &Digest, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match self.set_modified(digest) {
            // Somebody else may have put it in this moment, and not have come to this yet.
            Ok(()) => sync_name(path),
            // It may be another user's file. Written anew it is ours.
            Err(_) => self.write_atomic(path, bytes),
        }
    }

    /// The bytes of a digest, checked against it.
    pub(crate) fn read(&self, digest: &Digest) -> Result<Bytes, FetchError> {
        let path = self.path(digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(FetchError::Missing { digest: *digest });
            }
            Err(source) => return Err(FetchError::Read { digest: *digest, path, source }),
        };
        let actual = digest_of(&bytes);
        if actual != *digest {
            return Err(FetchError::Corrupt { expected: *digest, actual });
        }
        Ok(bytes.into())
    }

    /// Whether there is a file for a digest.
    pub(crate) fn contains(&self, digest: &Digest) -> io::Result<bool> {
        self.path(digest).try_exists()
    }

    /// Notes that a content was used now.
    pub(crate) fn touch(&self, digest: &Digest) -> io::Result<()> {
        let _with_others = self.lock(File::lock_shared);
        self.set_modified(digest)
    }

    fn set_modified(&self, digest: &Digest) -> io::Result<()> {
        File::open(self.path(digest))?.set_modified(SystemTime::now())
    }

    /// Removes a content. It is no error when it is not there.
    pub(crate) fn remove(&self, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes a content as it was listed; answers whether it is gone. One that was put or touched since stays.
    pub(crate) fn remove_listed(&self, entry: &Entry) -> io::Result<bool> {
        // Nobody puts or touches it between the look at its age and its removal.
        let _alone = self.lock(File::lock);
        let path = self.path(&entry.digest);
        match fs::metadata(&path).and_then(|metadata| metadata.modified()) {
            Ok(modified) if modified == entry.stored_at => self.remove(&entry.digest).map(|()| true),
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Locks the folder among all processes until the file is dropped. Where that is not possible, it goes without: the folder
    /// may be read-only, or its filesystem without locks.
    fn lock(&self, lock: impl FnOnce(&File) -> io::Result<()>) -> Option<File> {
        let path = self.root.join("lock");
        // Another user's file can be locked, and not be written.
        let opened = File::options().create(true).append(true).open(&path).or_else(|_| File::open(&path));
        let locked = opened.and_then(|file| lock(&file).map(|()| file));
        locked.inspect_err(|error| debug!(%error, path = %path.display(), "the store cannot be locked")).ok()
    }

    /// What is here, in order of digest. Files that are no content are passed over.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, ListError> {
        let mut entries = Vec::new();
        for shelf in list(&self.content())? {
            if !shelf.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            entries.extend(list(&shelf.path())?.iter().filter_map(entry));
        }
        entries.sort_by_key(|entry| entry.digest);
        Ok(entries)
    }
}

/// What is in a folder. One that is no longer there has nothing in it.
pub(crate) fn list(folder: &Path) -> Result<Vec<fs::DirEntry>, ListError> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.and_then(Iterator::collect),
    };
    listed.map_err(|source| ListError::Read { path: folder.into(), source })
}

/// What a file holds by its name; `None` for a foreign one, and for one that was removed in this moment.
fn entry(file: &fs::DirEntry) -> Option<Entry> {
    let digest = format!("sha256:{}", file.file_name().to_str()?).parse().ok()?;
    let metadata = file.metadata().ok()?;
    Some(Entry { digest, size: metadata.len(), stored_at: metadata.modified().ok()? })
}

/// Makes the name of a file last, and that of its folder, which may be new.
fn sync_name(path: &Path) -> io::Result<()> {
    for folder in path.ancestors().skip(1).take(2) {
        match File::open(folder)?.sync_all() {
            // Not every filesystem can; then it needs no asking.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {}
            synced => synced?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
