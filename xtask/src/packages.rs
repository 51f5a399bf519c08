//! Checks for Debian packages and installs them.

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};

use anyhow::{Result, bail};

use crate::process::{self, Transcript};

/// Installs packages without starting their services: only a machine's owner starts those. It never removes a package to
/// make room for another.
const INSTALL: &str = r#"
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends --no-remove "$@"
"#;

/// Whether all these packages are installed.
pub fn are_installed(packages: &[&str]) -> bool {
    let mut query = process::command("dpkg-query");
    query.args(["--show", "--showformat", r"${db:Status-Status}\n"]).args(packages);
    query.output().is_ok_and(|output| {
        let states = String::from_utf8_lossy(&output.stdout);
        states.lines().filter(|state| *state == "installed").count() == packages.len()
    })
}

/// Whether this process can install packages: the system is Debian or a derivative, and the user is root or can become root
/// without a password.
pub fn can_install() -> bool {
    as_root().is_some()
}

/// Installs packages, after printing the reason.
///
/// # Errors
///
/// When the system is not Debian, the user lacks permission, or a package is not available.
pub fn install(transcript: &Transcript, packages: &[&str], why: &str) -> Result<()> {
    let list = packages.join(" ");
    let Some(mut command) = as_root() else {
        bail!("cannot install {list} here: that takes Debian, and root or sudo without a password")
    };
    transcript.print(&format!("installing {list}: {why}"));
    command.args(["-c", INSTALL, "install"]).args(packages);
    let typed = format!("apt-get update && apt-get install --no-install-recommends {list}");
    transcript.print(&format!("$ {typed}"));
    transcript.run_as(&typed, &mut command)
}

/// A shell that runs as root.
fn as_root() -> Option<Command> {
    if !Path::new("/etc/debian_version").exists() || process::find("apt-get", &[]).is_none() {
        return None;
    }
    // The files of this process in `/proc` belong to its user.
    if fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0) {
        return Some(process::command("sh"));
    }
    if !process::answers(process::command("sudo").args(["-n", "true"])) {
        return None;
    }
    let mut sudo = process::command("sudo");
    sudo.args(["-n", "sh"]);
    Some(sudo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_does_not_exist_is_not_installed() {
        assert!(!are_installed(&["waft-has-no-such-package"]));
    }
}
