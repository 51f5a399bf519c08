//! `cargo xtask simulate` and `cargo xtask chaos`: run the fault tests for longer than the test suite does.

use std::process::ExitCode;

use anyhow::Result;
use xtask::{
    guests, postgres,
    process::{self, Transcript},
    project, rabbitmq,
};

use crate::test::{BINARY, GUESTS};

/// Runs `seeds` simulations, with optimisation.
pub(crate) fn simulate(seeds: u64, first: u64) -> Result<ExitCode> {
    let mut cargo = process::cargo();
    cargo.args([
        "test",
        "--release",
        "--package",
        "waft-tests",
        "--test",
        "cases",
        "simulation::",
        "--",
        "--nocapture",
    ]);
    cargo.env("WAFT_SIMULATE_SEEDS", seeds.to_string()).env("WAFT_SIMULATE_FIRST", first.to_string());
    Transcript::new().run(&mut cargo)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `runs` runs in each of `deployments` deployments, on real processes that are killed and restarted.
pub(crate) fn chaos(runs: u64, deployments: u64) -> Result<ExitCode> {
    let transcript = Transcript::new();
    let guests = guests::build_all(&transcript)?;
    rabbitmq::install_if_missing(&transcript)?;
    postgres::install_if_missing(&transcript)?;
    transcript.run(process::cargo().args(["build", "--workspace", "--all-targets"]))?;
    let mut cargo = process::cargo();
    cargo.args(["test", "--package", "waft-tests", "--test", "cases", "chaos::", "--", "--nocapture"]);
    cargo.env(GUESTS, guests).env(BINARY, project::build_folder().join("debug/waft"));
    cargo.env("WAFT_CHAOS_RUNS", runs.to_string()).env("WAFT_CHAOS_WORLDS", deployments.to_string());
    transcript.run(&mut cargo)?;
    Ok(ExitCode::SUCCESS)
}
