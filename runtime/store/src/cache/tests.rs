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
        let content = self.cache.get_or_fetch(digest, fetch).await.unwrap();
        assert_eq!(content, bytes);
        fetched
    }

    fn path(&self, bytes: &[u8]) -> PathBuf {
        self.cache.folder.as_ref().unwrap().path(&digest_of(bytes))
    }

    fn set_last_use(&self, bytes: &[u8], ago: Duration) {
        File::open(self.path(bytes)).unwrap().set_modified(SystemTime::now() - ago).unwrap();
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn fetched_content_is_shared_between_processes() {
    let test = TestCache::new(100).await;
    assert!(test.get(b"pan").await);
    assert!(!test.get(b"pan").await);
    let other = Cache::open(test.root.path().into(), 100).await.unwrap();
    let content = other.get_or_fetch(digest_of(b"pan"), async { panic!("it is on disk") }).await;
    assert_eq!(content.unwrap(), "pan");
}

#[tokio::test]
async fn the_least_recently_used_content_is_evicted() {
    let test = TestCache::new(30).await;
    let (a, b, c) = ([b'a'; 10], [b'b'; 10], [b'c'; 10]);
    for bytes in [&a, &b, &c] {
        test.get(bytes).await;
    }
    for (bytes, hours) in [(&a, 3), (&b, 2), (&c, 1)] {
        test.set_last_use(bytes, hours * HOUR);
    }
    assert!(!test.get(&a).await, "it is used now");
    assert!(test.get(&[b'd'; 10]).await);
    assert!(!test.path(&b).exists(), "it was the least recently used");
    for bytes in [a, c, [b'd'; 10]] {
        assert!(test.path(&bytes).exists(), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_cache_never_stays_larger_than_its_size() {
    let test = TestCache::new(100).await;
    let contents: Vec<[u8; 30]> = (0..10).map(|index| [index; 30]).collect();
    futures::future::join_all(contents.iter().map(|bytes| test.get(bytes))).await;
    let entries = test.cache.folder.as_ref().unwrap().entries().unwrap();
    // The remaining number depends on the order of arrival, but the contents always fit.
    assert!((1..=3).contains(&entries.len()), "{entries:?}");
    assert!(test.get(&[b'x'; 101]).await);
    assert!(!test.path(&[b'x'; 101]).exists(), "it is larger than the cache");
    assert_eq!(test.cache.folder.as_ref().unwrap().entries().unwrap(), entries, "nothing is evicted for it");
}

#[tokio::test]
async fn a_corrupt_file_is_refetched() {
    let test = TestCache::new(100).await;
    test.get(b"pan").await;
    fs::write(test.path(b"pan"), b"pot").unwrap();
    assert!(test.get(b"pan").await);
    assert!(!test.get(b"pan").await);
    assert_eq!(fs::read(test.path(b"pan")).unwrap(), b"pan");
}

#[tokio::test]
async fn bytes_with_a_wrong_digest_are_rejected() {
    let test = TestCache::new(100).await;
    let digest = digest_of(b"pan");
    match test.cache.get_or_fetch(digest, async { Ok("pot".into()) }).await {
        Err(FetchError::Corrupt { expected, actual }) => {
            assert_eq!((expected, actual), (digest, digest_of(b"pot")))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(test.cache.folder.as_ref().unwrap().entries().unwrap(), []);
}

#[tokio::test]
async fn a_full_disk_does_not_fail_the_fetch() {
    let test = TestCache::new(100).await;
    let incoming = test.root.path().join("incoming");
    fs::remove_dir(&incoming).unwrap();
    fs::write(&incoming, b"a file instead of a folder").unwrap();
    assert!(test.get(b"pan").await);
    assert!(test.get(b"pan").await, "it could not be cached");
}

#[tokio::test]
async fn concurrent_fetches_of_one_digest_are_shared() {
    let test = TestCache::new(100).await;
    let (digest, fetches) = (digest_of(b"pan"), AtomicU32::new(0));
    let gets = (0..20).map(|_| {
        test.cache.get_or_fetch(digest, async {
            fetches.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok("pan".into())
        })
    });
    for content in futures::future::join_all(gets).await {
        assert_eq!(content.unwrap(), "pan");
    }
    assert_eq!(fetches.into_inner(), 1);
}

#[tokio::test]
async fn a_failure_is_not_shared() {
    let test = TestCache::new(100).await;
    let (digest, go) = (digest_of(b"pan"), Notify::new());
    let failing = test.cache.get_or_fetch(digest, async {
        go.notified().await;
        Err(FetchError::Missing { digest })
    });
    let succeeding = test.cache.get_or_fetch(digest, async { Ok("pan".into()) });
    let release = async { go.notify_one() };
    let (failed, succeeded, ()) = futures::join!(failing, succeeding, release);
    assert!(matches!(failed, Err(FetchError::Missing { .. })), "{failed:?}");
    assert_eq!(succeeded.unwrap(), "pan");
}

#[tokio::test]
async fn a_dropped_leader_is_replaced() {
    let test = TestCache::new(100).await;
    let (digest, started) = (digest_of(b"pan"), Notify::new());
    let leader = test.cache.get_or_fetch(digest, async {
        started.notify_one();
        std::future::pending().await
    });
    let mut leader = Box::pin(leader);
    tokio::select! {
        biased;
        _ = &mut leader => unreachable!("it never ends"),
        () = started.notified() => {}
    }
    let mut follower = Box::pin(test.cache.get_or_fetch(digest, async { Ok("pan".into()) }));
    assert!(futures::poll!(&mut follower).is_pending());
    drop(leader);
    assert_eq!(follower.await.unwrap(), "pan");
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
