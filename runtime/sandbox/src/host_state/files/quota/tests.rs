//! Tests how much calls can put into a directory.

use futures::FutureExt as _;
use wasmtime_wasi::FsPerms;
use wasmtime_wasi_io::streams::OutputStream as _;

use super::*;
use crate::host_state::files::{StreamPlace, open::How, streams::Writer};

fn opening(folder: &std::path::Path, path: &str, how: How) -> Opening {
    let start = Arc::new(File::open(folder).unwrap());
    Opening { start, path: path.to_owned(), how, perms: FsPerms::ReadWrite }
}

async fn create(quota: &Quota, folder: &std::path::Path, path: &str) -> io::Result<()> {
    quota.create_directory(Arc::new(File::open(folder).unwrap()), path.to_owned()).await
}

fn quota(folder: &std::path::Path, max_bytes: u64) -> (Quota, Denied) {
    let denied = Denied::default();
    let root = Arc::new(File::open(folder).unwrap());
    (Quota::new("data", root, Arc::default(), max_bytes, denied.clone()), denied)
}

fn file(folder: &std::path::Path, name: &str) -> Arc<File> {
    let options = std::fs::OpenOptions::new().create(true).write(true).truncate(false).open(folder.join(name));
    Arc::new(options.unwrap())
}

#[tokio::test]
async fn a_directory_grows_to_its_limit_and_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let (quota, denied) = quota(folder.path(), 4 * BLOCK);
    let one = file(folder.path(), "one");
    // The file has a block for its name, and two for its bytes.
    quota.write(one.clone(), vec![0; 5_000].into(), None).await.unwrap();
    quota.write(one.clone(), vec![1; 4_999].into(), Some(1)).await.expect("it does not grow");
    let error = quota.write(one.clone(), vec![0; 9_000].into(), None).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let reason = denied.first().unwrap();
    assert!(reason.starts_with("writing to the directory data is denied: it would hold "), "{reason}");
    assert_eq!(one.metadata().unwrap().len(), 5_000, "nothing was written");
    assert!(quota.resize(one.clone(), 1 << 40).await.is_err(), "a hole counts too");
    assert!(quota.write(one.clone(), vec![0].into(), Some(u64::MAX)).await.is_err());
    // A file that shrinks frees its bytes.
    quota.resize(one.clone(), 0).await.unwrap();
    quota.write(one, vec![0; 9_000].into(), None).await.unwrap();
    assert!(create(&quota, folder.path(), "two").await.is_err());
}

#[tokio::test]
async fn an_open_file_without_a_name_counts() {
    for (reads, writes) in [(false, true), (true, false)] {
        let folder = tempfile::tempdir().unwrap();
        let (quota, _) = quota(folder.path(), 4 * BLOCK);
        quota.write(file(folder.path(), "one"), vec![0; 9_000].into(), None).await.unwrap();
        let how = How { reads, writes, ..How::default() };
        let one = opening(folder.path(), "one", how).open(&quota.usage, || Ok(())).unwrap();
        std::fs::remove_file(folder.path().join("one")).unwrap();
        let two = file(folder.path(), "two");
        assert!(quota.write(two.clone(), vec![0; 9_000].into(), None).await.is_err(), "{how:?}");
        drop(one);
        quota.write(two, vec![0; 9_000].into(), None).await.unwrap();
    }
}

#[tokio::test]
async fn links_and_inner_directories_count_without_being_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (quota, _) = quota(folder.path(), 5 * BLOCK);
    std::fs::create_dir(folder.path().join("inner")).unwrap();
    std::os::unix::fs::symlink("/", folder.path().join("inner/root")).unwrap();
    std::os::unix::fs::symlink(".", folder.path().join("loop")).unwrap();
    for name in ["one", "two"] {
        create(&quota, folder.path(), name).await.unwrap();
    }
    assert!(create(&quota, folder.path(), "three").await.is_err());
}

#[tokio::test]
async fn a_directory_takes_a_maximum_number_of_entries() {
    let folder = tempfile::tempdir().unwrap();
    let (quota, denied) = quota(folder.path(), u64::MAX);
    create(&quota, folder.path(), "measured").await.unwrap();
    for index in 0..MAX_ENTRIES - 3 {
        std::fs::write(folder.path().join(index.to_string()), "").unwrap();
    }
    // The other programs' files are noticed with the first growth of another call.
    let other = Quota { is_measured: Arc::default(), ..quota.clone() };
    let new = How { reads: true, creates: true, ..How::default() };
    let open = async |quota: &Quota, name: &str| quota.open(opening(folder.path(), name, new)).await;
    open(&other, "one").await.unwrap();
    open(&other, "one").await.expect("it is there");
    create(&other, folder.path(), "two").await.unwrap();
    assert!(create(&other, folder.path(), "two").await.is_err(), "it is there");
    assert_eq!(denied.first(), None);
    for _ in 0..2 {
        assert!(open(&other, "three").await.is_err());
        assert!(create(&other, folder.path(), "three").await.is_err());
    }
    let reason = denied.first().unwrap();
    assert!(reason.contains("no place for more than 10000 files and directories"), "{reason}");
    std::fs::remove_file(folder.path().join("one")).unwrap();
    open(&other, "three").await.expect("there is a place again");
    // With more entries than calls may make, nothing grows, however often a call tries.
    std::fs::write(folder.path().join("more"), "").unwrap();
    let third = Quota { is_measured: Arc::default(), ..quota.clone() };
    for _ in 0..3 {
        assert!(third.write(file(folder.path(), "more"), vec![0; 9].into(), None).await.is_err());
    }
}

