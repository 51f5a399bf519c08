//! `cargo xtask bench`: runs the benchmark package, with a broker and guests for it.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use xtask::{
    guests,
    postgres::{self, Database},
    process::{self, Transcript, shown},
    project, python,
    rabbitmq::{self, Broker},
};

use crate::test::{BINARY, GUESTS};

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let transcript = Transcript::new();
    let guests = guests::build_all(&transcript)?;
    // Build them together, so that their dependencies have the same features.
    transcript.run(process::cargo().args([
        "build",
        "--release",
        "--package",
        "waft-bench",
        "--package",
        "waft-cli",
    ]))?;
    let built = project::build_folder().join("release");
    let broker = Broker::find_or_start_with_role_users(&transcript, &built.join("waft"))?;
    let database = Database::find_or_start(&transcript)?;
    let python = python::find_or_install(&transcript, python::Module::Celery)?;
    let mut bench = process::command(built.join("waft-bench"));
    bench
        .args(arguments)
        .env(rabbitmq::BROKER, broker.url())
        .env(postgres::POSTGRES, database.url())
        .env(python::PYTHON, python)
        .env(GUESTS, guests)
        .env(BINARY, built.join("waft"));
    if let Some(password) = broker.role_password() {
        bench.env(rabbitmq::ROLE_PASSWORD, password);
    }
    println!("$ {}", shown(&bench));
    let status = bench.status().with_context(|| format!("could not run `{}`", shown(&bench)))?;
    ensure!(status.success(), "the benchmark ended with {status}");
    Ok(ExitCode::SUCCESS)
}
