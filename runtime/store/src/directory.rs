//! A store in a folder, for all processes of one machine.

use std::{error::Error, fs, io, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use flow::{Digest, Namespace};
use tracing::warn;

use crate::{
    EarlierDigest, Entry, FetchError, ListError, OpenError, Policy, PutError, RemoveError, SignError, Signature, Store,
    Tag, TagError,
    blocking::blocking,
    digest::digest_of,
    folder::{self, Folder},
    tag,
};

/// A store in a folder. Several handles and several processes may use one folder at the same time.
#[derive(Debug, Clone)]
pub struct Directory {
    folder: Arc<Folder>,
}

impl Directory {
    /// Opens the store in a folder, which is created if missing.
    ///
    /// # Errors
    /// [`OpenError`] when the folder cannot be created, or has an unknown format.
    pub async fn open(folder: PathBuf) -> Result<Self, OpenError> {
        let folder = blocking(move || Folder::open(folder)).await?;
        Ok(Self { folder: Arc::new(folder) })
    }

    /// Opens the store in a folder for reading only: the folder may be missing or read-only.
    ///
    /// # Errors
    /// [`OpenError`] when the folder cannot be read, or has an unknown format.
    pub async fn open_to_read(folder: PathBuf) -> Result<Self, OpenError> {
        let folder = blocking(move || Folder::open_to_read(folder)).await?;
        Ok(Self { folder: Arc::new(folder) })
    }

    /// Runs work on the folder, on a thread that may block.
    async fn with<Output: Send + 'static>(&self, work: impl FnOnce(&Folder) -> Output + Send + 'static) -> Output {
        let folder = self.folder.clone();
        blocking(move || work(&folder)).await
    }
}

#[async_trait]
impl Store for Directory {
    async fn put(&self, bytes: Bytes) -> Result<Digest, PutError> {
        self.with(move |folder| {
            let digest = digest_of(&bytes);
            folder.put(&digest, &bytes)?;
            Ok(digest)
        })
        .await
    }

    async fn fetch(&self, digest: &Digest) -> Result<Bytes, FetchError> {
        let digest = *digest;
        self.with(move |folder| folder.read(&digest)).await
    }

    async fn contains(&self, digest: &Digest) -> Result<bool, FetchError> {
        let digest = *digest;
        self.with(move |folder| {
            let result = folder.contains(&digest);
            result.map_err(|source| FetchError::Read { digest, path: folder.path(&digest), source })
        })
        .await
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, FetchError> {
        let digest = *digest;
        self.with(move |folder| {
            let result = folder.size(&digest);
            result.map_err(|source| FetchError::Read { digest, path: folder.path(&digest), source })
        })
        .await
    }

    async fn touch(&self, digest: &Digest) -> Result<bool, PutError> {
        let digest = *digest;
        self.with(move |folder| match folder.touch(&digest) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            // It may be another user's file. A rewritten file belongs to this user, and has a new age.
            Err(_) => match folder.read(&digest) {
                Ok(bytes) => folder.put(&digest, &bytes).map(|()| true),
                Err(FetchError::Missing { .. }) => Ok(false),
                Err(error) => Err(PutError::new(digest, folder.path(&digest), io::Error::other(error))),
            },
        })
        .await
    }

    async fn list(&self) -> Result<Vec<Entry>, ListError> {
        self.with(Folder::entries).await
    }

    async fn list_after(&self, after: Option<&Digest>, max: usize) -> Result<Vec<Entry>, ListError> {
        let after = after.copied();
        self.with(move |folder| folder.entries_after(after.as_ref(), max)).await
    }

    async fn entries_of(&self, digests: &[Digest]) -> Result<Vec<Entry>, ListError> {
        let digests = digests.to_vec();
        self.with(move |folder| folder.entries_of(&digests)).await
    }

    async fn tag(&self, tag: &Tag, digest: &Digest) -> Result<EarlierDigest, TagError> {
        let (tag, digest) = (tag.clone(), *digest);
        self.with(move |folder| set_tag(folder, tag, digest)).await
    }

    async fn resolve_tag(&self, tag: &Tag) -> Result<Option<Digest>, TagError> {
        let tag = tag.clone();
        self.with(move |folder| read_tag(folder, tag)).await
    }

    async fn tags(&self) -> Result<Vec<(Tag, Digest)>, ListError> {
        self.with(|folder| tags_where(folder, |_| true)).await
    }

    async fn tags_in(&self, namespace: Option<&Namespace>) -> Result<Vec<(Tag, Digest)>, ListError> {
        let namespace = namespace.cloned();
        self.with(move |folder| tags_where(folder, |tag| tag.namespace() == namespace)).await
    }

