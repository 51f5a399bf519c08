//! The rules of every store, as one suite to run over each.

use bytes::Bytes;
use flow::{Digest, Namespace, Timestamp};

use crate::{
    Entry, FetchError, MAX_NAMESPACE_SIGNATURES, MAX_SIGNATURES, Modules, Policy, Rule, SignError, Signature,
    SigningKey, Store, Tag, TagError, digest::digest_of,
};

/// Runs the suite, each rule over its own store.
///
/// # Panics
/// When a store violates a rule.
pub async fn all<S: Store>(open: impl AsyncFn() -> S) {
    let store = open().await;
    fetching(&store, async |digest| store.fetch(&digest).await).await;
    putting_twice_is_putting_once(open().await).await;
    content_touched_after_listing_is_not_removed(open().await).await;
    content_is_listed_by_digest(open().await).await;
    pages_of_contents_follow_one_another(open().await).await;
    a_tag_resolves_to_its_last_digest(open().await).await;
    removed_content_can_be_put_again(open().await).await;
    a_tag_never_resolves_to_missing_content(open().await).await;
    several_signers_sign_one_content(open().await).await;
    a_signature_that_admits_replaces_one_that_does_not(open().await).await;
    a_namespace_has_a_part_of_the_places_for_signatures(open().await).await;
    the_signatures_of_a_content_are_limited_and_removed_with_it(open().await).await;
    concurrent_operations_are_independent(open().await).await;
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
    text.parse().expect("a valid tag")
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
        assert_eq!(store.size(&digest).await.expect("the store can be read"), Some(size as u64));
        let fetched = fetch(digest).await.expect("it is there");
        assert!(fetched == bytes, "{size} bytes come back changed");
    }
}

async fn missing_content_is_reported(fetch: &impl AsyncFn(Digest) -> Result<Bytes, FetchError>) {
    let missing = digest_of(b"never put");
    match fetch(missing).await {
        Err(FetchError::Missing { digest }) => assert_eq!(digest, missing),
        other => panic!("a fetch of missing content: {other:?}"),
    }
}

async fn putting_twice_is_putting_once(store: impl Store) {
    let first = put(&store, "pan").await;
    let before = store.list().await.expect("the store can be listed");
    assert_eq!(put(&store, "pan").await, first);
    let after = store.list().await.expect("the store can be listed");
    let digests_and_sizes =
        |entries: &[Entry]| entries.iter().map(|entry| (entry.digest, entry.size)).collect::<Vec<_>>();
    assert_eq!(digests_and_sizes(&before), digests_and_sizes(&after));
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
    assert!(newer.stored_at > old.stored_at, "content that is put again has the age of new content");
    assert!(!store.remove(&old).await.expect("the store can be written"), "it was put since");
    assert!(store.touch(&digest).await.expect("the store can be written"));
    assert!(!store.remove(&newer).await.expect("the store can be written"), "it was touched since");
    assert_eq!(store.fetch(&digest).await.expect("it is there"), "pan");
    let newest = listed(&store, digest).await;
    assert!(store.remove(&newest).await.expect("the store can be written"), "it was not touched");
    assert!(!store.touch(&digest).await.expect("the store can be written"), "it was removed");
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
    let missing = digest_of(b"never put");
    assert!(!store.contains(&missing).await.expect("the store can be read"));
    assert_eq!(store.size(&missing).await.expect("the store can be read"), None);
}

async fn pages_of_contents_follow_one_another(store: impl Store) {
    for number in 0..60 {
        put(&store, format!("content {number}")).await;
    }
    let all = store.list().await.expect("the store can be listed");
    for max in [1, 7, 59, 60, usize::MAX] {
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = store.list_after(after.as_ref(), max).await.expect("the store can be listed");
            assert!(page.len() <= max);
            let Some(last) = page.last() else { break };
            after = Some(last.digest);
            paged.extend(page);
        }
        assert_eq!(paged, all, "pages of {max}");
    }
    let missing = digest_of(b"nothing");
    let behind = store.list_after(Some(&missing), usize::MAX).await.expect("the store can be listed");
    assert!(behind.iter().eq(all.iter().filter(|entry| entry.digest > missing)));
    let some = [all[20].digest, missing, all[10].digest];
    let entries = store.entries_of(&some).await.expect("the store can be read");
    assert_eq!(entries, [all[20].clone(), all[10].clone()]);
}

async fn a_tag_resolves_to_its_last_digest(store: impl Store) {
    let (old, new) = (put(&store, "old").await, put(&store, "new").await);
    let (moved, fixed, in_namespace) = (tag("kitchen"), tag("kitchen:1.2"), tag("shop/kitchen"));
    assert_eq!(store.resolve_tag(&moved).await.expect("tags can be read"), None);
    for (tag, digest, before) in
        [(&moved, &old, None), (&fixed, &old, None), (&in_namespace, &old, None), (&moved, &new, Some(old))]
    {
        assert_eq!(store.tag(tag, digest).await.expect("tags can be written"), before.into());
    }
    assert_eq!(store.resolve_tag(&moved).await.expect("tags can be read"), Some(new));
    let of_none = store.tags_in(None).await.expect("tags can be read");
    assert_eq!(of_none, [(moved.clone(), new), (fixed.clone(), old)]);
    for (namespace, own) in [("shop", vec![(in_namespace.clone(), old)]), ("kitchen", Vec::new())] {
        let namespace = Namespace::new(namespace).expect("a valid name");
        assert_eq!(store.tags_in(Some(&namespace)).await.expect("tags can be read"), own);
    }
    assert_eq!(store.tags().await.expect("tags can be read"), [(moved, new), (fixed, old), (in_namespace, old)]);
}

