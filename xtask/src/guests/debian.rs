//! Debian's toolchain for guests. It contains the standard library as source, which each build folder compiles once.

use std::process::Command;

use anyhow::Result;

use super::{
    TARGET,
    crates::{Crates, Kind},
};
use crate::process::{self, Transcript};

/// The packages of the toolchain.
pub(super) const PACKAGES: [&str; 6] =
    ["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm", "lld-22", "wasi-libc"];

/// The folder of the C library for the target.
const LIBRARIES: &str = "/usr/lib/wasm32-wasi";

/// The compiler flags for all crates of a guest.
const FLAGS: &str = "-Clinker=wasm-ld-22 -Clink-self-contained=no -L/usr/lib/wasm32-wasi";

/// Variables that would lead Debian's cargo to another compiler, or the compiler to other libraries or flags.
const OF_OTHERS: [&str; 7] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "LD_LIBRARY_PATH",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// A command of Debian's cargo, which builds the standard library from source.
pub(super) fn cargo(command: &str) -> Command {
    // Use the full path: rustup's cargo comes first in `PATH`.
    let mut cargo = process::command("/usr/bin/cargo");
    for name in OF_OTHERS {
        cargo.env_remove(name);
    }
    // `RUSTC_BOOTSTRAP` allows `-Z`; users never type this.
    cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
    cargo.args([command, "-Zbuild-std=std,panic_abort", "--target", TARGET]);
    cargo
}

/// Builds guests. Libraries and programs need different start files at linking. These flags go to each crate and not to
/// cargo as target flags, so that all crates share one standard library.
pub(super) fn build(transcript: &Transcript, crates: &Crates) -> Result<()> {
    for guest in crates.guests() {
        let mut cargo = cargo("rustc");
        cargo.env("CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS", FLAGS);
        cargo.args(["--release", "--offline", "--package", &guest.package]);
        let start = match guest.kind {
            Kind::Library => {
                cargo.arg("--lib");
                "crt1-reactor.o"
            }
            Kind::Program => {
                cargo.args(["--bin", &guest.name]);
                "crt1-command.o"
            }
        };
        cargo.args(["--", &format!("-Clink-arg={LIBRARIES}/{start}")]);
        transcript.run(crates.in_place(&mut cargo))?;
    }
    Ok(())
}
