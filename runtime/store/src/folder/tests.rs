//! The state of a content folder under concurrent writers.

use std::{os::unix::fs::PermissionsExt as _, thread};

use super::*;

fn open(root: &Path) -> Folder {
    Folder::open(root.into()).unwrap()
}

fn put(folder: &Folder, bytes: &[u8]) -> Digest {
    let digest = digest_of(bytes);
    folder.put(&digest, bytes).unwrap();
    digest
}

fn incoming(folder: &Folder) -> usize {
    list(&folder.incoming()).unwrap().len()
}

#[test]
fn a_put_leaves_only_the_content_file() {
    let root = tempfile::tempdir().unwrap();
    let folder = open(root.path());
    let digest = put(&folder, b"abc");
    let path = root.path().join("sha256/ba/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(folder.path(&digest), path);
    assert_eq!(fs::read(&path).unwrap(), b"abc");
    assert_eq!(fs::read_to_string(root.path().join("format")).unwrap(), "waft-store 1\n");
    assert_eq!(incoming(&folder), 0);
}

#[test]
fn content_is_private_unless_its_folder_is_shared() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("new/store");
    let folder = open(&root);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let private = folder.path(&put(&folder, b"private"));
    assert_eq!((mode(&root), mode(private.parent().unwrap()), mode(&private)), (0o700, 0o700, 0o600));
    // As an operator shares it with a group.
    for path in [root.clone(), folder.content(), folder.incoming(), folder.tags()] {
        fs::set_permissions(path, Permissions::from_mode(0o770)).unwrap();
    }
    let shared = folder.path(&put(&folder, b"shared"));
    assert_eq!((mode(shared.parent().unwrap()), mode(&shared)), (0o770, 0o660));
}

#[test]
fn corrupt_content_reports_both_digests_and_a_put_repairs_it() {
    let root = tempfile::tempdir().unwrap();
    let folder = open(root.path());
    let digest = put(&folder, b"right");
    for other in [&b"wrong"[..], b"righ", b""] {
        fs::write(folder.path(&digest), other).unwrap();
        match folder.read(&digest) {
            Err(FetchError::Corrupt { expected, actual }) => {
                assert_eq!((expected, actual), (digest, digest_of(other)));
            }
            other => panic!("{other:?}"),
        }
        put(&folder, b"right");
        assert_eq!(folder.read(&digest).unwrap(), "right");
    }
}

#[test]
fn incomplete_files_are_ignored_and_removed_when_stale() {
    let root = tempfile::tempdir().unwrap();
    let folder = open(root.path());
    let (stale, fresh) = (folder.incoming().join("stale"), folder.incoming().join("fresh"));
    for path in [&stale, &fresh] {
        fs::write(path, b"half").unwrap();
    }
    let long_ago = SystemTime::now() - 2 * STALE_AFTER;
    File::options().write(true).open(&stale).unwrap().set_modified(long_ago).unwrap();
    let reopened = open(root.path());
    assert!(!stale.exists(), "its writer is assumed dead");
    assert!(fresh.exists(), "its writer may still be writing");
    assert_eq!(reopened.entries().unwrap(), []);
}

#[test]
fn other_files_are_skipped() {
    let root = tempfile::tempdir().unwrap();
    let folder = open(root.path());
    let digest = put(&folder, b"abc");
    fs::write(root.path().join("sha256/README"), b"hello").unwrap();
    fs::write(root.path().join("sha256/ba/notes.txt"), b"hello").unwrap();
    let entries = folder.entries().unwrap();
    assert_eq!(entries.iter().map(|entry| (entry.digest, entry.size)).collect::<Vec<_>>(), [(digest, 3)]);
}

#[test]
fn a_folder_of_another_format_is_rejected() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("format"), "waft-store 2\n").unwrap();
    let error = Folder::open(root.path().into()).unwrap_err();
    let expected = format!("{} is a store of another format, \"waft-store 2\": upgrade waft", root.path().display());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_folder_that_cannot_be_created_is_named() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = Folder::open(file.join("store")).unwrap_err();
    assert_eq!(error.to_string(), format!("could not set up {}", file.join("store").display()));
}

#[test]
fn a_failed_put_names_the_file_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let folder = open(root.path());
    let digest = digest_of(b"abc");
    fs::write(root.path().join("sha256/ba"), b"a file instead of a folder").unwrap();
    let error = folder.put(&digest, b"abc").unwrap_err();
    let expected = format!("could not write module {digest} to {}", folder.path(&digest).display());
    assert_eq!(error.to_string(), expected);
    assert_eq!(incoming(&folder), 0);
}

#[test]
fn concurrent_puts_are_atomic() {
    let root = tempfile::tempdir().unwrap();
    let contents: Vec<Vec<u8>> = (0..4u8).map(|index| vec![index; 200_000]).collect();
    thread::scope(|scope| {
        for start in 0..8 {
            let (root, contents) = (root.path(), &contents);
            scope.spawn(move || {
                // Each thread has its own handle, as each process does.
                let folder = open(root);
                for offset in 0..contents.len() {
                    let bytes = &contents[(start + offset) % contents.len()];
                    let digest = digest_of(bytes);
                    match folder.read(&digest) {
                        Ok(read) => assert_eq!(read, bytes),
                        Err(FetchError::Missing { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    folder.put(&digest, bytes).unwrap();
                    assert_eq!(folder.read(&digest).unwrap(), bytes);
                }
            });
        }
    });
    let folder = open(root.path());
    assert_eq!(folder.entries().unwrap().len(), contents.len());
    assert_eq!(incoming(&folder), 0);
}
