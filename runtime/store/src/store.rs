//! The contract of every store, and how each of its operations can fail.

use std::{fmt, io, path::PathBuf, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use flow::{Digest, Namespace};

use crate::{MAX_NAMESPACE_SIGNATURES, MAX_NAMESPACE_TAGS, MAX_SIGNATURES, Policy, Signature, Tag};

/// Stores content by digest, and tags for digests. Cheap to share: all methods take `&self`. Dropping a future is safe: its
/// operation happens completely or not at all.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Makes sure that the store has these bytes, and returns their digest. On return they are as durable as anything in the
    /// store, and have the age of new content. Idempotent; wrong bytes under their digest are replaced.
    ///
    /// # Errors
    /// [`PutError`] when the bytes could not be stored.
    async fn put(&self, bytes: Bytes) -> Result<Digest, PutError>;

    /// The bytes of a digest, checked against it.
    ///
    /// # Errors
    /// [`FetchError`] when the store has no bytes or other bytes for the digest.
    async fn fetch(&self, digest: &Digest) -> Result<Bytes, FetchError>;

    /// Whether there are bytes for a digest. They are not read: only [`Store::fetch`] verifies them.
    ///
    /// # Errors
    /// [`FetchError`] when this cannot be determined.
    async fn contains(&self, digest: &Digest) -> Result<bool, FetchError>;

    /// The number of bytes that the store has for a digest; `None` if it has none. They are not read: only [`Store::fetch`] verifies
    /// them.
    ///
    /// # Errors
    /// [`FetchError`] when this cannot be determined.
    async fn size(&self, digest: &Digest) -> Result<Option<u64>, FetchError>;

    /// Gives the content of a digest the age of new content, for a run that is about to refer to it; returns whether the
    /// store has it.
    ///
    /// # Errors
    /// [`PutError`] when the new age cannot be recorded.
    async fn touch(&self, digest: &Digest) -> Result<bool, PutError>;

    /// The contents of the store, in order of digest.
    ///
    /// # Errors
    /// [`ListError`] when they cannot be read.
    async fn list(&self) -> Result<Vec<Entry>, ListError>;

    /// The contents of the store behind a digest, in order of digest, and at most so many. It does not read the whole store for them.
    ///
    /// # Errors
    /// [`ListError`] when they cannot be read.
    async fn list_after(&self, after: Option<&Digest>, max: usize) -> Result<Vec<Entry>, ListError>;

    /// The contents with these digests, in their order, as far as the store has them. They are not read: only [`Store::fetch`] verifies
    /// them.
    ///
    /// # Errors
    /// [`ListError`] when this cannot be determined.
    async fn entries_of(&self, digests: &[Digest]) -> Result<Vec<Entry>, ListError>;

    /// Points a tag to a digest from now on, and replaces its earlier digest, which it returns.
    ///
    /// # Errors
    /// [`TagError`] when the store does not have the digest, the tag is new and its namespace has as many as are allowed, or the tag could
    /// not be written.
    async fn tag(&self, tag: &Tag, digest: &Digest) -> Result<EarlierDigest, TagError>;

    /// The digest of a tag, if the tag exists.
    ///
    /// # Errors
    /// [`TagError`] when the tag cannot be read.
    async fn resolve_tag(&self, tag: &Tag) -> Result<Option<Digest>, TagError>;

    /// All tags and their digests, in order of tag.
    ///
    /// # Errors
    /// [`ListError`] when they cannot be read.
    async fn tags(&self) -> Result<Vec<(Tag, Digest)>, ListError>;

    /// The tags of a namespace, or those of none, and their digests, in order of tag. It reads no others.
    ///
    /// # Errors
    /// [`ListError`] when they cannot be read.
    async fn tags_in(&self, namespace: Option<&Namespace>) -> Result<Vec<(Tag, Digest)>, ListError>;

    /// Stores a signature beside the content that it signs. It replaces an earlier one of its signer for its tag; an older one
    /// changes nothing. If the content has as many signatures as are allowed, one that can admit the content by the policy
    /// replaces the oldest one that cannot. If it has as many as are allowed for tags of one namespace, a new one for such a tag
    /// replaces the oldest of these, but never one that can admit the content if the new one cannot.
    ///
    /// # Errors
    /// [`SignError`] when the store does not have the content, has no room for the signature, or could not store it.
    async fn sign(&self, signature: &Signature, policy: &Policy) -> Result<(), SignError>;

    /// The signatures of a content; none if the store does not have it. Damaged ones are left out.
    ///
    /// # Errors
    /// [`ListError`] when they cannot be read.
    async fn signatures(&self, digest: &Digest) -> Result<Vec<Signature>, ListError>;

    /// Removes the bytes and signatures of an entry of [`Store::list`], unless they were put or touched since then; returns whether
    /// they are removed. The caller knows that nothing needed them at the time of the list.
    ///
    /// # Errors
    /// [`RemoveError`] when the bytes may still be there.
    async fn remove(&self, entry: &Entry) -> Result<bool, RemoveError>;
}

