//! Fetches that fail, panic, hang or succeed, with stores that do so on demand.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use flow::{Action, Attempt, CallId, Digest, Firing, Namespace, Stored};
use store::{
    EarlierDigest, Entry, ListError, Memory, Policy, PutError, RemoveError, SignError, Signature, Tag, TagError,
};

use super::*;

/// The result of the tries of a faulty store.
#[derive(Clone, Copy)]
enum Fault {
    /// They panic.
    Panics,
    /// They never end.
    Hangs,
    /// They fail because the store is unavailable.
    Away,
}

/// A store whose first tries are faulty.
struct FaultyStore {
    fault: Fault,
    tries: AtomicU32,
    faulty: u32,
    inner: Memory,
}

#[async_trait]
impl Store for FaultyStore {
    async fn put(&self, bytes: Bytes) -> Result<Digest, PutError> {
        self.inner.put(bytes).await
    }

    async fn fetch(&self, digest: &Digest) -> Result<Bytes, FetchError> {
        if self.tries.fetch_add(1, Ordering::Relaxed) < self.faulty {
            match self.fault {
                Fault::Panics => panic!("as the test wants it"),
                Fault::Hangs => std::future::pending().await,
                Fault::Away => return Err(FetchError::Closed { digest: *digest }),
            }
        }
        self.inner.fetch(digest).await
    }

    async fn contains(&self, digest: &Digest) -> Result<bool, FetchError> {
        self.inner.contains(digest).await
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, FetchError> {
        self.inner.size(digest).await
    }

    async fn list(&self) -> Result<Vec<Entry>, ListError> {
        self.inner.list().await
    }

    async fn list_after(&self, after: Option<&Digest>, max: usize) -> Result<Vec<Entry>, ListError> {
        self.inner.list_after(after, max).await
    }

    async fn entries_of(&self, digests: &[Digest]) -> Result<Vec<Entry>, ListError> {
        self.inner.entries_of(digests).await
    }

    async fn tag(&self, tag: &Tag, digest: &Digest) -> Result<EarlierDigest, TagError> {
        self.inner.tag(tag, digest).await
    }

    async fn resolve_tag(&self, tag: &Tag) -> Result<Option<Digest>, TagError> {
        self.inner.resolve_tag(tag).await
    }

    async fn tags(&self) -> Result<Vec<(Tag, Digest)>, ListError> {
        self.inner.tags().await
    }

    async fn tags_in(&self, namespace: Option<&Namespace>) -> Result<Vec<(Tag, Digest)>, ListError> {
        self.inner.tags_in(namespace).await
    }

    async fn touch(&self, digest: &Digest) -> Result<bool, PutError> {
        self.inner.touch(digest).await
    }

    async fn sign(&self, signature: &Signature, policy: &Policy) -> Result<(), SignError> {
        self.inner.sign(signature, policy).await
    }

    async fn signatures(&self, digest: &Digest) -> Result<Vec<Signature>, ListError> {
        self.inner.signatures(digest).await
    }

    async fn remove(&self, entry: &Entry) -> Result<bool, RemoveError> {
        self.inner.remove(entry).await
    }
}

fn id() -> CallId {
    let (run, task) = ("r".parse().expect("a valid name"), "t".parse().expect("a valid name"));
    CallId { run, task, firing: Firing::FIRST, attempt: Attempt::new(1), action: Action::Apply }
}

/// Fetches a list from a faulty store.
async fn fetched(fault: Fault, faulty: u32) -> (FetchResult, u32) {
    let inner = Memory::new();
    let digest = inner.put(Bytes::from_static(b"[1,2]")).await.expect("it is kept");
    let store = Arc::new(FaultyStore { fault, tries: AtomicU32::new(0), faulty, inner });
    let mut fetches = Fetches::new(store.clone());
    let list = Value::Stored(Stored { digest, size: 5, form: ValueKind::Json });
    fetches.send(id().run, ValueFetch { id: id(), target: FetchTarget::List { list, most: 2 } });
    let (run, event) = fetches.next().await.expect("every fetch ends");
    assert_eq!(run, id().run);
    assert!(fetches.is_empty() && fetches.fetches.is_empty());
    let Event::Fetched { id: of, result } = event else { panic!("it is what was fetched") };
    assert_eq!(of, id());
    (result, store.tries.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_panics_or_hangs_or_finds_no_store_is_tried_again() {
    for fault in [Fault::Panics, Fault::Hangs, Fault::Away] {
        let (result, tries) = fetched(fault, 3).await;
        assert_eq!(result, FetchResult::List(Ok([Json::from(&1.into()), Json::from(&2.into())].into())));
        assert_eq!(tries, 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_always_panics_or_hangs_or_finds_no_store_fails_its_node() {
    for (fault, says) in
        [(Fault::Panics, "was lost"), (Fault::Hangs, "has not answered"), (Fault::Away, "could not be fetched")]
    {
        let (result, tries) = fetched(fault, u32::MAX).await;
        let FetchResult::List(Err(failure)) = result else { panic!("it is a list, and failed: {result:?}") };
        assert_eq!((failure.kind, tries), (FailureKind::Transient, MAX_TRIES));
        assert!(failure.message.contains(says), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_list_that_is_too_long_fails_its_node_for_good() {
    let inner = Memory::new();
    let digest = inner.put(Bytes::from_static(b"[1,2,3]")).await.expect("it is kept");
    let mut fetches = Fetches::new(Arc::new(inner));
    let list = Value::Stored(Stored { digest, size: 7, form: ValueKind::Json });
    fetches.send(id().run, ValueFetch { id: id(), target: FetchTarget::List { list, most: 2 } });
    let Some((_, Event::Fetched { result: FetchResult::List(Err(failure)), .. })) = fetches.next().await else {
        panic!("it fails")
    };
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert_eq!(failure.message, "the list has 3 elements, and the limit `elements` allows 2 here");
}

#[test]
fn pauses_grow_up_to_the_longest() {
    let pauses: Vec<u64> = (0..7).map(|more| retry_delay(more).as_secs()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(retry_delay(u32::MAX), MAX_RETRY_DELAY);
}
