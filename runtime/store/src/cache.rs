//! What a worker has fetched, kept on its disk within bounds.

mod flights;

use std::{future::Future, path::PathBuf, sync::Arc};

use bytes::Bytes;
use flow::Digest;
use tracing::{debug, warn};

use self::flights::SingleFlight;
use crate::{FetchError, ListError, OpenError, blocking::blocking, digest::digest_of, folder::Folder};

/// Keeps what was fetched on disk, up to a size, and forgets first what was used longest ago.
///
/// Several processes may share a folder. Nothing is lost with it: whatever is wrong with the disk, content is then
/// fetched instead, and handed out without being kept.
#[derive(Debug, Clone)]
pub struct Cache {
    /// `None` where nothing is kept.
    folder: Option<Arc<Folder>>,
    size: u64,
    single_flight: SingleFlight,
}

impl Cache {
    /// Opens the cache in a folder, which is made if it is not there. It holds `size` bytes; more only for the moment
    /// in which something new comes.
    ///
    /// # Errors
    /// [`OpenError`] when the folder cannot be made, or is of a format unknown here.
    pub async fn open(folder: PathBuf, size: u64) -> Result<Self, OpenError> {
        let folder = blocking(move || Folder::open(folder)).await?;
        Ok(Self { folder: Some(Arc::new(folder)), size, single_flight: SingleFlight::default() })
    }

    /// A cache that keeps nothing: for a machine whose disk cannot be written.
    #[must_use]
    pub fn none() -> Self {
        Self { folder: None, size: 0, single_flight: SingleFlight::default() }
    }

    /// The bytes of a digest: from disk, or else from `fetch`, which is not polled otherwise. Of those who want the
    /// same at the same time, one fetches; when that fails, the others fetch for themselves. Dropping the future lets
    /// another of them fetch.
    ///
    /// # Errors
    /// What `fetch` fails with, and [`FetchError::Corrupt`] when it comes to other bytes.
    pub async fn get_or_fetch(
        &self,
        digest: Digest,
        fetch: impl Future<Output = Result<Bytes, FetchError>>,
    ) -> Result<Bytes, FetchError> {
        let getting = async {
            if let Some(bytes) = self.read(digest).await {
                return Ok(bytes);
            }
            let bytes = fetch.await?;
            self.verify_and_store(digest, bytes).await
        };
        self.single_flight.share(digest, getting).await
    }

    async fn read(&self, digest: Digest) -> Option<Bytes> {
        let folder = self.folder.clone()?;
        let read = blocking(move || {
            let bytes = folder.read(&digest)?;
            if let Err(error) = folder.touch(&digest) {
                debug!(%digest, %error, "could not note that a cached module was used");
            }
            Ok(bytes)
        });
        match read.await {
            Ok(bytes) => Some(bytes),
            Err(FetchError::Missing { .. }) => None,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "a cached module is fetched anew");
                None
            }
        }
    }

    /// Checks what was fetched, and keeps it if there is room.
    async fn verify_and_store(&self, digest: Digest, bytes: Bytes) -> Result<Bytes, FetchError> {
        let (folder, size) = (self.folder.clone(), self.size);
        blocking(move || {
            let actual = digest_of(&bytes);
            if actual != digest {
                return Err(FetchError::Corrupt { expected: digest, actual });
            }
            let Some(folder) = folder else { return Ok(bytes) };
            if bytes.len() as u64 > size {
                debug!(%digest, bytes = bytes.len(), size, "a module is larger than the whole cache");
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

/// Removes what was used longest ago until the rest fits, and never what has just come. It happens after something
/// new has come, so that whoever is last of several at once sees all of it.
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