/// One content of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// When the content was last put or touched.
    pub stored_at: SystemTime,
}

/// What a tag named before it was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierDigest {
    /// The tag is new.
    None,
    /// This digest.
    Known(Digest),
    /// Something that could not be read: the tag was damaged.
    Unreadable,
}

impl From<Option<Digest>> for EarlierDigest {
    fn from(known: Option<Digest>) -> Self {
        known.map_or(Self::None, Self::Known)
    }
}

impl fmt::Display for EarlierDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => out.write_str("none"),
            Self::Known(digest) => digest.fmt(out),
            Self::Unreadable => out.write_str("a digest that could not be read"),
        }
    }
}

/// Why bytes could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The disk or the quota is full.
    #[error("no space left for module {digest} at {}", path.display())]
    NoSpace {
        /// The digest of the bytes.
        digest: Digest,
        /// The path for the bytes.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The bytes could not be written.
    #[error("could not write module {digest} to {}", path.display())]
    Write {
        /// The digest of the bytes.
        digest: Digest,
        /// The path for the bytes.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

impl PutError {
    /// The digest of the content that could not be stored.
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

/// Why the bytes of a digest could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The store does not have the content.
    #[error("module {digest} is not in the store")]
    Missing {
        /// The requested digest.
        digest: Digest,
    },
    /// The file of the content has other bytes.
    #[error("module {expected} holds the bytes of {actual}")]
    Corrupt {
        /// The requested digest.
        expected: Digest,
        /// The digest of those bytes.
        actual: Digest,
    },
    /// The content is larger than the requester allows.
    #[error("module {digest} has {size} bytes, more than the allowed {largest}")]
    TooLarge {
        /// The requested digest.
        digest: Digest,
        /// The size of the content, in bytes.
        size: u64,
        /// The maximum that the requester allows, in bytes.
        largest: u64,
    },
    /// The content could not be read.
    #[error("could not read module {digest} from {}", path.display())]
    Read {
        /// The requested digest.
        digest: Digest,
        /// The path of the content.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The store at the other end of the bus could not read the content.
    #[error("the store that answers on {queue:?} could not read module {digest}: {reason}")]
    Unreadable {
        /// The requested digest.
        digest: Digest,
        /// The request queue.
        queue: String,
        /// The other end's message.
        reason: String,
    },
    /// The store does not give the content to who asks.
    #[error(
        "the store that answers on {queue:?} refuses module {digest}: no job of its logbook names it; engines at one broker \
         need one logbook"
    )]
    Refused {
        /// The requested digest.
        digest: Digest,
        /// The request queue.
        queue: String,
    },
    /// The request queue no longer exists.
    #[error(
        "the engine that sent the job has ended: module {digest} cannot be requested, as there is no queue {queue:?}"
    )]
    QueueMissing {
        /// The requested digest.
        digest: Digest,
        /// The request queue.
        queue: String,
    },
    /// The other end of the bus did not reply in time.
    #[error("no store has answered on {queue:?} for {} seconds: module {digest} could not be fetched", waited.as_secs())]
    TimedOut {
        /// The requested digest.
        digest: Digest,
        /// The request queue.
        queue: String,
        /// How long no reply came.
        waited: std::time::Duration,
    },
    /// This side of the bus is closed.
    #[error("module {digest} cannot be fetched: the connection to the broker is closed")]
    Closed {
        /// The requested digest.
        digest: Digest,
    },
}

