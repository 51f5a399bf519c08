//! Finds the guests in a folder, by `cargo metadata`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::TARGET;
use crate::process;

/// The kind of a guest crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A `cdylib`: its tasks are functions.
    Library,
    /// A program with `main`: it is one task, a WASI command.
    Program,
}

/// One guest, which is built into one module.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) package: String,
    /// The name of the library or the program in the package.
    pub(super) name: String,
    pub(super) kind: Kind,
}

impl Guest {
    fn file_name(&self) -> String {
        match self.kind {
            Kind::Library => format!("{}.wasm", self.name.replace('-', "_")),
            Kind::Program => format!("{}.wasm", self.name),
        }
    }
}

/// The guests at a path.
#[derive(Debug)]
pub(super) struct Crates {
    folder: PathBuf,
    /// The build folder of their workspace.
    target: PathBuf,
    guests: Vec<Guest>,
}

impl Crates {
    /// Finds the guests of the package at `path`, or of the whole workspace if there is no package. A path is a folder or a
    /// `Cargo.toml`.
    pub(super) fn at(path: &Path) -> Result<Self> {
        let manifest = if path.is_dir() { path.join("Cargo.toml") } else { path.to_owned() };
        let manifest = manifest.canonicalize().with_context(|| format!("no crate at {}", path.display()))?;
        let folder = manifest.parent().expect("a file has a folder").to_owned();
        let metadata = read(&folder)?;
        let target = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
        Ok(Self { target: target.into(), guests: guests(&metadata, &manifest), folder })
    }

    /// All guests.
    pub(super) fn guests(&self) -> &[Guest] {
        &self.guests
    }

    /// All guests, as cargo's flags.
    pub(super) fn selection(&self) -> impl Iterator<Item = &str> {
        self.guests.iter().flat_map(|guest| ["--package", &guest.package])
    }

    /// The paths of their built modules.
    pub(super) fn modules(&self) -> Vec<PathBuf> {
        let folder = self.target.join(TARGET).join("release");
        self.guests.iter().map(|guest| folder.join(guest.file_name())).collect()
    }

    /// Makes a cargo command work on them, and build into the folder where flow files look for modules.
    pub(super) fn in_place<'a>(&self, cargo: &'a mut Command) -> &'a mut Command {
        in_folder(cargo, &self.folder)
    }
}

fn in_folder<'a>(cargo: &'a mut Command, folder: &Path) -> &'a mut Command {
    cargo.current_dir(folder).env_remove("CARGO_TARGET_DIR")
}

/// Reads cargo's metadata of a folder, without dependencies.
fn read(folder: &Path) -> Result<Value> {
    let mut cargo = process::command("cargo");
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = in_folder(&mut cargo, folder)
        .output()
        .with_context(|| format!("could not run `{}`", process::shown(&cargo)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("cannot read the crate at {}: {}", folder.display(), stderr.trim_end());
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")
}

/// The guests in the package of this manifest, or else in all packages of the workspace.
fn guests(metadata: &Value, manifest: &Path) -> Vec<Guest> {
    let packages = list(&metadata["packages"]);
    let is_at_the_path = |package: &&Value| package["manifest_path"].as_str().map(Path::new) == Some(manifest);
    match packages.iter().find(is_at_the_path) {
        Some(package) => guests_of(package).collect(),
        None => packages.iter().flat_map(guests_of).collect(),
    }
}

fn guests_of(package: &Value) -> impl Iterator<Item = Guest> {
    list(&package["targets"]).iter().filter_map(|target| {
        let has = |key: &str, value: &str| list(&target[key]).iter().any(|entry| entry == value);
        let kind = if has("crate_types", "cdylib") {
            Kind::Library
        } else if has("kind", "bin") {
            Kind::Program
        } else {
            return None;
        };
        Some(Guest { package: package["name"].as_str()?.into(), name: target["name"].as_str()?.into(), kind })
    })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata() -> Value {
        let target = |kind: &str, name: &str| json!({ "kind": [kind], "crate_types": [kind], "name": name });
        let package = |name: &str, targets: &[Value]| json!({ "name": name, "manifest_path": format!("/w/{name}/Cargo.toml"), "targets": targets });
        let example = json!({ "kind": ["example"], "crate_types": ["bin"], "name": "loud" });
        json!({
            "packages": [
                package("kitchen", &[target("cdylib", "big-kitchen"), target("test", "menu")]),
                package("shout", &[target("bin", "shout-it"), example]),
                package("plain", &[target("lib", "plain")]),
            ],
        })
    }

    fn found(manifest: &str) -> Vec<(String, Kind, String)> {
        let guests = guests(&metadata(), Path::new(manifest)).into_iter();
        guests.map(|guest| (guest.package.clone(), guest.kind, guest.file_name())).collect()
    }

    #[test]
    fn a_workspace_is_all_its_libraries_and_programs_and_nothing_else() {
        let kitchen = ("kitchen".into(), Kind::Library, "big_kitchen.wasm".into());
        assert_eq!(found("/w/Cargo.toml"), [kitchen, ("shout".into(), Kind::Program, "shout-it.wasm".into())]);
    }

    #[test]
    fn a_package_yields_only_itself() {
        assert_eq!(found("/w/shout/Cargo.toml"), [("shout".into(), Kind::Program, "shout-it.wasm".into())]);
        assert_eq!(found("/w/plain/Cargo.toml"), []);
    }
}
