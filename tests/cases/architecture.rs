//! Checks the crates' dependencies: they go down the list and never up, and a library with one owner stays in that crate.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

/// The crates from top to bottom, with the lower crates that each may use.
const CRATES: [(&str, &[&str]); 18] = [
    (
        "cli",
        &[
            "server",
            "engine",
            "worker",
            "sandbox",
            "gateway",
            "client",
            "logbook",
            "store",
            "broker",
            "protocol",
            "rehearsal",
            "machine",
            "api",
            "traces",
            "metrics",
            "flow",
            "credentials",
        ],
    ),
    (
        "server",
        &[
            "engine",
            "sandbox",
            "gateway",
            "client",
            "logbook",
            "store",
            "broker",
            "protocol",
            "rehearsal",
            "machine",
            "api",
            "traces",
            "metrics",
            "flow",
            "credentials",
        ],
    ),
    ("engine", &["logbook", "store", "broker", "protocol", "machine", "traces", "metrics", "flow"]),
    ("worker", &["sandbox", "gateway", "store", "broker", "protocol", "traces", "metrics", "flow"]),
    ("sandbox", &["gateway", "metrics", "flow"]),
    ("gateway", &["flow", "credentials"]),
    ("client", &["broker", "protocol", "api", "flow", "credentials"]),
    ("logbook", &["protocol", "machine", "flow", "credentials"]),
    ("store", &["broker", "protocol", "flow"]),
    ("broker", &["protocol", "metrics", "flow", "credentials"]),
    ("protocol", &["machine", "api", "flow"]),
    ("rehearsal", &["machine", "api", "flow"]),
    ("machine", &["flow"]),
    ("api", &["flow"]),
    ("traces", &["metrics", "flow"]),
    ("metrics", &["flow"]),
    ("flow", &[]),
    ("credentials", &[]),
];

/// Libraries that only one crate uses.
const EXCLUSIVE_LIBRARIES: [(&str, &str); 23] = [
    ("clap", "cli"),
    ("axum", "server"),
    ("reqwest", "client"),
    ("rusqlite", "logbook"),
    ("tokio-postgres", "logbook"),
    ("tracing-subscriber", "cli"),
    ("anyhow", "cli"),
    ("wasmtime", "sandbox"),
    ("wasmtime-wasi", "sandbox"),
    ("wit-component", "sandbox"),
    ("wasmparser", "sandbox"),
    ("sha2", "store"),
    ("minisign", "store"),
    ("lapin", "broker"),
    ("bincode", "protocol"),
    ("toml", "flow"),
    ("crossterm", "cli"),
    ("ratatui", "cli"),
    ("opentelemetry-proto", "traces"),
    ("prost", "traces"),
    ("rustls", "credentials"),
    ("rustls-native-certs", "credentials"),
    ("x509-parser", "credentials"),
];

/// Crates that may use another crate's library, each with its reason.
const EXCEPTIONS: [(&str, &str); 2] = [
    // It offers HTTP/2, and tells failed handshakes from other failures.
    ("rustls", "gateway"),
    // Its settings are a TOML file.
    ("toml", "cli"),
];

/// The runtime dependencies of the workspace's crates.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(waft_tests::root());
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let package = |package: &Value| {
        let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
        let runtime = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
        (text(&package["name"]), runtime.map(|dependency| text(&dependency["name"])).collect())
    };
    packages.iter().map(package).collect()
}

#[test]
fn crates_depend_only_downwards() {
    let dependencies = dependencies();
    for (name, allowed) in CRATES {
        let used_crates = &dependencies[&format!("waft-{name}")];
        for used in used_crates.iter().filter_map(|name| name.strip_prefix("waft-")) {
            assert!(allowed.contains(&used), "{name} uses {used}, which the architecture does not allow");
        }
    }
}

#[test]
fn every_crate_is_listed() {
    for package in dependencies().keys().filter_map(|name| name.strip_prefix("waft-")) {
        let is_outside = ["tests", "bench", "example-cloud", "fuzz-bodies", "guest", "guest-macros"].contains(&package);
        assert!(is_outside || CRATES.iter().any(|(name, _)| *name == package), "{package} is in no list");
    }
}

#[test]
fn exclusive_libraries_stay_in_their_crate() {
    for (package, libraries) in dependencies() {
        let Some(user) = package.strip_prefix("waft-").filter(|name| CRATES.iter().any(|(listed, _)| listed == name))
        else {
            continue;
        };
        for (library, owner) in EXCLUSIVE_LIBRARIES {
            let is_allowed = user == owner || EXCEPTIONS.contains(&(library, user));
            assert!(
                is_allowed || !libraries.iter().any(|name| name == library),
                "{user} uses {library}, which only {owner} may use"
            );
        }
    }
}
