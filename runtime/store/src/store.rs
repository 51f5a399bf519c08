//! The contract every store keeps, and how each of its operations can fail.

use std::{io, path::PathBuf, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use flow::Digest;

use crate::Tag;

/// Content by digest, and tags for digests. Cheap to share: all methods take `&self`, and dropping their future is
/// safe: what it would have done is then done or not, and never by half.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Makes sure the store has these bytes, and says by which digest. When this returns, they are as durable as the
    /// store makes anything, and as old as if they had just come. Idempotent; wrong bytes in their place are replaced.
    ///
    /// # Errors
    /// [`PutError`] when they could not be kept.
    async fn put(&self, bytes: Bytes) -> Result<Digest, PutError>;

    /// The bytes of a digest, checked against it.
    ///
    /// # Errors
    /// [`FetchError`] when there are none, or others.
    async fn fetch(&self, digest: &Digest) -> Result<Bytes, FetchError>;

    /// Whether there are bytes for a digest. They are not read: only [`Store::fetch`] tells whether they are right.
    ///
    /// # Errors
    /// [`FetchError`] when that cannot be told.
    async fn contains(&self, digest: &Digest) -> Result<bool, FetchError>;

    /// Makes the content of a digest as old as if it had just come, for a run that is about to refer to it; answers whether it
    /// is there.
    ///
    /// # Errors
    /// [`PutError`] when that cannot be noted.
    async fn touch(&self, digest: &Digest) -> Result<bool, PutError>;

    /// What the store has, in order of digest.
    ///
    /// # Errors
    /// [`ListError`] when that cannot be read.
    async fn list(&self) -> Result<Vec<Entry>, ListError>;

    /// Lets a tag stand for a digest, from now on and whatever it stood for before.
    ///
    /// # Errors
    /// [`TagError`] when the store does not have the digest, or the tag could not be written.
    async fn tag(&self, tag: &Tag, digest: &Digest) -> Result<(), TagError>;

    /// The digest a tag stands for, if any.
    ///
    /// # Errors
    /// [`TagError`] when that cannot be read.
    async fn resolve_tag(&self, tag: &Tag) -> Result<Option<Digest>, TagError>;

    /// All tags and their digests, in order of tag.
    ///
    /// # Errors
    /// [`ListError`] when they cannot be read.
    async fn tags(&self) -> Result<Vec<(Tag, Digest)>, ListError>;

    /// Forgets the bytes of an entry of [`Store::list`], unless somebody has put or touched them since it was listed; answers
    /// whether they are gone. Whoever asks knows that nobody needed them by then.
    ///
    /// # Errors
    /// [`RemoveError`] when that is not known.
    async fn remove(&self, entry: &Entry) -> Result<bool, RemoveError>;
}

/// One content of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its digest.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// When it came into the store, or was last put or touched.
    pub stored_at: SystemTime,
}

/// Why bytes could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The disk, or what of it may be used, is full.
    #[error("no space left for module {digest} at {}", path.display())]
    NoSpace {
        /// Their digest.
        digest: Digest,
        /// Where they were to be kept.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// They could not be written.
    #[error("could not write module {digest} to {}", path.display())]
    Write {
        /// Their digest.
        digest: Digest,
        /// Where they were to be kept.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl PutError {
    /// The digest of what could not be kept.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::NoSpace { digest, .. } | Self::Write { digest, .. } => *digest,
        }
    }

    pub(crate) fn new(digest: Digest, path: PathBuf, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { digest, path, source },
            _ => Self::Write { digest, path, source },
        }
    }
}

