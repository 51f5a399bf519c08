//! Checks what the library links by default.

use std::process::Command;

#[test]
fn no_broker_is_linked_by_default() {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["tree", "--offline", "--package", "waft-client", "--edges", "normal", "--prefix", "none"]);
    // A build of the whole workspace may unify the features of all crates.
    command.env_remove("CARGO_UNSTABLE_FEATURE_UNIFICATION").env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION");
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("cargo prints text");
    let linked: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(linked.contains(&"reqwest"), "{tree}");
    for library in ["lapin", "waft-broker", "waft-protocol"] {
        assert!(!linked.contains(&library), "waft-client links {library}");
    }
}
