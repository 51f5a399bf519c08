//! Guests, built for WebAssembly.
//!
//! They are workspaces of their own. Where the active toolchain has their target, cargo builds them; where it cannot be
//! had, Debian's toolchain does. Start reading at [`build`].

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

/// What guests are compiled for.
pub const TARGET: &str = "wasm32-wasip1";

/// Builds the guests of this repository and puts them into one folder, which is what `WAFT_TEST_GUESTS` names.
///
/// # Errors
///
/// When there is no toolchain to be had, or a guest does not build.
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

/// Builds the guest crate at `path`, or all guests of the workspace there, in release; gives where their modules are.
///
/// They are in the workspace's own target folder, since that is where flow files look for them.
///
/// # Errors
///
/// When there is no toolchain to be had, no guest at `path`, or it does not build.
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
        ensure!(module.is_file(), "the build of {} left no {}", path.display(), module.display());
    }
    Ok(modules)
}

/// Brings what guests depend on to this machine; asks nothing of the network when it is here.
fn fetch(transcript: &Transcript, toolchain: Toolchain, crates: &Crates) -> Result<()> {
    if process::answers(crates.in_place(toolchain.cargo("fetch").arg("--offline"))) {
        return Ok(());
    }
    transcript.run(crates.in_place(&mut toolchain.cargo("fetch")))
}

/// Copies a module into a folder, unless it is there: what is not written is not read again.
fn copy(module: &Path, folder: &Path) -> Result<()> {
    let to = folder.join(module.file_name().context("a module has a file name")?);
    let context = || format!("could not copy {} to {}", module.display(), to.display());
    let bytes = fs::read(module).with_context(context)?;
    if fs::read(&to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    fs::write(&to, bytes).with_context(context)
}

/// Runs the unit tests of the guests at `path`: the tasks are plain functions of the host there.
///
/// # Errors
///
/// When one fails.
pub fn test(transcript: &Transcript, path: &Path) -> Result<()> {
    let mut cargo = process::command("cargo");
    cargo.args(["test", "--workspace", "--no-fail-fast"]).current_dir(path).env_remove("CARGO_TARGET_DIR");
    transcript.run(&mut cargo)
}