async fn removed_content_can_be_put_again(store: impl Store) {
    let (removed, other) = (put(&store, "removed").await, put(&store, "other").await);
    let entry = listed(&store, removed).await;
    assert!(store.remove(&entry).await.expect("it can be removed"));
    assert!(store.remove(&entry).await.expect("it may be removed twice"));
    assert!(matches!(store.fetch(&removed).await, Err(FetchError::Missing { .. })));
    assert_eq!(store.fetch(&other).await.expect("the other is there"), "other");
    assert_eq!(put(&store, "removed").await, removed);
    assert_eq!(store.fetch(&removed).await.expect("it is there"), "removed");
}

async fn a_tag_never_resolves_to_missing_content(store: impl Store) {
    let missing = digest_of(b"never put");
    match store.tag(&tag("kitchen"), &missing).await {
        Err(TagError::Missing { digest, .. }) => assert_eq!(digest, missing),
        other => panic!("a tag for missing content: {other:?}"),
    }
    assert_eq!(store.tags().await.expect("tags can be read"), []);
}

fn key() -> SigningKey {
    SigningKey::generate().expect("the system has random numbers")
}

fn signature(key: &SigningKey, digest: Digest, for_tag: Option<&str>, second: u64) -> Signature {
    let at = Timestamp::from_micros(second * 1_000_000);
    key.sign(digest, for_tag.map(tag), at).expect("a key signs")
}

async fn several_signers_sign_one_content(store: impl Store) {
    let (digest, other) = (put(&store, "pan").await, put(&store, "pot").await);
    let (first, second) = (key(), key());
    let sign = async |signature: &Signature| {
        store.sign(signature, &Policy::default()).await.expect("the store can be written")
    };
    let read = async |digest| {
        let mut read = store.signatures(&digest).await.expect("signatures can be read");
        read.sort_by_key(|signature| (signature.signer().clone(), signature.tag().cloned()));
        read
    };
    assert_eq!(read(digest).await, []);
    let (any, for_tag) = (signature(&first, digest, None, 5), signature(&first, digest, Some("kitchen"), 5));
    let (by_second, of_other) = (signature(&second, digest, None, 5), signature(&first, other, None, 5));
    let in_namespace = signature(&first, put(&store, "lid").await, Some("shop/kitchen:1"), 5);
    sign(&in_namespace).await;
    assert_eq!(
        read(*in_namespace.digest()).await,
        std::slice::from_ref(&in_namespace),
        "it is the first of its content"
    );
    for made in [&any, &for_tag, &by_second, &of_other] {
        sign(made).await;
        sign(made).await;
    }
    let mut expected = vec![any, for_tag.clone(), by_second.clone()];
    expected.sort_by_key(|signature| (signature.signer().clone(), signature.tag().cloned()));
    assert_eq!(read(digest).await, expected);
    assert_eq!(read(other).await, [of_other]);
    let (older, younger) = (signature(&first, digest, None, 4), signature(&first, digest, None, 6));
    for made in [&older, &younger, &older] {
        sign(made).await;
    }
    let mut expected = vec![younger, for_tag, by_second];
    expected.sort_by_key(|signature| (signature.signer().clone(), signature.tag().cloned()));
    assert_eq!(read(digest).await, expected, "the youngest of each signer for each tag counts");
}

async fn a_signature_that_admits_replaces_one_that_does_not(store: impl Store) {
    let (digest, admitted, stranger, denied) = (put(&store, "pan").await, key(), key(), key());
    let rule = Rule::Signer { signer: admitted.signer(), tags: vec!["shop:*".parse().expect("a pattern")] };
    let policy =
        &Policy { modules: Modules::Listed(vec![rule]), denied_signers: [denied.signer()].into(), ..Policy::default() };
    let of_denied = signature(&denied, digest, None, 1);
    store.sign(&of_denied, policy).await.expect("the store can be written");
    for number in 1..MAX_SIGNATURES {
        let made = signature(&stranger, digest, Some(&format!("kitchen:{number}")), 2 + number as u64);
        store.sign(&made, policy).await.expect("the store can be written");
    }
    let full = store.signatures(&digest).await.expect("signatures can be read");
    for useless in [signature(&stranger, digest, None, 99), signature(&admitted, digest, Some("admin:1"), 99)] {
        assert!(matches!(store.sign(&useless, policy).await, Err(SignError::TooMany { .. })), "it admits nothing");
    }
    assert_eq!(store.signatures(&digest).await.expect("signatures can be read"), full);
    let of_shop = |number: usize| signature(&admitted, digest, Some(&format!("shop:{number}")), 50);
    store.sign(&of_shop(0), policy).await.expect("it replaces one");
    let read = store.signatures(&digest).await.expect("signatures can be read");
    let has_tag = |tag: &str| read.iter().any(|known| known.tag().is_some_and(|known| known.as_str() == tag));
    assert!(has_tag("shop:0") && !has_tag("kitchen:1") && has_tag("kitchen:2"), "it replaces the oldest: {read:?}");
    for number in 1..MAX_SIGNATURES {
        assert!(store.signatures(&digest).await.expect("signatures can be read").contains(&of_denied), "it goes last");
        store.sign(&of_shop(number), policy).await.expect("it replaces one");
    }
    let refused = store.sign(&of_shop(MAX_SIGNATURES), policy).await;
    assert!(matches!(refused, Err(SignError::TooMany { .. })), "all the others admit the content");
}

