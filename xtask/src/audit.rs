//! `cargo xtask audit`: whether the dependencies are sound, licensed as we may use them, and from where we think.

use std::process::ExitCode;

use anyhow::{Context, Result};
use xtask::{
    process::{self, shown},
    project,
};

pub(crate) fn run() -> Result<ExitCode> {
    if !process::answers(process::cargo().args(["deny", "--version"])) {
        eprintln!("error: cargo-deny is not installed\n\nhint: `cargo install --locked cargo-deny` installs it");
        return Ok(ExitCode::from(2));
    }
    let mut is_sound = true;
    // Each workspace has a lock file of its own; the configuration is found in the root from each.
    for workspace in std::iter::once(project::root().to_owned()).chain(project::guest_workspaces()) {
        let mut deny = process::cargo();
        // All features, since what a feature brings in can be turned on.
        deny.args(["deny", "--workspace", "--all-features", "check"]).current_dir(workspace);
        println!("$ {}", shown(&deny));
        let status = deny.status().with_context(|| format!("could not run `{}`", shown(&deny)))?;
        is_sound &= status.success();
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
