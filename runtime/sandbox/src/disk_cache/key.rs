//! The key of this user and machine, under which compiled code is kept.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::user;

/// A key for the checksums of compiled code: only a process that can read it can create code that waft loads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheKey([u8; 32]);

impl CacheKey {
    /// Reads the key from a file; creates the file with a random key if missing.
    pub(crate) fn load_or_create(path: &Path) -> io::Result<Self> {
        match Self::load(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::create(path)?;
                // Another process may have created it first.
                Self::load(path)
            }
            loaded => loaded,
        }
    }

    fn load(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.uid() != user() || metadata.mode() & 0o077 != 0 {
            return Err(io::Error::other("the key is not this user's alone: remove it, and a new one is created"));
        }
        let mut bytes = Vec::new();
        file.take(64).read_to_end(&mut bytes)?;
        let key =
            bytes.try_into().map_err(|_| io::Error::other("it is no key: remove it, and a new one is created"))?;
        Ok(Self(key))
    }

    /// Creates the file as a whole or not at all; an existing one stays.
    fn create(path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut key = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        let temporary = path.with_extension(format!("{}.new", std::process::id()));
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let linked = written.and_then(|mut file| file.write_all(&key)).and_then(|()| fs::hard_link(&temporary, path));
        // Its second name is not needed any more.
        let _ = fs::remove_file(&temporary);
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// The checksum of a file's header and code.
    pub(super) fn checksum(&self, header: &[u8], code: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(header).update(code);
        hasher.finalize().into()
    }
}

impl std::fmt::Debug for CacheKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("CacheKey")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_key_is_created_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("waft/key");
        let key = CacheKey::load_or_create(&path).unwrap();
        assert_eq!(CacheKey::load_or_create(&path).unwrap(), key);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1, "nothing else is left");
        let other = CacheKey::load_or_create(&folder.path().join("other")).unwrap();
        assert_ne!(other, key);
    }

    #[test]
    fn a_key_that_others_may_read_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        CacheKey::load_or_create(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(CacheKey::load_or_create(&path).unwrap_err().to_string().contains("not this user's alone"));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(CacheKey::load_or_create(&path).unwrap_err().to_string().contains("it is no key"));
    }
}
