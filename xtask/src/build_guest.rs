//! `cargo xtask build-guest`: builds one guest crate, with an available toolchain.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use xtask::{guests, process::Transcript};

pub(crate) fn run(path: &Path) -> Result<ExitCode> {
    for module in guests::build(&Transcript::new(), path)? {
        println!("{}", module.display());
    }
    Ok(ExitCode::SUCCESS)
}