/// Whether to repeat a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAdvice {
    /// Repeat it later: the answer may differ then.
    Later,
    /// Do not repeat it: the result stays the same until a person acts.
    Never,
}

impl FetchError {
    /// Whether to repeat the request. No wildcard arm: a new variant must choose.
    #[must_use]
    pub fn disposition(&self) -> RetryAdvice {
        match self {
            Self::Missing { .. } | Self::Corrupt { .. } | Self::TooLarge { .. } | Self::QueueMissing { .. } => {
                RetryAdvice::Never
            }
            // Another engine may answer the next request.
            Self::Refused { .. }
            | Self::Read { .. }
            | Self::Unreadable { .. }
            | Self::TimedOut { .. }
            | Self::Closed { .. } => RetryAdvice::Later,
        }
    }
}

/// Why the contents of a store could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// A folder could not be read.
    #[error("could not list {}", path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// Why the bytes of a digest could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The bytes could not be deleted.
    #[error("could not delete module {digest} from {}", path.display())]
    Delete {
        /// The digest of the content to remove.
        digest: Digest,
        /// The path of the content.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// Why a signature could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The store does not have the signed content.
    #[error("module {digest} cannot be signed, as it is not in the store")]
    Missing {
        /// The digest.
        digest: Digest,
    },
    /// The content has as many signatures as are allowed, in all or for the tags of one namespace.
    #[error("module {digest} has {} already, and this one may replace none of them", as_many(.namespace.as_ref()))]
    TooMany {
        /// The digest.
        digest: Digest,
        /// The namespace, if it has as many as are allowed for its tags.
        namespace: Option<Namespace>,
    },
    /// The signature could not be written.
    #[error("could not write a signature of module {digest} to {}", path.display())]
    Write {
        /// The digest.
        digest: Digest,
        /// The path for the signature.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

fn as_many(namespace: Option<&Namespace>) -> String {
    match namespace {
        Some(namespace) => format!("{MAX_NAMESPACE_SIGNATURES} signatures for tags of the namespace {namespace}"),
        None => format!("{MAX_SIGNATURES} signatures"),
    }
}

/// Why a tag could not be set or read.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// The store does not have the tag's digest.
    #[error("tag {tag} cannot name module {digest}, which is not in the store")]
    Missing {
        /// The tag.
        tag: Tag,
        /// The digest for the tag.
        digest: Digest,
    },
    /// The tag is new, and its namespace has as many as are allowed.
    #[error("tag {tag} is not set: the namespace {namespace} has {} tags already", MAX_NAMESPACE_TAGS)]
    TooMany {
        /// The tag.
        tag: Tag,
        /// Its namespace.
        namespace: Namespace,
    },
    /// The tag could not be written.
    #[error("could not write tag {tag} to {}", path.display())]
    Write {
        /// The tag.
        tag: Tag,
        /// Its file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The tag could not be read.
    #[error("could not read tag {tag} from {}", path.display())]
    Read {
        /// The tag.
        tag: Tag,
        /// Its file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The tag's file contains something else. Setting the tag again repairs it.
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
    fn the_error_for_a_full_disk_names_the_path() {
        let digest = Digest::from_bytes([7; 32]);
        for full in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let error = PutError::new(digest, "/srv/store/x".into(), full.into());
            assert_eq!(error.to_string(), format!("no space left for module {digest} at /srv/store/x"));
        }
        let error = PutError::new(digest, "/srv/store/x".into(), io::ErrorKind::PermissionDenied.into());
        assert!(matches!(error, PutError::Write { .. }), "{error}");
    }
}
