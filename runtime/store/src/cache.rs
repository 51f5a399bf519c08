//! A worker's cache of fetched content, on disk and with a maximum size.

mod single_flight;

use std::{future::Future, path::PathBuf, sync::Arc};

use bytes::Bytes;
use flow::Digest;
use tracing::{debug, warn};

use self::single_flight::SingleFlight;
use crate::{FetchError, ListError, OpenError, blocking::blocking, digest::digest_of, folder::Folder};

/// Caches fetched content on disk up to a size, and evicts the least recently used first.
///
/// Several processes may share a folder. The cache is expendable: on any disk problem, content is fetched and returned
/// without being cached.
#[derive(Debug, Clone)]
pub struct Cache {
    /// `None` if nothing is cached.
    folder: Option<Arc<Folder>>,
    size: u64,
    single_flight: SingleFlight,
}

impl Cache {
    /// Opens the cache in a folder, which is created if missing. It holds `size` bytes; it exceeds them only for a moment
    /// when new content arrives.
    ///
    /// # Errors
    /// [`OpenError`] when the folder cannot be created, or has an unknown format.
    pub async fn open(folder: PathBuf, size: u64) -> Result<Self, OpenError> {
        let folder = blocking(move || Folder::open(folder)).await?;
        Ok(Self { folder: Some(Arc::new(folder)), size, single_flight: SingleFlight::default() })
    }

    /// A cache that stores nothing, for a machine whose disk cannot be written.
    #[must_use]
    pub fn none() -> Self {
        Self { folder: None, size: 0, single_flight: SingleFlight::default() }
    }

    /// The bytes of a digest: from disk, or else from `fetch`, which is not polled otherwise. Of several concurrent callers
    /// for one digest, one fetches; if that fails, the others fetch for themselves. Dropping the future lets another caller
    /// fetch.
    ///
    /// # Errors
    /// The error of `fetch`, and [`FetchError::Corrupt`] when it returns other bytes.
    pub async fn get_or_fetch(
        &self,
        digest: Digest,
        fetch: impl Future<Output = Result<Bytes, FetchError>>,
    ) -> Result<Bytes, FetchError> {
        let read_or_fetch = async {
            if let Some(bytes) = self.read(digest).await {
                return Ok(bytes);
            }
            let bytes = fetch.await?;
            self.verify_and_store(digest, bytes).await
        };
        self.single_flight.share(digest, read_or_fetch).await
    }

    async fn read(&self, digest: Digest) -> Option<Bytes> {
        let folder = self.folder.clone()?;
        let read = blocking(move || {
            let bytes = folder.read(&digest)?;
            if let Err(error) = folder.touch(&digest) {
                debug!(%digest, %error, "could not record the use of a cached module");
            }
            Ok(bytes)
        });
        match read.await {
            Ok(bytes) => Some(bytes),
            Err(FetchError::Missing { .. }) => None,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "a cached module is fetched again");
                None
            }
        }
    }

    /// Verifies fetched bytes, and caches them if there is room.
    async fn verify_and_store(&self, digest: Digest, bytes: Bytes) -> Result<Bytes, FetchError> {
        let (folder, size) = (self.folder.clone(), self.size);
        blocking(move || {
            let actual = digest_of(&bytes);
            if actual != digest {
                return Err(FetchError::Corrupt { expected: digest, actual });
            }
            let Some(folder) = folder else { return Ok(bytes) };
            if bytes.len() as u64 > size {
                debug!(%digest, bytes = bytes.len(), size, "a module is larger than the cache");
                return Ok(bytes);
            }
            if let Err(error) = folder.put(&digest, &bytes) {
                warn!(error = &error as &dyn std::error::Error, "a module is used without being cached");
                return Ok(bytes);
            }
            if let Err(error) = evict(&folder, size, digest) {
                warn!(error = &error as &dyn std::error::Error, "the cache may be larger than it should be");
            }
            Ok(bytes)
        })
        .await
    }
}

/// Evicts the least recently used contents until the rest fits, but never the newest. It runs after new content is written,
/// so that the last of several concurrent writers sees all of it.
fn evict(folder: &Folder, size: u64, newest: Digest) -> Result<(), ListError> {
    let mut entries = folder.entries()?;
    let mut used: u64 = entries.iter().map(|entry| entry.size).sum();
    entries.sort_by_key(|entry| (entry.stored_at, entry.digest));
    for entry in entries.iter().filter(|entry| entry.digest != newest) {
        if used <= size {
            break;
        }
        match folder.remove(&entry.digest) {
            Ok(()) => used -= entry.size,
            Err(error) => {
                warn!(digest = %entry.digest, %error, "could not remove a module from the cache")
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
