//! Content in files named by digest: shared by the directory store and the cache.
//!
//! ```text
//! format             waft-store 1
//! sha256/ab/abcd…    one content each, by the hex digits of its digest
//! tags/NAME          the digest of a tag; `folder/tag_names.rs` has the names
//! signatures/abcd…   the signatures of one content, by the hex digits of its digest: see `folder/signatures.rs`
//! incoming/          files that are being written
//! lock               locked exclusively to remove or sign a content and to move a tag, and shared to put or touch one
//! ```
//!
//! Several processes use one folder without coordination: a file is written under `incoming`, synced, and renamed to its
//! place, so every file there is complete. Files that a dead process left under `incoming` are removed when the folder is
//! opened some time later. All functions block.

mod signatures;
mod tag_names;

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use flow::Digest;
use tracing::{debug, warn};

use crate::{Entry, FetchError, ListError, PutError, Tag, digest::digest_of};

/// The content of the file `format`.
const FORMAT: &str = "waft-store 1\n";

/// The mode of a new folder: modules and values are for its owner only, unless the owner shares the folder.
const PRIVATE_FOLDER: u32 = 0o700;

/// The mode of a new file in such a folder.
const PRIVATE_FILE: u32 = 0o600;

/// The age after which a file under `incoming` counts as abandoned: no writer pauses for this long.
const STALE_AFTER: Duration = Duration::from_secs(60 * 60);

/// Why a folder cannot be used as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder could not be created, read or written.
    #[error("could not set up {}", path.display())]
    SetUp {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The folder has a format that this build does not know.
    #[error("{} is a store of another format, {format:?}: upgrade waft", path.display())]
    Format {
        /// The folder.
        path: PathBuf,
        /// The format that the folder states.
        format: String,
    },
}