    async fn sign(&self, signature: &Signature, policy: &Policy) -> Result<(), SignError> {
        let (signature, policy) = (signature.clone(), policy.clone());
        self.with(move |folder| folder.sign(&signature, &policy)).await
    }

    async fn signatures(&self, digest: &Digest) -> Result<Vec<Signature>, ListError> {
        let digest = *digest;
        self.with(move |folder| folder.signatures_of(&digest)).await
    }

    async fn remove(&self, entry: &Entry) -> Result<bool, RemoveError> {
        let entry = entry.clone();
        self.with(move |folder| {
            folder.remove_listed(&entry).map_err(|source| {
                let digest = entry.digest;
                RemoveError::Delete { digest, path: folder.path(&digest), source }
            })
        })
        .await
    }
}

/// If a namespace may have no more new tags than this, they are counted under the lock. Others set fewer while one waits for the lock.
const FEW_TAGS_LEFT: usize = 1_000;

/// Sets a tag; returns its earlier digest. A damaged tag is repaired.
fn set_tag(folder: &Folder, tag: Tag, digest: Digest) -> Result<EarlierDigest, TagError> {
    let path = folder.tag(&tag);
    // The tags of all namespaces are listed for it: without the lock, so that nobody waits meanwhile.
    let left = if path.exists() { 0 } else { check_number(folder, &tag)? };
    // No other process can move the tag between the two.
    let _exclusive = folder.lock_exclusively();
    let before = read_tag(folder, tag.clone()).map_or_else(
        |error| {
            warn!(error = &error as &dyn Error, "the tag is set anew");
            EarlierDigest::Unreadable
        },
        EarlierDigest::from,
    );
    if before == EarlierDigest::None && left <= FEW_TAGS_LEFT {
        check_number(folder, &tag)?;
    }
    let written = match folder.contains(&digest) {
        Ok(true) => folder.write_atomic(&path, format!("{digest}\n").as_bytes()),
        Ok(false) => return Err(TagError::Missing { tag, digest }),
        Err(error) => Err(error),
    };
    written.map(|()| before).map_err(|source| TagError::Write { tag, path, source })
}

fn read_tag(folder: &Folder, tag: Tag) -> Result<Option<Digest>, TagError> {
    let path = folder.tag(&tag);
    match fs::read(&path) {
        Ok(bytes) => {
            let digest = String::from_utf8(bytes).ok().and_then(|text| text.trim_end().parse().ok());
            digest.map(Some).ok_or(TagError::Damaged { tag, path })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TagError::Read { tag, path, source }),
    }
}

/// Refuses a new tag if its namespace has as many as are allowed; returns how many it may still have. The files of tags are not read.
fn check_number(folder: &Folder, tag: &Tag) -> Result<usize, TagError> {
    let ListError::Read { path, source } = match tag_files(folder) {
        Ok(known) => return tag::check_number(tag, known.into_iter()),
        Err(error) => error,
    };
    Err(TagError::Read { tag: tag.clone(), path, source })
}

/// The tags that have a file.
fn tag_files(folder: &Folder) -> Result<Vec<Tag>, ListError> {
    let files = folder::list(&folder.tags())?;
    Ok(files.iter().filter_map(|file| Folder::tag_of(file.file_name().to_str()?)).collect())
}

