//! Room on the disk for continuous integration, whose build folder outlives its clones and grows with each of them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use xtask::{process, project};

/// The bytes that a build of all targets, its guests, servers and tests take at most.
const NEEDED: u64 = 24 << 30;

/// Removes the build folder of continuous integration if the disk has too little room for another build beside what it
/// contains. The build that follows starts from nothing. No other folder is ever removed.
pub(super) fn make() -> Result<()> {
    let Some(folder) = project::continuous_build_folder().filter(|folder| folder.exists()) else { return Ok(()) };
    let free = free_bytes(&folder)?;
    if free < NEEDED {
        println!(
            "removing {}: {} GiB of its disk are free, and a build can take {}",
            folder.display(),
            free >> 30,
            NEEDED >> 30
        );
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// The bytes that an ordinary user can still write to the file system of `folder`.
fn free_bytes(folder: &Path) -> Result<u64> {
    let output = process::command("df").args(["-Pk", "--"]).arg(folder).output().context("cannot start df")?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).with_context(|| format!("df shows no free space for {}: {text}", folder.display()))
}

/// The free bytes in the output that POSIX specifies for `df -Pk`: one line of headings, then one line whose fourth
/// field counts KiB.
fn parse(output: &str) -> Option<u64> {
    let kibibytes: u64 = output.lines().nth(1)?.split_ascii_whitespace().nth(3)?.parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_free_bytes_of_a_file_system_are_read() {
        let output = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda 1000 400 600 40% /\n";
        assert_eq!(parse(output), Some(600 << 10));
        assert_eq!(parse("df: no such file\n"), None);
        assert!(free_bytes(project::root()).unwrap() > 0);
    }
}