async fn a_namespace_has_a_part_of_the_places_for_signatures(store: impl Store) {
    let (digest, admitted, stranger) = (put(&store, "pan").await, key(), key());
    let rule = Rule::Signer { signer: admitted.signer(), tags: Vec::new() };
    let (any, listed) = (&Policy::default(), &Policy { modules: Modules::Listed(vec![rule]), ..Policy::default() });
    let of = |signer: &SigningKey, tag: &str, second: usize| signature(signer, digest, Some(tag), second as u64);
    let tags = async |namespace: &str| {
        let read = store.signatures(&digest).await.expect("signatures can be read");
        let read = read.iter().filter_map(|known| known.tag().filter(|tag| tag.as_str().starts_with(namespace)));
        read.map(|tag| tag.as_str().to_owned()).collect::<std::collections::BTreeSet<String>>()
    };
    for number in 0..MAX_SIGNATURES {
        store.sign(&of(&stranger, &format!("shop/a:{number:02}"), number), any).await.expect("it replaces the oldest");
    }
    let newest = |from: usize| (from..MAX_SIGNATURES).map(|number| format!("shop/a:{number:02}")).collect();
    assert_eq!(tags("shop/").await, newest(MAX_SIGNATURES - MAX_NAMESPACE_SIGNATURES));
    store.sign(&of(&stranger, "bank/a:1", 1), any).await.expect("others have room");
    store.sign(&of(&stranger, "a:1", 1), any).await.expect("others have room");
    // One that can admit the content gives its place only to another one that can.
    for number in 1..MAX_NAMESPACE_SIGNATURES {
        store.sign(&of(&admitted, &format!("bank/b:{number}"), number), listed).await.expect("it has room");
    }
    let before = tags("bank/").await;
    store.sign(&of(&stranger, "bank/c:1", 99), listed).await.expect("it replaces one that admits nothing");
    assert!(tags("bank/").await.contains("bank/c:1") && !tags("bank/").await.contains("bank/a:1"), "{before:?}");
    store.sign(&of(&admitted, "bank/b:9", 2), listed).await.expect("it replaces one that admits nothing");
    let full = tags("bank/").await;
    let refused = store.sign(&of(&stranger, "bank/c:2", 100), listed).await.expect_err("all admit the content");
    assert!(refused.to_string().contains("4 signatures for tags of the namespace bank already"), "{refused}");
    assert_eq!(tags("bank/").await, full);
    store.sign(&of(&admitted, "bank/d:1", 100), listed).await.expect("it replaces the oldest");
    assert!(tags("bank/").await.contains("bank/d:1") && !tags("bank/").await.contains("bank/b:1"), "it was the oldest");
}

async fn the_signatures_of_a_content_are_limited_and_removed_with_it(store: impl Store) {
    let (digest, key, any) = (put(&store, "pan").await, key(), &Policy::default());
    let missing = signature(&key, digest_of(b"never put"), None, 5);
    assert!(matches!(store.sign(&missing, any).await, Err(SignError::Missing { .. })));
    let of_tag = |number: usize| signature(&key, digest, Some(&format!("kitchen:{number}")), 5);
    for number in 0..MAX_SIGNATURES {
        store.sign(&of_tag(number), any).await.expect("the store can be written");
    }
    assert!(matches!(store.sign(&of_tag(MAX_SIGNATURES), any).await, Err(SignError::TooMany { .. })));
    store.sign(&signature(&key, digest, Some("kitchen:0"), 6), any).await.expect("it replaces one");
    let entry = listed(&store, digest).await;
    assert!(store.remove(&entry).await.expect("it can be removed"));
    assert_eq!(put(&store, "pan").await, digest);
    assert_eq!(store.signatures(&digest).await.expect("signatures can be read"), []);
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

/// Bytes without repetition, so that a misplaced part is detected.
fn sample(size: usize) -> Bytes {
    let mut state = size as u64;
    let next = || {
        // A linear congruential generator: any generator that does not repeat would do.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}
