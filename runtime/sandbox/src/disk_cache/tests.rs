//! What the disk cache stores, and what it does not trust.

use super::*;

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn open(folder: &Path, max_bytes: u64) -> DiskCache {
    let key = CacheKey::load_or_create(&folder.with_extension("key")).unwrap();
    DiskCache::open(folder.into(), key, max_bytes, Compatibility([7; 32])).unwrap()
}

/// The one file of a cache that holds `code`.
fn cached(folder: &Path, code: &[u8]) -> (DiskCache, PathBuf) {
    let cache = open(folder, 1 << 20);
    cache.store(&digest(1), code);
    let path = cache.path(&digest(1));
    (cache, path)
}

#[test]
fn code_is_cached_by_digest_and_engine() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = cached(folder.path(), b"code");
    assert_eq!(cache.load(&digest(1)).unwrap(), b"code");
    assert_eq!(cache.load(&digest(2)), None);
    let other = DiskCache { compatibility: Compatibility([8; 32]), ..open(folder.path(), 1 << 20) };
    assert_eq!(other.load(&digest(1)), None);
}

#[test]
fn code_under_another_key_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, path) = cached(folder.path(), b"code");
    let key = CacheKey::load_or_create(&folder.path().join("other.key")).unwrap();
    let copied = DiskCache { key, ..open(folder.path(), 1 << 20) };
    assert_eq!(copied.load(&digest(1)), None);
    assert!(!path.exists(), "it is removed");
    drop(cache);
}

#[test]
fn a_damaged_truncated_or_mismatched_file_is_removed() {
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| *bytes.last_mut().unwrap() ^= 1,
        |bytes| bytes.truncate(HEADER + 1),
        |bytes| bytes.truncate(3),
        |bytes| bytes[MAGIC.len()] ^= 1,
    ];
    for damage in damages {
        let folder = tempfile::tempdir().unwrap();
        let (cache, path) = cached(folder.path(), b"code");
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(cache.load(&digest(1)), None);
        assert!(!path.exists(), "it is removed");
    }
}

#[test]
fn a_file_that_others_can_write_to_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, path) = cached(folder.path(), b"code");
    std::fs::set_permissions(&path, Permissions::from_mode(0o622)).unwrap();
    assert_eq!(cache.load(&digest(1)), None);
}

#[test]
fn the_folder_and_its_files_are_closed_to_others() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let (_, path) = cached(folder.path(), b"code");
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
    assert_eq!((mode(folder.path()), mode(&path)), (0o700, 0o600));
}

#[test]
fn the_least_recently_used_module_is_evicted() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), 2 * (HEADER as u64 + 100));
    for byte in 1..=2 {
        cache.store(&digest(byte), &[byte; 100]);
        let age = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(byte.into());
        File::open(cache.path(&digest(byte))).unwrap().set_modified(age).unwrap();
    }
    assert!(cache.load(&digest(1)).is_some(), "it is used now, so the other one is older");
    cache.store(&digest(3), &[3; 100]);
    let cached = [1, 2, 3].map(|byte| cache.load(&digest(byte)).is_some());
    assert_eq!(cached, [true, false, true]);
}
