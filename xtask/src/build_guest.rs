//! `cargo xtask build-guest`: one guest crate, with whatever toolchain is to be had.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use xtask::{guests, process::Transcript};

pub(crate) fn run(path: &Path) -> Result<ExitCode> {
    for module in guests::build(&Transcript::new(), path)? {
        println!("{}", module.display());
    }
    Ok(ExitCode::SUCCESS)
}