/// A folder of content.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Creates the folder if missing, and removes the files that dead processes left in it.
    pub(crate) fn open(root: PathBuf) -> Result<Self, OpenError> {
        let folder = Self { root };
        let root = folder.root.clone();
        let created = DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(&root);
        created.map_err(|source| OpenError::SetUp { path: root, source })?;
        for path in [folder.content(), folder.tags(), folder.signatures(), folder.incoming()] {
            folder.create_subfolder(&path).map_err(|source| OpenError::SetUp { path, source })?;
        }
        folder.check_format()?;
        folder.remove_stale(SystemTime::now());
        Ok(folder)
    }

    /// Opens the folder for reading only: nothing is created, and a missing folder counts as empty.
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

    /// Whether the folder states its format. Another format is an error.
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

    /// Removes abandoned files. Another process may do the same; a file that cannot be removed does no harm.
    fn remove_stale(&self, now: SystemTime) {
        let Ok(incoming) = fs::read_dir(self.incoming()) else { return };
        for file in incoming.flatten() {
            let written = file.metadata().and_then(|metadata| metadata.modified());
            let age = written.ok().and_then(|written| now.duration_since(written).ok());
            if age.is_some_and(|age| age >= STALE_AFTER) && fs::remove_file(file.path()).is_ok() {
                debug!(file = %file.path().display(), "removed an incomplete file of a dead process");
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

    /// The file of a tag.
    pub(crate) fn tag(&self, tag: &Tag) -> PathBuf {
        self.tags().join(tag_names::of(tag))
    }

    /// The tag of a file; `None` for a file of something else.
    pub(crate) fn tag_of(file_name: &str) -> Option<Tag> {
        tag_names::parse(file_name)
    }

    /// The file of a content.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        // One subfolder for each first byte, so that no folder gets too large to list.
        self.content().join(&hex[..2]).join(hex)
    }

    /// The rights of group and others on the folder: everything in it gets the same.
    fn shared_rights(&self) -> io::Result<u32> {
        Ok(fs::metadata(&self.root)?.permissions().mode() & 0o077)
    }

    /// Creates a folder inside this one, if missing.
    fn create_subfolder(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(PRIVATE_FOLDER).create(path) {
            // Set after the creation, since the umask limits only that.
            Ok(()) => fs::set_permissions(path, Permissions::from_mode(PRIVATE_FOLDER | self.shared_rights()?)),
            Err(_) if path.is_dir() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes a file atomically and durably: it appears under its name completely or not at all.
    pub(crate) fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let permissions = Permissions::from_mode(PRIVATE_FILE | self.shared_rights()? & !0o011);
        let mut file = tempfile::Builder::new().permissions(permissions.clone()).tempfile_in(self.incoming())?;
        file.write_all(bytes)?;
        // The umask limits only the creation of a file.
        file.as_file().set_permissions(permissions)?;
        file.as_file().sync_all()?;
        let folder = path.parent().expect("the files of a store are in folders");
        self.create_subfolder(folder)?;
        file.persist(path)?;
        sync_name(path)
    }

    /// Makes sure that these bytes are stored. A file with other bytes is replaced.
    pub(crate) fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<(), PutError> {
        let path = self.path(digest);
        let _shared = self.lock(File::lock_shared);
        let written = match fs::read(&path) {
            Ok(stored) if stored == bytes => self.refresh(digest, &path, bytes),
            Ok(_) => {
                warn!(%digest, path = %path.display(), "the file of a module has other bytes; it is replaced");
                self.write_atomic(&path, bytes)
            }
            // A file that cannot be read may still be overwritten.
            Err(_) => self.write_atomic(&path, bytes),
        };
        written.map_err(|source| PutError::new(*digest, path, source))
    }

    /// Gives an existing file the age of a new one, so that no cleanup considers it old.
    fn refresh(&self, digest: &Digest, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match self.set_modified(digest) {
            // Another process may have put the file at this moment, and not have synced its name yet.
            Ok(()) => sync_name(path),
            // It may be another user's file. A rewritten file belongs to this user.
            Err(_) => self.write_atomic(path, bytes),
        }
    }

    /// Reads the bytes of a digest, and verifies them.
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

    /// The size of the file for a digest, if there is one.
    pub(crate) fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        match self.path(digest).metadata() {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Records that a content was used now.
    pub(crate) fn touch(&self, digest: &Digest) -> io::Result<()> {
        let _shared = self.lock(File::lock_shared);
        self.set_modified(digest)
    }

    fn set_modified(&self, digest: &Digest) -> io::Result<()> {
        File::open(self.path(digest))?.set_modified(SystemTime::now())
    }

    /// Removes a content. A missing content is no error.
    pub(crate) fn remove(&self, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes a content as it was listed; returns whether the file no longer exists. A content that was put or touched since stays.
    pub(crate) fn remove_listed(&self, entry: &Entry) -> io::Result<bool> {
        // No process can put or touch the content between the check of its age and its removal.
        let _exclusive = self.lock(File::lock);
        let path = self.path(&entry.digest);
        match fs::metadata(&path).and_then(|metadata| metadata.modified()) {
            Ok(modified) if modified == entry.stored_at => {
                self.remove(&entry.digest)?;
                // Without its content, a signature admits nothing, and the next signature finds these.
                self.remove_signatures(&entry.digest);
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Locks the folder against all other changes until the file is dropped.
    pub(crate) fn lock_exclusively(&self) -> Option<File> {
        self.lock(File::lock)
    }

    /// Locks the folder among all processes until the file is dropped. Returns `None` if locking is impossible: the folder
    /// may be read-only, or its file system may lack locks.
    fn lock(&self, lock: impl FnOnce(&File) -> io::Result<()>) -> Option<File> {
        let path = self.root.join("lock");
        // Another user's file can be locked even if it cannot be written.
        let opened = File::options().create(true).append(true).open(&path).or_else(|_| File::open(&path));
        let locked = opened.and_then(|file| lock(&file).map(|()| file));
        locked.inspect_err(|error| debug!(%error, path = %path.display(), "the store cannot be locked")).ok()
    }

    /// The contents of the folder, in order of digest. Other files are skipped.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, ListError> {
        self.entries_after(None, usize::MAX)
    }

    /// The contents of the folder behind a digest, in order of digest, and at most so many. Other files are skipped, and subfolders that have
    /// none of them are not read.
    pub(crate) fn entries_after(&self, after: Option<&Digest>, max: usize) -> Result<Vec<Entry>, ListError> {
        let mut subfolders = list(&self.content())?;
        subfolders.retain(|folder| folder.file_type().is_ok_and(|kind| kind.is_dir()));
        // The name of a subfolder is that of its contents, cut: they are in the same order.
        subfolders.sort_by_key(fs::DirEntry::file_name);
        let mut entries = Vec::new();
        for subfolder in subfolders {
            let name = subfolder.file_name();
            let Some(name) = name.to_str() else { continue };
            if after.is_some_and(|after| name < &after.hex()[..2]) {
                continue;
            }
            let left = max - entries.len();
            if left == 0 {
                break;
            }
            let files = list(&subfolder.path())?.into_iter();
            let mut files: Vec<(Digest, fs::DirEntry)> =
                files.filter_map(|file| Some((content_of(name, &file)?, file))).collect();
            files.retain(|(digest, _)| after.is_none_or(|after| digest > after));
            files.sort_by_key(|(digest, _)| *digest);
            entries.extend(files.iter().filter_map(|(digest, file)| entry(*digest, file)).take(left));
        }
        Ok(entries)
    }

    /// The contents with these digests, as far as they are there.
    pub(crate) fn entries_of(&self, digests: &[Digest]) -> Result<Vec<Entry>, ListError> {
        let mut entries = Vec::new();
        for digest in digests {
            let path = self.path(digest);
            match fs::metadata(&path).and_then(|metadata| Ok((metadata.len(), metadata.modified()?))) {
                Ok((size, stored_at)) => entries.push(Entry { digest: *digest, size, stored_at }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(ListError::Read { path, source }),
            }
        }
        Ok(entries)
    }
}

/// The files in a folder. A folder that no longer exists counts as empty.
pub(crate) fn list(folder: &Path) -> Result<Vec<fs::DirEntry>, ListError> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.and_then(Iterator::collect),
    };
    listed.map_err(|source| ListError::Read { path: folder.into(), source })
}

/// The digest of the content that a file of a subfolder holds by its name; `None` for another file.
fn content_of(subfolder: &str, file: &fs::DirEntry) -> Option<Digest> {
    let name = file.file_name();
    let name = name.to_str().filter(|name| subfolder.len() == 2 && name.starts_with(subfolder))?;
    format!("sha256:{name}").parse().ok()
}

/// The content in a file; `None` for one that was just removed.
fn entry(digest: Digest, file: &fs::DirEntry) -> Option<Entry> {
    let metadata = file.metadata().ok()?;
    Some(Entry { digest, size: metadata.len(), stored_at: metadata.modified().ok()? })
}

/// Makes the name of a file durable, and the name of its folder, which may be new.
fn sync_name(path: &Path) -> io::Result<()> {
    for folder in path.ancestors().skip(1).take(2) {
        // A relative path with one component is in the working folder.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        match File::open(folder)?.sync_all() {
            // Not every file system supports this; one that does not needs no sync.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {}
            synced => synced?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