/// The readable tags that are wanted: a damaged tag does not hide the others. The files of others are not read.
fn tags_where(folder: &Folder, is_wanted: impl Fn(&Tag) -> bool) -> Result<Vec<(Tag, Digest)>, ListError> {
    let mut tags = Vec::new();
    for tag in tag_files(folder)?.into_iter().filter(is_wanted) {
        match read_tag(folder, tag.clone()) {
            Ok(Some(digest)) => tags.push((tag, digest)),
            Ok(None) => {}
            Err(error) => warn!(%error, "a damaged tag is skipped"),
        }
    }
    tags.sort();
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn a_directory_passes_the_contract() {
        let root = tempfile::tempdir().unwrap();
        let numbers = std::sync::atomic::AtomicU32::new(0);
        let next = || root.path().join(numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string());
        crate::contract::all(async || Directory::open(next()).await.unwrap()).await;
    }

    #[tokio::test]
    async fn handles_share_content_and_tags() {
        let root = tempfile::tempdir().unwrap();
        let tag: Tag = "kitchen:1".parse().unwrap();
        let first = Directory::open(root.path().into()).await.unwrap();
        let digest = first.put("pan".into()).await.unwrap();
        first.tag(&tag, &digest).await.unwrap();
        drop(first);
        let second = Directory::open(root.path().into()).await.unwrap();
        assert_eq!(second.fetch(&digest).await.unwrap(), "pan");
        assert_eq!(second.resolve_tag(&tag).await.unwrap(), Some(digest));
    }

    #[tokio::test]
    async fn remove_and_put_exclude_each_other() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::open(root.path().into()).await.unwrap();
        store.put("pan".into()).await.unwrap();
        let [entry] = &store.list().await.unwrap()[..] else { panic!("there is one entry") };
        // Another writer is putting the content again.
        let put_lock = fs::File::open(root.path().join("lock")).unwrap();
        put_lock.lock_shared().unwrap();
        let removing = store.remove(entry);
        tokio::pin!(removing);
        let result = tokio::time::timeout(std::time::Duration::from_millis(100), &mut removing).await;
        assert!(result.is_err(), "the removal waits");
        store.touch(&entry.digest).await.unwrap();
        drop(put_lock);
        assert!(!removing.await.unwrap(), "the put content has a new age");
        assert_eq!(store.fetch(&entry.digest).await.unwrap(), "pan");
    }

    #[tokio::test]
    async fn a_store_opened_for_reading_is_not_created() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("store");
        let store = Directory::open_to_read(folder.clone()).await.unwrap();
        assert_eq!((store.list().await.unwrap(), store.tags().await.unwrap()), (Vec::new(), Vec::new()));
        assert_eq!(store.resolve_tag(&"pan".parse().unwrap()).await.unwrap(), None);
        assert!(!folder.exists());
        let digest = Directory::open(folder).await.unwrap().put("pan".into()).await.unwrap();
        assert_eq!(store.fetch(&digest).await.unwrap(), "pan", "later content is visible");
    }

    #[tokio::test]
    async fn a_damaged_tag_is_reported_and_repaired_by_setting_it() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::open(root.path().into()).await.unwrap();
        let (bad, good): (Tag, Tag) = ("bad".parse().unwrap(), "good".parse().unwrap());
        let digest = store.put("pan".into()).await.unwrap();
        store.tag(&good, &digest).await.unwrap();
        let path = root.path().join("tags/bad");
        fs::write(&path, "sha256:12").unwrap();
        fs::write(root.path().join("tags/.hidden"), "no tag").unwrap();
        let error = store.resolve_tag(&bad).await.unwrap_err();
        assert_eq!(error.to_string(), format!("tag bad is damaged: {} holds no digest", path.display()));
        assert_eq!(store.tags().await.unwrap(), [(good.clone(), digest)]);
        assert_eq!(store.tag(&bad, &digest).await.unwrap(), EarlierDigest::Unreadable);
        assert_eq!(store.tag(&bad, &digest).await.unwrap(), EarlierDigest::Known(digest));
        assert_eq!(store.tags().await.unwrap(), [(bad, digest), (good, digest)]);
    }

    #[tokio::test]
    async fn a_namespace_has_a_maximum_of_tags() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::open(root.path().into()).await.unwrap();
        let digest = store.put("pan".into()).await.unwrap();
        // Only their names count.
        for number in 0..crate::MAX_NAMESPACE_TAGS {
            fs::write(root.path().join(format!("tags/shop%t{number}")), "").unwrap();
        }
        let tag = async |tag: &str| store.tag(&tag.parse().unwrap(), &digest).await;
        assert!(matches!(tag("shop/new").await, Err(TagError::TooMany { .. })));
        for good in ["shop/t1", "shop", "shop2/new", "new"] {
            assert!(tag(good).await.is_ok(), "{good} is refused");
        }
        let shop = store.tags_in(Some(&"shop".parse().unwrap())).await.unwrap();
        assert_eq!(shop, [("shop/t1".parse().unwrap(), digest)]);
    }

    #[test]
    fn concurrent_tag_writes_are_atomic() {
        let root = tempfile::tempdir().unwrap();
        let tag: Tag = "kitchen".parse().unwrap();
        let digests = thread::scope(|scope| {
            let handles: Vec<_> = (0..4u8)
                .map(|index| {
                    let (root, tag) = (root.path(), &tag);
                    scope.spawn(move || {
                        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                        runtime.block_on(async {
                            let store = Directory::open(root.into()).await.unwrap();
                            let digest = store.put(vec![index; 1_000].into()).await.unwrap();
                            for _ in 0..10 {
                                store.tag(tag, &digest).await.unwrap();
                                assert!(store.resolve_tag(tag).await.unwrap().is_some());
                            }
                            digest
                        })
                    })
                })
                .collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect::<Vec<_>>()
        });
        let folder = Folder::open(root.path().into()).unwrap();
        let resolved = read_tag(&folder, tag).unwrap().unwrap();
        assert!(digests.contains(&resolved));
    }
}
