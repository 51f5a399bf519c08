//! Chooses the toolchain that builds guests.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::{TARGET, debian};
use crate::{
    packages,
    process::{self, Transcript},
    project,
};

/// A toolchain that builds guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Toolchain {
    /// The toolchain of the host workspace, which also has the guests' target.
    Active,
    /// Debian's toolchain, beside it.
    Debian,
}

impl Toolchain {
    /// Finds a toolchain, or installs one. It prefers an installed one, so that the network is used at most once.
    pub(super) fn find_or_install(transcript: &Transcript) -> Result<Self> {
        if active_has_target() {
            return Ok(Self::Active);
        }
        if packages::are_installed(&debian::PACKAGES) {
            return Ok(Self::Debian);
        }
        if process::find("rustup", &[]).is_some() {
            transcript
                .print(&format!("adding the target {TARGET}: guests are compiled for it, and this toolchain lacks it"));
            let added =
                transcript.run(process::command("rustup").args(["target", "add", TARGET]).current_dir(project::root()));
            if added.is_ok() && active_has_target() {
                return Ok(Self::Active);
            }
            transcript.print("rustup could not add the target");
        }
        if !packages::can_install() {
            bail!("no toolchain builds for {TARGET} here: `rustup target add {TARGET}` adds the target to one")
        }
        packages::install(
            transcript,
            &debian::PACKAGES,
            "Debian's Rust builds guests where rustup has no target to give",
        )
        .context("no toolchain builds guests")?;
        Ok(Self::Debian)
    }

    /// A command of its cargo, for the guests' target.
    pub(super) fn cargo(self, command: &str) -> Command {
        match self {
            Self::Active => {
                let mut cargo = process::command("cargo");
                cargo.args([command, "--target", TARGET]);
                cargo
            }
            Self::Debian => debian::cargo(command),
        }
    }
}

/// Whether the active compiler has the standard library for the target.
fn active_has_target() -> bool {
    let mut rustc = process::command("rustc");
    rustc.args(["--print", "target-libdir", "--target", TARGET]).current_dir(project::root());
    let Ok(output) = rustc.output() else { return false };
    holds_library(Path::new(String::from_utf8_lossy(&output.stdout).trim_end()))
}

fn holds_library(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut files| {
        files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_the_standard_library_does_not_count() {
        let folder = project::target().join("xtask-tests/libdir");
        fs::create_dir_all(&folder).unwrap();
        let library = folder.join("libstd-0.rlib");
        let _ = fs::remove_file(&library);
        assert!(!holds_library(&folder));
        assert!(!holds_library(&folder.join("none")));
        fs::write(library, "").unwrap();
        assert!(holds_library(&folder));
    }
}
