//! Tests of what of the store is in memory to be inspected.

use std::time::Duration;

use sandbox::Config;
use store::{Directory, digest_of};
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

/// A library whose modules have at most so many bytes, with a store that has damaged bytes under a digest: whoever reads them learns of it.
async fn with_damaged_content(module_size: u64) -> (ModuleLibrary, Digest, TempDir) {
    let folder = TempDir::new().unwrap();
    let store = Directory::open(folder.path().join("store")).await.unwrap();
    let digest = store.put(Bytes::from_static(b"good")).await.unwrap();
    let path = path_of(folder.path(), &digest);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"evil").unwrap();
    let limits = LibraryLimits { module_size, ..LibraryLimits::default() };
    let sandbox = Sandbox::new(Config::default()).unwrap();
    (ModuleLibrary { store: Arc::new(store), sandbox, limits, admission: Admission::default() }, digest, folder)
}

/// The file of a content below a folder.
fn path_of(folder: &std::path::Path, digest: &Digest) -> std::path::PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if digest_of(&std::fs::read(&path).unwrap()) == *digest => return path,
                false => {}
            }
        }
    }
    panic!("no file has the content")
}

#[tokio::test]
async fn what_is_larger_than_a_module_may_be_is_not_read() {
    let (library, digest, _folder) = with_damaged_content(3).await;
    let name = digest.to_string();
    let found = library.find_admitted(&name, None).await.err();
    assert!(matches!(found, Some(LibraryError::TooLarge { asked: 4, allowed: 3 })), "{found:?}");
    let namespace = Namespace::new("shop").unwrap();
    let found = library.find_for_run(&name, Some(&namespace)).await.err();
    assert!(matches!(found, Some(LibraryError::Fetch(FetchError::Missing { .. }))), "it may be a value: {found:?}");
}

#[tokio::test(start_paused = true)]
async fn few_modules_are_read_at_the_same_time() {
    let (library, digest, _folder) = with_damaged_content(4).await;
    let (owner, name) = (Namespace::new("many-modules").unwrap(), digest.to_string());
    let mut taken = Vec::new();
    while let Ok(turn) = timeout(Duration::from_secs(1), turns::for_module(Some(owner.clone()))).await {
        taken.push(turn);
    }
    assert_eq!(taken.len(), 7, "an owner leaves one for others");
    let mut finding = Box::pin(library.find(&name, Some(&owner)));
    assert!(timeout(Duration::from_secs(1), &mut finding).await.is_err(), "nothing is read");
    taken.pop();
    let found = finding.await.err();
    assert!(matches!(found, Some(LibraryError::Fetch(FetchError::Corrupt { .. }))), "{found:?}");
}
