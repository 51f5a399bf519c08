//! `cargo xtask broker`: runs a private RabbitMQ for experiments.

use std::{io, process::ExitCode};

use anyhow::{Context, Result};
use xtask::{
    process::Transcript,
    project,
    rabbitmq::{self, Rabbit},
};

pub(crate) fn run() -> Result<ExitCode> {
    rabbitmq::install_if_missing(&Transcript::new())?;
    let rabbit = Rabbit::start(&project::target().join("rabbitmq"))?;
    println!("export WAFT_BROKER={0} {1}={0}", rabbit.url(), rabbitmq::BROKER);
    eprintln!("a RabbitMQ runs until Ctrl-C or the end of standard input");
    // Ctrl-C ends this process, and the node with it.
    io::copy(&mut io::stdin().lock(), &mut io::sink()).context("could not read standard input")?;
    Ok(ExitCode::SUCCESS)
}
