//! `cargo xtask broker`: runs a private RabbitMQ for experiments.

use std::{env, io, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use xtask::{
    process::Transcript,
    project,
    rabbitmq::{self, Rabbit},
};

use crate::test::BINARY;

pub(crate) fn run() -> Result<ExitCode> {
    rabbitmq::install_if_missing(&Transcript::new())?;
    let (parent, waft) = (project::target().join("rabbitmq"), binary());
    // Only the binary knows the permissions of the roles.
    let rabbit = if waft.is_file() { Rabbit::start_with_role_users(&parent, &waft)? } else { Rabbit::start(&parent)? };
    print!("export WAFT_BROKER={0} {1}={0}", rabbit.url(), rabbitmq::BROKER);
    match rabbit.role_password() {
        Some(password) => {
            println!(" {}={password}", rabbitmq::ROLE_PASSWORD);
            eprintln!(
                "it has users for the roles of waft: engine, worker, listener and operator, with the password {password}"
            );
        }
        None => {
            println!();
            eprintln!("it has no users for the roles of waft, because {} is not built", project::short(&waft));
        }
    }
    eprintln!("a RabbitMQ runs until Ctrl-C or the end of standard input");
    // Ctrl-C ends this process, and the node with it.
    io::copy(&mut io::stdin().lock(), &mut io::sink()).context("could not read standard input")?;
    Ok(ExitCode::SUCCESS)
}

/// The `waft` binary for tests, whether it is built or not.
fn binary() -> PathBuf {
    env::var_os(BINARY).map_or_else(|| project::build_folder().join("debug/waft"), PathBuf::from)
}
