//! What the cache stores, and what it evicts.

use std::{
    fs::{self, File},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

use tokio::sync::Notify;

use super::*;

struct TestCache {
    root: tempfile::TempDir,
    cache: Cache,
}

impl TestCache {
    async fn new(size: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path().into(), size).await.unwrap();
        Self { root, cache }
    }

    /// Gets a content, and returns whether it had to be fetched.
    async fn get(&self, bytes: &[u8]) -> bool {
        let (digest, mut fetched) = (digest_of(bytes), false);
        let fetch = async {
            fetched = true;
            Ok(Bytes::copy_from_slice(bytes))
        };
        let got = self.cache.get_or_fetch(digest, fetch).await.unwrap();
        assert_eq!(got, bytes);
        fetched
    }

    fn path(&self, bytes: &[u8]) -> PathBuf {
        self.cache.folder.as_ref().unwrap().path(&digest_of(bytes))
    }

    fn used(&self, bytes: &[u8], ago: Duration) {
        File::open(self.path(bytes)).unwrap().set_modified(SystemTime::now() - ago).unwrap();
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn fetched_content_is_shared_between_processes() {
    let kept = TestCache::new(100).await;
    assert!(kept.get(b"pan").await);
    assert!(!kept.get(b"pan").await);
    let other = Cache::open(kept.root.path().into(), 100).await.unwrap();
    let got = other.get_or_fetch(digest_of(b"pan"), async { panic!("it is on disk") }).await;
    assert_eq!(got.unwrap(), "pan");
}

#[tokio::test]
async fn the_least_recently_used_content_is_evicted() {
    let kept = TestCache::new(30).await;
    let (a, b, c) = ([b'a'; 10], [b'b'; 10], [b'c'; 10]);
    for bytes in [&a, &b, &c] {
        kept.get(bytes).await;
    }
    for (bytes, hours) in [(&a, 3), (&b, 2), (&c, 1)] {
        kept.used(bytes, hours * HOUR);
    }
    assert!(!kept.get(&a).await, "it is used now");
    assert!(kept.get(&[b'd'; 10]).await);
    assert!(!kept.path(&b).exists(), "nothing else was used longer ago");
    for there in [a, c, [b'd'; 10]] {
        assert!(kept.path(&there).exists(), "{there:?}");
    }
}

#[tokio::test]
async fn a_cache_never_stays_larger_than_its_size() {
    let kept = TestCache::new(100).await;
    let contents: Vec<[u8; 30]> = (0..10).map(|index| [index; 30]).collect();
    futures::future::join_all(contents.iter().map(|bytes| kept.get(bytes))).await;
    let entries = kept.cache.folder.as_ref().unwrap().entries().unwrap();
    // The remaining number depends on the order of arrival, but the contents always fit.
    assert!((1..=3).contains(&entries.len()), "{entries:?}");
    assert!(kept.get(&[b'x'; 101]).await);
    assert!(!kept.path(&[b'x'; 101]).exists(), "it is larger than the whole cache");
    assert_eq!(kept.cache.folder.as_ref().unwrap().entries().unwrap(), entries, "and drives nothing out");
}

#[tokio::test]
async fn a_corrupt_file_is_refetched() {
    let kept = TestCache::new(100).await;
    kept.get(b"pan").await;
    fs::write(kept.path(b"pan"), b"pot").unwrap();
    assert!(kept.get(b"pan").await);
    assert!(!kept.get(b"pan").await);
    assert_eq!(fs::read(kept.path(b"pan")).unwrap(), b"pan");
}

#[tokio::test]
async fn bytes_with_a_wrong_digest_are_rejected() {
    let kept = TestCache::new(100).await;
    let digest = digest_of(b"pan");
    match kept.cache.get_or_fetch(digest, async { Ok("pot".into()) }).await {
        Err(FetchError::Corrupt { expected, actual }) => {
            assert_eq!((expected, actual), (digest, digest_of(b"pot")))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(kept.cache.folder.as_ref().unwrap().entries().unwrap(), []);
}

#[tokio::test]
async fn a_full_disk_does_not_fail_the_fetch() {
    let kept = TestCache::new(100).await;
    let incoming = kept.root.path().join("incoming");
    fs::remove_dir(&incoming).unwrap();
    fs::write(&incoming, b"in the way").unwrap();
    assert!(kept.get(b"pan").await);
    assert!(kept.get(b"pan").await, "it could not be kept");
}

#[tokio::test]
async fn concurrent_fetches_of_one_digest_are_shared() {
    let kept = TestCache::new(100).await;
    let (digest, fetches) = (digest_of(b"pan"), AtomicU32::new(0));
    let gets = (0..20).map(|_| {
        kept.cache.get_or_fetch(digest, async {
            fetches.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok("pan".into())
        })
    });
    for got in futures::future::join_all(gets).await {
        assert_eq!(got.unwrap(), "pan");
    }
    assert_eq!(fetches.into_inner(), 1);
}

#[tokio::test]
async fn a_failure_is_not_shared() {
    let kept = TestCache::new(100).await;
    let (digest, go) = (digest_of(b"pan"), Notify::new());
    let fails = kept.cache.get_or_fetch(digest, async {
        go.notified().await;
        Err(FetchError::Missing { digest })
    });
    let succeeds = kept.cache.get_or_fetch(digest, async { Ok("pan".into()) });
    let third = async { go.notify_one() };
    let (failed, succeeded, ()) = futures::join!(fails, succeeds, third);
    assert!(matches!(failed, Err(FetchError::Missing { .. })), "{failed:?}");
    assert_eq!(succeeded.unwrap(), "pan");
}

#[tokio::test]
async fn a_dropped_leader_is_replaced() {
    let kept = TestCache::new(100).await;
    let (digest, begun) = (digest_of(b"pan"), Notify::new());
    let never = kept.cache.get_or_fetch(digest, async {
        begun.notify_one();
        std::future::pending().await
    });
    let mut never = Box::pin(never);
    tokio::select! {
        biased;
        _ = &mut never => unreachable!("it never ends"),
        () = begun.notified() => {}
    }
    let mut waits = Box::pin(kept.cache.get_or_fetch(digest, async { Ok("pan".into()) }));
    assert!(futures::poll!(&mut waits).is_pending());
    drop(never);
    assert_eq!(waits.await.unwrap(), "pan");
}

#[tokio::test]
async fn a_disabled_cache_fetches_and_verifies_every_time() {
    let (cache, digest) = (Cache::none(), digest_of(b"pan"));
    for _ in 0..2 {
        assert_eq!(cache.get_or_fetch(digest, async { Ok("pan".into()) }).await.unwrap(), "pan");
    }
    let error = cache.get_or_fetch(digest, async { Ok("pot".into()) }).await.unwrap_err();
    assert!(matches!(error, FetchError::Corrupt { .. }), "{error}");
}
