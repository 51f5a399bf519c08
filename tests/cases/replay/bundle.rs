//! Files for colleagues: they are replayed without a server or a logbook, and nothing in them is trusted.

use std::{collections::BTreeSet, ffi::OsString, fs, os::unix::fs::PermissionsExt as _};

use serde_json::json;
use waft_tests::Waft;

use super::{assert_refused, assert_same, flow, recorded};

/// A bundle of a run that panicked.
fn bundle() -> Vec<u8> {
    let waft = recorded(&flow("panic", "message = \"on fire\"", ""), 1);
    let output = waft.run(["replay", "r", "t", "--bundle", "r.bundle"]);
    assert!(output.expect(0).stderr.contains("r.bundle has "), "{}", output.stderr);
    let path = waft.folder().join("r.bundle");
    assert_eq!(fs::metadata(&path).expect("it was written").permissions().mode() & 0o777, 0o600);
    fs::read(path).expect("it can be read")
}

#[test]
fn a_file_is_replayed_on_a_machine_that_has_never_seen_the_run() {
    let elsewhere = Waft::with_own_cache();
    elsewhere.write("r.bundle", bundle());
    let replay = elsewhere.run(["replay", "r.bundle", "--json"]).expect(0).end();
    assert_same(&replay);
    assert_eq!((&replay["run"], &replay["task"]), (&json!("r"), &json!("t")));
    assert!(!replay["backtrace"].as_array().unwrap().is_empty());
    let refused = elsewhere.run(["replay", "r.bundle", "--attempt", "1"]);
    refused.expect(2);
}

#[test]
fn a_file_with_other_bytes_is_refused() {
    let good = bundle();
    let waft = Waft::default();
    let replay = |bytes: &[u8]| {
        waft.write("r.bundle", bytes);
        waft.run(["replay", "r.bundle"])
    };
    // The module is by far the largest part, and it begins with the magic of WebAssembly.
    let module = good.windows(4).position(|bytes| bytes == b"\0asm").expect("it has a module");
    let mut other = good.clone();
    other[module + 1_000] ^= 1;
    assert_refused(&replay(&other), "has the bytes of sha256:");
    assert_refused(&replay(&good[..good.len() - 1]), "r.bundle is no recorded attempt");
    assert_refused(&replay(&[&good[..], b"x"].concat()), "r.bundle is no recorded attempt");
    assert_refused(&replay(b""), "r.bundle is no recorded attempt");
    assert_refused(&replay(b"wT\x01\xfd\xff\xff\xff\xff\xff\xff\xff\xff"), "r.bundle is no recorded attempt");
    let mut later = good.clone();
    later[2] = 200;
    assert_refused(&replay(&later), "this waft reads up to 1");
    assert_refused(&waft.run(["replay", "nowhere.bundle"]), "could not read nowhere.bundle");
    // Any byte may be another one: it may be refused or differ, and never panics.
    for index in (0..good.len().min(600)).step_by(41) {
        let mut other = good.clone();
        other[index] ^= 0x55;
        let output = replay(&other);
        assert!(matches!(output.code, Some(0 | 2 | 6)), "byte {index}: {:?} {}", output.code, output.stderr);
    }
}

#[test]
fn a_file_cannot_allow_itself_more_than_the_operator_does() {
    let waft = recorded(&flow("noop", "", "memory = \"128MiB\""), 0);
    waft.run(["replay", "r", "t", "--bundle", "r.bundle"]).expect(0);
    waft.set_limits("memory = \"64MiB\"");
    let module = waft_tests::guest("hostile");
    let module = module.to_str().expect("its path is text");
    for arguments in [&["replay", "r.bundle"][..], &["replay", "r", "t"], &["replay", "r.bundle", "--module", module]] {
        let refused = waft.run(arguments);
        // Exit code 6 would say that the outcome differs, and 0 that it does not.
        assert_refused(&refused, "the attempt cannot be replayed on this machine: ");
        assert!(refused.stderr.contains("128MiB") && refused.stderr.contains("under [limits]"), "{}", refused.stderr);
    }
}

#[test]
fn a_file_that_exists_is_never_overwritten() {
    let waft = recorded(&flow("noop", "", ""), 0);
    let write = |path: &str| waft.run(["replay", "r", "t", "--bundle", path]);
    let exists = waft.write("r.bundle", "everybody may read it");
    assert_refused(&write("r.bundle"), "could not write r.bundle");
    assert_eq!(fs::read_to_string(&exists).expect("it is there"), "everybody may read it");
    // Somebody else may have put a link there.
    std::os::unix::fs::symlink(&exists, waft.folder().join("link.bundle")).expect("a link");
    assert_refused(&write("link.bundle"), "name another file, or delete this one first");
    let names = || -> BTreeSet<_> {
        fs::read_dir(waft.folder())
            .expect("it is there")
            .map(|entry| entry.expect("it can be read").file_name())
            .collect()
    };
    let before = names();
    write("no/such/folder.bundle").expect(4);
    // The logbook's own files may have gone in the meantime: the last reader of a database in write-ahead mode removes two.
    assert_eq!(names().difference(&before).collect::<Vec<_>>(), Vec::<&OsString>::new(), "no part of a file stays");
    write("new.bundle").expect(0);
}
