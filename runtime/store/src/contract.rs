//! The rules of every store, as one suite to run over each.

use bytes::Bytes;
use flow::Digest;

use crate::{Entry, FetchError, Store, Tag, TagError, digest::digest_of};

/// Runs the whole suite, each rule over a store of its own.
///
/// # Panics
/// When a store violates a rule.
pub async fn all<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    fetching(&store, async |digest| store.fetch(&digest).await).await;
    putting_twice_is_putting_once(make().await).await;
    content_touched_after_listing_is_not_removed(make().await).await;
    content_is_listed_by_digest(make().await).await;
    a_tag_resolves_to_its_last_digest(make().await).await;
    removed_content_can_be_put_again(make().await).await;
    a_tag_never_resolves_to_missing_content(make().await).await;
    concurrent_operations_are_independent(make().await).await;
}

/// Runs the rules of fetching; `fetch` is any way from a digest to the bytes in `store`.
///
/// # Panics
/// When a store violates a rule.
pub async fn fetching(store: &dyn Store, fetch: impl AsyncFn(Digest) -> Result<Bytes, FetchError>) {
    put_content_is_fetched_by_digest(store, &fetch).await;
    missing_content_is_reported(&fetch).await;
}

async fn put(store: &dyn Store, bytes: impl Into<Bytes>) -> Digest {
    store.put(bytes.into()).await.expect("the store can be written")
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a lawful tag")
}

async fn put_content_is_fetched_by_digest(
    store: &dyn Store,
    fetch: &impl AsyncFn(Digest) -> Result<Bytes, FetchError>,
) {
    for size in [0, 1, 1_000, 262_144, 262_145, 3_000_000] {
        let bytes = sample(size);
        let digest = put(store, bytes.clone()).await;
        assert_eq!(digest, digest_of(&bytes));
        assert!(store.contains(&digest).await.expect("the store can be read"));
        let fetched = fetch(digest).await.expect("it is there");
        assert!(fetched == bytes, "{size} bytes do not come back as they were");
    }
}

async fn missing_content_is_reported(fetch: &impl AsyncFn(Digest) -> Result<Bytes, FetchError>) {
    let nobody = digest_of(b"never put");
    match fetch(nobody).await {
        Err(FetchError::Missing { digest }) => assert_eq!(digest, nobody),
        other => panic!("what was never put came to {other:?}"),
    }
}

async fn putting_twice_is_putting_once(store: impl Store) {
    let first = put(&store, "pan").await;
    let before = store.list().await.expect("the store can be listed");
    assert_eq!(put(&store, "pan").await, first);
    let after = store.list().await.expect("the store can be listed");
    let named = |entries: &[Entry]| entries.iter().map(|entry| (entry.digest, entry.size)).collect::<Vec<_>>();
    assert_eq!(named(&before), named(&after));
    assert_eq!(after.len(), 1);
}

async fn listed(store: &impl Store, digest: Digest) -> Entry {
    let entries = store.list().await.expect("the store can be listed");
    entries.into_iter().find(|entry| entry.digest == digest).expect("it is there")
}

async fn content_touched_after_listing_is_not_removed(store: impl Store) {
    let digest = put(&store, "pan").await;
    let old = listed(&store, digest).await;
    assert_eq!(put(&store, "pan").await, digest);
    let newer = listed(&store, digest).await;
    assert!(newer.stored_at > old.stored_at, "what is put again is as new as what was not there");
    assert!(!store.remove(&old).await.expect("the store can be written"), "it was put since");
    assert!(store.touch(&digest).await.expect("the store can be written"));
    assert!(!store.remove(&newer).await.expect("the store can be written"), "it was touched since");
    assert_eq!(store.fetch(&digest).await.expect("it is there"), "pan");
    let newest = listed(&store, digest).await;
    assert!(store.remove(&newest).await.expect("the store can be written"), "nobody wants it");
    assert!(!store.touch(&digest).await.expect("the store can be written"), "it is gone");
}

async fn content_is_listed_by_digest(store: impl Store) {
    assert_eq!(store.list().await.expect("the store can be listed"), []);
    let mut expected = Vec::new();
    for size in [5, 1, 70_000] {
        expected.push((put(&store, sample(size)).await, size as u64));
    }
    expected.sort_unstable();
    let listed = store.list().await.expect("the store can be listed");
    let listed: Vec<_> = listed.into_iter().map(|entry| (entry.digest, entry.size)).collect();
    assert_eq!(listed, expected);
    let nobody = digest_of(b"never put");
    assert!(!store.contains(&nobody).await.expect("the store can be read"));
}

async fn a_tag_resolves_to_its_last_digest(store: impl Store) {
    let (old, new) = (put(&store, "old").await, put(&store, "new").await);
    let (moved, fixed) = (tag("kitchen"), tag("kitchen:1.2"));
    assert_eq!(store.resolve_tag(&moved).await.expect("tags can be read"), None);
    for (tag, digest) in [(&moved, &old), (&fixed, &old), (&moved, &new)] {
        store.tag(tag, digest).await.expect("tags can be written");
    }
    assert_eq!(store.resolve_tag(&moved).await.expect("tags can be read"), Some(new));
    assert_eq!(store.tags().await.expect("tags can be read"), [(moved, new), (fixed, old)]);
}

async fn removed_content_can_be_put_again(store: impl Store) {
    let (gone, kept) = (put(&store, "gone").await, put(&store, "kept").await);
    let entry = listed(&store, gone).await;
    assert!(store.remove(&entry).await.expect("it can be removed"));
    assert!(store.remove(&entry).await.expect("it may be removed twice"));
    assert!(matches!(store.fetch(&gone).await, Err(FetchError::Missing { .. })));
    assert_eq!(store.fetch(&kept).await.expect("the other is there"), "kept");
    assert_eq!(put(&store, "gone").await, gone);
    assert_eq!(store.fetch(&gone).await.expect("it is there again"), "gone");
}

async fn a_tag_never_resolves_to_missing_content(store: impl Store) {
    let nobody = digest_of(b"never put");
    match store.tag(&tag("kitchen"), &nobody).await {
        Err(TagError::Missing { digest, .. }) => assert_eq!(digest, nobody),
        other => panic!("a tag for what was never put came to {other:?}"),
    }
    assert_eq!(store.tags().await.expect("tags can be read"), []);
}

async fn concurrent_operations_are_independent(store: impl Store) {
    let store = &store;
    let digests = futures::future::join_all((0..12).map(|index| put(store, sample(index % 4)))).await;
    for (index, digest) in digests.iter().enumerate() {
        assert_eq!(*digest, digest_of(&sample(index % 4)));
        assert_eq!(store.fetch(digest).await.expect("it is there"), sample(index % 4));
    }
    assert_eq!(store.list().await.expect("the store can be listed").len(), 4);
}

/// Bytes in which no two parts are alike, so that a misplaced part is detected.
fn sample(size: usize) -> Bytes {
    let mut state = size as u64;
    let next = || {
        // A linear congruential generator: any generator that does not repeat would do.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}
