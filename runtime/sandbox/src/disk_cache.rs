//! The disk cache of compiled code, by digest and by the engine that compiled it.
//!
//! Machine code runs unchecked, so it is loaded only if this user's waft has written it: the folder and its files must belong
//! to this user, and be closed to others, and each file has a checksum under a key of this user and machine. A folder that
//! was copied from elsewhere has other keys. A file of another module or engine, or a truncated or damaged file, is
//! removed, and the module is compiled again.

mod key;

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use flow::Digest;

pub(crate) use key::CacheKey;

/// The first bytes of a file. The number is the format's version.
const MAGIC: [u8; 8] = *b"waftcc\x00\x02";

/// Magic, digest, compatibility, length of the code, checksum of all these and of the code.
const HEADER: usize = MAGIC.len() + 32 + 32 + 8 + 32;

/// The extension of file names.
const SUFFIX: &str = "cwasm";

/// Identifies the engines that can run a file's code: a hash over version, settings and processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compatibility([u8; 32]);

/// A folder of compiled code.
#[derive(Debug)]
pub(crate) struct DiskCache {
    folder: PathBuf,
    key: CacheKey,
    max_bytes: u64,
    compatibility: Compatibility,
    written: AtomicU64,
}

/// Why a cache folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("could not create or read the folder")]
    Io(#[from] io::Error),
    #[error("it belongs to user {owner}, and this process runs as user {us}")]
    OtherUser { owner: u32, us: u32 },
}

/// The owner of a folder of compiled code, and the user of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOwner {
    /// The user that owns the folder. Code in another user's folder is not run.
    pub owner: u32,
    /// The user of this process.
    pub us: u32,
}

impl CacheOwner {
    /// Reads the owner of a folder of compiled code. Blocks for some milliseconds.
    ///
    /// # Errors
    /// The operating system's error, also when the folder does not exist.
    pub fn of(folder: &Path) -> io::Result<Self> {
        Ok(Self { owner: folder.metadata()?.uid(), us: user() })
    }
}

impl Compatibility {
    pub(crate) fn of(engine: &wasmtime::Engine) -> Self {
        /// Feeds the engine's compatibility hash to a hasher that is the same in every process.
        struct Stable(blake3::Hasher);
        impl std::hash::Hasher for Stable {
            fn write(&mut self, bytes: &[u8]) {
                self.0.update(bytes);
            }
            fn finish(&self) -> u64 {
                unreachable!("only the full hash is used")
            }
        }
        let mut hasher = Stable(blake3::Hasher::new());
        std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut hasher);
        Self(hasher.0.finalize().into())
    }
}

impl DiskCache {
    /// Opens the folder, creates it if missing, and closes it to others.
    pub(crate) fn open(
        folder: PathBuf,
        key: CacheKey,
        max_bytes: u64,
        compatibility: Compatibility,
    ) -> Result<Self, OpenError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let metadata = folder.metadata()?;
        let us = user();
        if metadata.uid() != us {
            return Err(OpenError::OtherUser { owner: metadata.uid(), us });
        }
        if metadata.mode() & 0o077 != 0 {
            std::fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        }
        Ok(Self { folder, key, max_bytes, compatibility, written: AtomicU64::new(0) })
    }

    /// The code of a module, if the cache has an intact file.
    pub(crate) fn load(&self, digest: &Digest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        match self.read(&path, digest) {
            Ok(code) => Some(code),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled code on disk is not trusted; it is compiled again");
                self.discard(digest);
                None
            }
        }
    }

    /// Removes the cached code of a module.
    pub(crate) fn discard(&self, digest: &Digest) {
        let path = self.path(digest);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "could not remove compiled code");
        }
    }

    /// Stores the code of a module, and makes room for it. If the cache cannot be written, the module is compiled again later.
    pub(crate) fn store(&self, digest: &Digest, code: &[u8]) {
        let path = self.path(digest);
        if let Err(error) = self.write(&path, digest, code).and_then(|()| self.evict()) {
            tracing::warn!(path = %path.display(), %error, "could not store compiled code on disk");
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let compatibility = blake3::Hash::from_bytes(self.compatibility.0).to_hex();
        self.folder.join(format!("{}.{}.{SUFFIX}", digest.hex(), &compatibility[..16]))
    }

    fn read(&self, path: &Path, digest: &Digest) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let is_private = metadata.is_file() && metadata.uid() == user() && metadata.mode() & 0o022 == 0;
        if !is_private {
            return Err(io::Error::other("other users can write to it"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).map_err(io::Error::other)?);
        file.read_to_end(&mut bytes)?;
        let is_intact =
            bytes.split_at_checked(HEADER).is_some_and(|(header, code)| header == self.header(digest, code));
        if !is_intact {
            return Err(io::Error::other(
                "it is damaged, of another module or engine, or not written by this user's waft",
            ));
        }
        // The modification time of a file is its last use. If this fails, the file is only evicted sooner.
        let _ = file.set_modified(SystemTime::now());
        bytes.drain(..HEADER);
        Ok(bytes)
    }

    /// Writes a temporary file and renames it, so that the file is complete or missing.
    fn write(&self, path: &Path, digest: &Digest, code: &[u8]) -> io::Result<()> {
        let serial = self.written.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!("{}.{}-{serial}.new", digest.hex(), std::process::id()));
        let result = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(&self.header(digest, code))?;
            file.write_all(code)?;
            std::fs::rename(&temporary, path)
        })();
        if result.is_err() {
            // The write error is reported; a leftover temporary file needs no further report.
            let _ = std::fs::remove_file(&temporary);
        }
        result
    }

    fn header(&self, digest: &Digest, code: &[u8]) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(digest.as_bytes());
        header.extend_from_slice(&self.compatibility.0);
        header.extend_from_slice(&(code.len() as u64).to_le_bytes());
        let checksum = self.key.checksum(&header, code);
        header.extend_from_slice(&checksum);
        header
    }

    /// Evicts the least recently used files until the rest fits. Files of other engines and leftovers of crashes count like
    /// all others, and are evicted by age.
    fn evict(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in self.folder.read_dir()? {
            let entry = entry?;
            // Another process may have removed it in the meantime.
            let Ok(metadata) = entry.metadata() else { continue };
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
        files.sort_unstable();
        let mut size: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in files {
            if size <= self.max_bytes {
                break;
            }
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            size -= length;
        }
        Ok(())
    }
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests;
