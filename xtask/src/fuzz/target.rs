//! The targets: the programs of the package `fuzz/`, and the folders of their inputs.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::{process, project};

/// Folders with inputs of a target that are in the repository for another reason.
const MORE_SEEDS: [(&str, &str); 4] = [
    ("flow_file", "docs/flows"),
    ("flow_file", "examples-wasm/kitchen"),
    ("history", "runtime/protocol/golden"),
    ("message", "runtime/protocol/golden"),
];

/// A program of the package.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: String,
    /// The features that it needs.
    pub(super) features: Vec<String>,
}

/// All targets, in the order of the package's manifest.
pub(super) fn all() -> Result<Vec<Target>> {
    let mut cargo = process::command("cargo");
    cargo.args(["metadata", "--format-version", "1", "--no-deps"]).current_dir(project::fuzz_workspace());
    let output = cargo.output().context("could not run `cargo metadata`")?;
    ensure!(output.status.success(), "`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata = serde_json::from_slice(&output.stdout).context("`cargo metadata` prints JSON")?;
    Ok(targets(&metadata))
}

fn targets(metadata: &Value) -> Vec<Target> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let targets = list(&metadata["packages"]).into_iter().flat_map(|package| list(&package["targets"]));
    let target = |target: Value| {
        let features = list(&target["required-features"]);
        let features = features.iter().filter_map(Value::as_str).map(String::from).collect();
        Some(Target { name: target["name"].as_str()?.into(), features })
    };
    targets.filter_map(target).collect()
}

impl Target {
    /// The corpus in the repository.
    pub(super) fn corpus(&self) -> PathBuf {
        project::fuzz_workspace().join("corpus").join(&self.name)
    }

    /// The inputs that the engine has found on this machine.
    pub(super) fn found(&self) -> PathBuf {
        super::target_folder().join("corpus").join(&self.name)
    }

    /// The inputs that are faults.
    pub(super) fn artifacts(&self) -> PathBuf {
        project::fuzz_workspace().join("artifacts").join(&self.name)
    }

    /// The folders with inputs to begin with.
    pub(super) fn seeds(&self) -> impl Iterator<Item = PathBuf> {
        let more = MORE_SEEDS.iter().filter(|(name, _)| *name == self.name);
        let more = more.map(|(_, folder)| project::root().join(folder));
        std::iter::once(self.corpus()).chain(more).filter(|folder| folder.is_dir())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_program_is_a_target_with_its_features() {
        let metadata = json!({ "packages": [{ "targets": [
            { "name": "cron" },
            { "name": "http", "required-features": ["server"] },
        ] }] });
        let target = |name: &str, features: &[&str]| Target {
            name: name.into(),
            features: features.iter().map(|feature| (*feature).into()).collect(),
        };
        assert_eq!(targets(&metadata), [target("cron", &[]), target("http", &["server"])]);
    }

    #[test]
    fn every_folder_of_seeds_is_there() {
        for (_, folder) in MORE_SEEDS {
            assert!(project::root().join(folder).is_dir(), "{folder}");
        }
    }
}
