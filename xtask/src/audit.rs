//! `cargo xtask audit`: checks the dependencies for advisories, permitted licences, and expected sources.

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
    let mut is_accepted = true;
    // Each workspace has its own lock file; each finds the configuration in the root.
    for workspace in std::iter::once(project::root().to_owned()).chain(project::other_workspaces()) {
        let mut deny = process::cargo();
        // Include all features, since a user can enable any of them.
        deny.args(["deny", "--workspace", "--all-features", "check"]).current_dir(workspace);
        println!("$ {}", shown(&deny));
        let status = deny.status().with_context(|| format!("could not run `{}`", shown(&deny)))?;
        is_accepted &= status.success();
    }
    Ok(if is_accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
