//! Debian's toolchain for guests. It brings the standard library as source, which each build folder compiles once.

use std::process::Command;

use anyhow::Result;

use super::{
    TARGET,
    crates::{Crates, Kind},
};
use crate::process::{self, Transcript};

/// What it consists of.
pub(super) const PACKAGES: [&str; 6] =
    ["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm", "lld-22", "wasi-libc"];

/// Where it has the C library for the target.
const LIBRARIES: &str = "/usr/lib/wasm32-wasi";

/// How all of a guest is compiled.
const FLAGS: &str = "-Clinker=wasm-ld-22 -Clink-self-contained=no -L/usr/lib/wasm32-wasi";

/// Variables that would lead Debian's cargo to another compiler, or the compiler to another's libraries or flags.
const OF_OTHERS: [&str; 7] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "LD_LIBRARY_PATH",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// Its cargo at a command that is told which standard library is wanted.
pub(super) fn cargo(command: &str) -> Command {
    // By its path: before it in `PATH` is rustup's.
    let mut cargo = process::command("/usr/bin/cargo");
    for name in OF_OTHERS {
        cargo.env_remove(name);
    }
    // The second is for `-Z`; users never type this.
    cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
    cargo.args([command, "-Zbuild-std=std,panic_abort", "--target", TARGET]);
    cargo
}

/// Libraries and programs are linked with different start files. Told to each crate alone and not to cargo as flags of
/// the target, that leaves one standard library for all.
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
