//! `cargo xtask dashboard`: builds the dashboard from its sources, checks it, and tests it in a browser.
//!
//! The built files are in git, so that a build of waft needs no Node. It takes Node and npm, and once the package index of npm. Where
//! they are missing, the tests of the whole project skip these steps with a line that says so.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use xtask::{
    guests,
    process::{self, Transcript},
    project,
};

use crate::test::{BINARY, GUESTS};

/// The oldest major version of Node that runs the tools.
const OLDEST_NODE: u32 = 20;

/// The variable that names the browser for tests.
const BROWSER: &str = "WAFT_TEST_BROWSER";

/// The names of a browser that the tests can drive.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Builds the dashboard and checks it; with `in_browser`, tests it in a browser too.
pub(crate) fn run(in_browser: bool) -> Result<ExitCode> {
    let transcript = Transcript::new();
    if let Err(missing) = prepare(&transcript) {
        bail!("{missing}");
    }
    transcript.run(&mut node("tools/types.mjs", &[]))?;
    transcript.run(&mut node("tools/build.mjs", &[]))?;
    check_code(&transcript)?;
    if in_browser {
        let Some(browser) = browser() else { bail!("no {} is installed", BROWSERS[0]) };
        let guests = guests::build_all(&transcript)?;
        transcript.run(process::cargo().args(["build", "--workspace", "--all-targets"]))?;
        test_in(&transcript, &browser, &guests, &project::build_folder().join("debug/waft"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks the dashboard, and that the built files in git are those of its sources. Says why if it cannot.
///
/// # Errors
///
/// When something is wrong with it.
pub(crate) fn check(transcript: &Transcript) -> Result<()> {
    if let Err(missing) = prepare(transcript) {
        transcript.print(&format!("skipped: {missing}"));
        return Ok(());
    }
    transcript.run(&mut node("tools/types.mjs", &["--check"]))?;
    transcript.run(&mut node("tools/build.mjs", &["--check"]))?;
    check_code(transcript)
}

/// Tests the dashboard in a browser. Says why if it cannot.
///
/// # Errors
///
/// When a test fails.
pub(crate) fn test(transcript: &Transcript, guests: &Path, binary: &Path) -> Result<()> {
    let Some(browser) = browser() else {
        transcript.print(&format!("skipped: no {} is installed", BROWSERS[0]));
        return Ok(());
    };
    if let Err(missing) = prepare(transcript) {
        transcript.print(&format!("skipped: {missing}"));
        return Ok(());
    }
    test_in(transcript, &browser, guests, binary)
}

fn test_in(transcript: &Transcript, browser: &Path, guests: &Path, binary: &Path) -> Result<()> {
    let mut tests = node("tools/browser.mjs", &[]);
    tests.env(BROWSER, browser).env(GUESTS, guests).env(BINARY, binary);
    transcript.run(&mut tests)
}

/// Checks the types, and runs the unit tests.
fn check_code(transcript: &Transcript) -> Result<()> {
    transcript.run(&mut node("node_modules/typescript/bin/tsc", &["--noEmit"]))?;
    transcript.run(&mut node("tools/test.mjs", &[]))
}

fn folder() -> PathBuf {
    project::root().join("dashboard")
}

fn node(script: &str, arguments: &[&str]) -> Command {
    let mut node = process::command("node");
    node.arg(script).args(arguments).current_dir(folder());
    node
}

/// Finds Node, and installs the packages if they are missing or others.
///
/// # Errors
///
/// What is missing, for people.
fn prepare(transcript: &Transcript) -> Result<(), String> {
    match node_version() {
        Some(version) if version >= OLDEST_NODE => {}
        Some(version) => return Err(format!("the dashboard needs Node {OLDEST_NODE} or newer, and this is {version}")),
        None => return Err(format!("the dashboard needs Node {OLDEST_NODE} or newer, and there is none")),
    }
    install(transcript).map_err(|error| format!("{error:#}"))
}

/// Installs the packages of the lock file, unless they are there.
fn install(transcript: &Transcript) -> Result<()> {
    let lock = folder().join("package-lock.json");
    let wanted = fs::read_to_string(&lock).with_context(|| format!("could not read {}", lock.display()))?;
    // This file is written last, so it proves that the packages are installed.
    let installed = folder().join("node_modules/.installed-lock.json");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    transcript.print("installing the packages of the dashboard's tools: they build it, check its types and test it");
    let mut npm = process::command("npm");
    // Without a network it ends at once, in place of trying for minutes.
    npm.args(["ci", "--prefer-offline", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=30000"]);
    npm.current_dir(folder());
    transcript.run(&mut npm).context("the packages of the dashboard's tools cannot be installed")?;
    fs::write(&installed, wanted).with_context(|| format!("could not write {}", installed.display()))
}

/// The major version of Node; `None` if it is not installed.
fn node_version() -> Option<u32> {
    let output = process::command("node").arg("--version").output().ok()?;
    major_version(&String::from_utf8_lossy(&output.stdout))
}

fn major_version(text: &str) -> Option<u32> {
    text.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

fn browser() -> Option<PathBuf> {
    BROWSERS.iter().find_map(|name| process::find(name, &["/usr/bin"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_node_is_read() {
        assert_eq!(major_version("v20.20.2\n"), Some(20));
        assert_eq!(major_version("v9.0.0"), Some(9));
        assert_eq!(major_version("node: not found"), None);
    }

    #[test]
    fn the_lock_file_names_no_host() {
        let lock = fs::read_to_string(folder().join("package-lock.json")).unwrap();
        assert!(!lock.contains("\"resolved\"") && lock.contains("\"integrity\""));
    }
}