#[tokio::test]
async fn calls_nest_directories_up_to_a_maximum_depth() {
    let folder = tempfile::tempdir().unwrap();
    let (quota, denied) = quota(folder.path(), u64::MAX);
    let deepest = vec!["d"; MAX_DEPTH].join("/");
    for depth in 0..MAX_DEPTH {
        create(&quota, folder.path(), &deepest[..depth * 2 + 1]).await.unwrap();
    }
    assert_eq!(denied.first(), None);
    assert!(create(&quota, folder.path(), &format!("{deepest}/d")).await.is_err());
    let reason = denied.first().unwrap();
    assert!(reason.ends_with("a directory would be more than 32 deep in it"), "{reason}");
    let start = Arc::new(File::open(folder.path()).unwrap());
    let rename = async |from: &str, to: &str| {
        quota.rename((start.clone(), from.to_owned()), (start.clone(), to.to_owned())).await
    };
    create(&quota, folder.path(), "a").await.unwrap();
    create(&quota, folder.path(), "a/b").await.unwrap();
    let parent = &deepest[..deepest.len() - 4];
    assert!(rename("a", &format!("{parent}/d/a")).await.is_err(), "b would be too deep");
    rename("a", &format!("{parent}/a")).await.unwrap();
    rename(&format!("{parent}/a"), "a").await.expect("it comes up again");
    std::fs::write(folder.path().join("file"), "").unwrap();
    rename("file", &format!("{deepest}/file")).await.expect("a file is in its directory");
    assert!(rename(&format!("{deepest}/file"), "../file").await.is_err());
    assert!(rename("../file", "file").await.is_err());
    for path in ["", "/", ".", "..", "a/..", "../x", "/x", "nothing/x", "file/x"] {
        assert!(create(&quota, folder.path(), path).await.is_err(), "{path:?}");
    }
    create(&quota, folder.path(), "a/c//").await.expect("the slashes are those of a directory");
    // Another program has made a deeper tree: each growth is denied.
    std::fs::create_dir(folder.path().join(format!("{deepest}/d"))).unwrap();
    let (quota, denied) = self::quota(folder.path(), u64::MAX);
    assert!(create(&quota, folder.path(), "new").await.is_err());
    assert!(denied.first().unwrap().contains("more than 32 deep"), "{denied:?}");
}

#[tokio::test]
async fn a_truncated_file_frees_its_bytes_before_it_grows() {
    let folder = tempfile::tempdir().unwrap();
    let (quota, _) = quota(folder.path(), 4 * BLOCK);
    let one = file(folder.path(), "one");
    quota.write(one.clone(), vec![0; 9_000].into(), None).await.unwrap();
    let held = quota.usage.counted.clone().lock_owned().await;
    let how = How { writes: true, truncates: true, ..How::default() };
    let mut truncating = std::pin::pin!(quota.open(opening(folder.path(), "one", how)));
    assert!(truncating.as_mut().now_or_never().is_none());
    assert_eq!(one.metadata().unwrap().len(), 9_000, "another call may rely on its size");
    drop(held);
    truncating.await.unwrap().unwrap();
    assert_eq!(one.metadata().unwrap().len(), 0);
}

#[tokio::test]
async fn a_write_that_no_guest_asks_for_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (quota, _) = quota(folder.path(), 9 * BLOCK);
    let places = Arc::new(tokio::sync::Semaphore::new(1));
    let own = places.try_acquire_owned().unwrap();
    let (one, place) = (file(folder.path(), "one"), StreamPlace { _own: own, _file: None });
    let mut stream = Writer::new(one.clone(), quota.clone(), None, place);
    let held = quota.usage.counted.clone().lock_owned().await;
    stream.write(vec![0; 9_000].into()).unwrap();
    // It waits for the directory, and another call behind it.
    let other = quota.resize(file(folder.path(), "two"), 1);
    let mut other = std::pin::pin!(other);
    tokio::task::yield_now().await;
    assert!(other.as_mut().now_or_never().is_none());
    drop(held);
    let other = tokio::time::timeout(std::time::Duration::from_secs(60), other).await;
    other.expect("nobody has to poll the stream").unwrap();
    assert_eq!(one.metadata().unwrap().len(), 9_000);
    let writable = async {
        while stream.check_write().unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), writable).await.expect("a guest need not wait for it");
}
