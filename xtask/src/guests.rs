//! Builds guests for WebAssembly.
//!
//! Guests are separate workspaces. If the active toolchain has their target or can get it, cargo builds them; otherwise
//! Debian's toolchain does. Start reading at [`build`].

mod crates;
mod debian;
mod toolchain;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use crates::Crates;
use toolchain::Toolchain;

use crate::{
    process::{self, Transcript},
    project,
};

/// The compilation target of guests.
pub const TARGET: &str = "wasm32-wasip1";

/// Builds the guests of this repository and collects them in one folder, which `WAFT_TEST_GUESTS` names.
///
/// # Errors
///
/// When no toolchain is available, or a guest does not build.
pub fn build_all(transcript: &Transcript) -> Result<PathBuf> {
    let folder = project::target().join("guests");
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    for workspace in project::guest_workspaces() {
        for module in build(transcript, &workspace)? {
            copy(&module, &folder)?;
        }
    }
    Ok(folder)
}

/// Builds the guest crate at `path`, or all guests of the workspace there, in release; returns the paths of their modules.
///
/// The modules are in the workspace's own target folder, since flow files look for them there.
///
/// # Errors
///
/// When no toolchain is available, there is no guest at `path`, or it does not build.
pub fn build(transcript: &Transcript, path: &Path) -> Result<Vec<PathBuf>> {
    let toolchain = Toolchain::find_or_install(transcript)?;
    let crates = Crates::at(path)?;
    if crates.guests().is_empty() {
        bail!("no guest at {}: a guest is a cdylib, or a program with `main`", path.display());
    }
    fetch(transcript, toolchain, &crates)?;
    match toolchain {
        Toolchain::Active => {
            let mut cargo = toolchain.cargo("build");
            cargo.args(["--release", "--offline"]).args(crates.selection());
            transcript.run(crates.in_place(&mut cargo))?;
        }
        Toolchain::Debian => debian::build(transcript, &crates)?,
    }
    let modules = crates.modules();
    for module in &modules {
        ensure!(module.is_file(), "the build of {} produced no {}", path.display(), module.display());
    }
    Ok(modules)
}

/// Downloads the dependencies of guests; uses no network when they are already on this machine.
fn fetch(transcript: &Transcript, toolchain: Toolchain, crates: &Crates) -> Result<()> {
    if process::answers(crates.in_place(toolchain.cargo("fetch").arg("--offline"))) {
        return Ok(());
    }
    transcript.run(crates.in_place(&mut toolchain.cargo("fetch")))
}

/// Copies a module into a folder, unless an identical one is there: an unchanged file is not read again.
fn copy(module: &Path, folder: &Path) -> Result<()> {
    let to = folder.join(module.file_name().context("a module has a file name")?);
    let context = || format!("could not copy {} to {}", module.display(), to.display());
    let bytes = fs::read(module).with_context(context)?;
    if fs::read(&to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    fs::write(&to, bytes).with_context(context)
}

/// Runs the unit tests of the guests at `path`: there, the tasks are plain functions of the host.
///
/// # Errors
///
/// When a test fails.
pub fn test(transcript: &Transcript, path: &Path) -> Result<()> {
    let mut cargo = process::command("cargo");
    cargo.args(["test", "--workspace", "--no-fail-fast"]).current_dir(path).env_remove("CARGO_TARGET_DIR");
    transcript.run(&mut cargo)
}
