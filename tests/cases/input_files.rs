//! Tests the files that a command reads: in a folder from somebody else, any of them may be a device without an end, or a pipe that
//! nobody writes to.

use std::{os::unix::fs::symlink, process::Command};

use waft_tests::Waft;

#[test]
fn a_file_that_is_no_regular_one_is_refused() {
    let waft = Waft::default();
    let path = |name: &str| waft.folder().join(name);
    waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    symlink("/dev/zero", path("zero")).expect("a link");
    assert!(Command::new("mkfifo").arg(path("pipe")).status().expect("mkfifo is here").success());
    for name in ["zero", "pipe"] {
        let value = format!("v={name}");
        let commands: [&[&str]; 7] = [
            &["check", name],
            &["graph", name],
            &["run", name],
            &["check", "flow.toml", "--set-file", &value],
            &["push", name],
            &["inspect", name],
            &["replay", name],
        ];
        for command in commands {
            let refused = waft.run(command);
            let stderr = &refused.expect(2).stderr;
            assert!(stderr.contains(name), "{command:?}: {stderr}");
        }
    }
    // The flow itself is right.
    waft.run(["check", "flow.toml"]).expect(0);
}