/// Why the bytes of a digest could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The store does not have it.
    #[error("module {digest} is not in the store")]
    Missing {
        /// What was asked for.
        digest: Digest,
    },
    /// Other bytes are in its place.
    #[error("module {expected} holds the bytes of {actual}")]
    Corrupt {
        /// What was asked for.
        expected: Digest,
        /// What is there.
        actual: Digest,
    },
    /// It is larger than who asked would take.
    #[error("module {digest} has {size} bytes, more than the {largest} that are taken")]
    TooLarge {
        /// What was asked for.
        digest: Digest,
        /// How many bytes it has.
        size: u64,
        /// The most that were to be taken.
        largest: u64,
    },
    /// It could not be read.
    #[error("could not read module {digest} from {}", path.display())]
    Read {
        /// What was asked for.
        digest: Digest,
        /// Where it is kept.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The store at the other end of the bus could not read it.
    #[error("the store that answers on {queue:?} could not read module {digest}: {reason}")]
    Unreadable {
        /// What was asked for.
        digest: Digest,
        /// The queue that was asked.
        queue: String,
        /// The other end's words.
        reason: String,
    },
    /// There is no longer a queue to ask on.
    #[error(
        "the engine that sent the job is gone: module {digest} cannot be asked for, as there is no queue {queue:?}"
    )]
    QueueMissing {
        /// What was asked for.
        digest: Digest,
        /// The queue that was asked.
        queue: String,
    },
    /// The other end of the bus said nothing for long.
    #[error("nobody has answered on {queue:?} for {} seconds: module {digest} could not be fetched", waited.as_secs())]
    TimedOut {
        /// What was asked for.
        digest: Digest,
        /// The queue that was asked.
        queue: String,
        /// For how long nothing came.
        waited: std::time::Duration,
    },
    /// This side of the bus is closed.
    #[error("module {digest} cannot be fetched: the connection to the broker is closed")]
    Closed {
        /// What was asked for.
        digest: Digest,
    },
}

/// What becomes of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAdvice {
    /// It may be asked again: the answer may be another then.
    Later,
    /// It is answered for good, until a person does something.
    Never,
}

impl FetchError {
    /// Whether to ask again. No wildcard arm: a new variant must choose.
    #[must_use]
    pub fn disposition(&self) -> RetryAdvice {
        match self {
            Self::Missing { .. } | Self::Corrupt { .. } | Self::TooLarge { .. } | Self::QueueMissing { .. } => {
                RetryAdvice::Never
            }
            Self::Read { .. } | Self::Unreadable { .. } | Self::TimedOut { .. } | Self::Closed { .. } => {
                RetryAdvice::Later
            }
        }
    }
}

/// Why it could not be told what a store has.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// A folder could not be read.
    #[error("could not list {}", path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Why the bytes of a digest could not be forgotten.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// They could not be deleted.
    #[error("could not delete module {digest} from {}", path.display())]
    Delete {
        /// What was to be forgotten.
        digest: Digest,
        /// Where it is kept.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Why a tag could not be set or read.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// It was to stand for what the store does not have.
    #[error("tag {tag} cannot stand for module {digest}, which is not in the store")]
    Missing {
        /// The tag.
        tag: Tag,
        /// What it was to stand for.
        digest: Digest,
    },
    /// It could not be written.
    #[error("could not write tag {tag} to {}", path.display())]
    Write {
        /// The tag.
        tag: Tag,
        /// Its file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It could not be read.
    #[error("could not read tag {tag} from {}", path.display())]
    Read {
        /// The tag.
        tag: Tag,
        /// Its file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Its file holds something else. Setting the tag again repairs it.
    #[error("tag {tag} is damaged: {} holds no digest", path.display())]
    Damaged {
        /// The tag.
        tag: Tag,
        /// Its file.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_with_the_place_that_is_full() {
        let digest = Digest::from_bytes([7; 32]);
        for full in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let error = PutError::new(digest, "/srv/store/x".into(), full.into());
            assert_eq!(error.to_string(), format!("no space left for module {digest} at /srv/store/x"));
        }
        let error = PutError::new(digest, "/srv/store/x".into(), io::ErrorKind::PermissionDenied.into());
        assert!(matches!(error, PutError::Write { .. }), "{error}");
    }
}
