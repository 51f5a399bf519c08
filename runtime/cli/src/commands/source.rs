//! Reads runs from a server, or from the logbook of this machine.

use std::sync::Arc;

use ::server::{Lines, ValueError, WantedValue};
use anyhow::anyhow;
use client::{Client, Event, Watch, api::Run};
use flow::{RunState, Value};
use logbook::RunInfo;
use store::Store;

use super::{
    remote,
    run_location::{LocalRun, RunLocation, is_own, locate_to_read},
};
use crate::{
    exit::{CliError, Exit},
    modules,
    settings::Settings,
};

/// The source that a run is read from.
pub(super) enum Source {
    /// A server.
    Server(Client),
    /// The logbook of this machine, and the store beside it.
    Local(LocalRun, Arc<dyn Store>),
}

/// The lines of a run, from its start to its end.
pub(super) enum RunLines {
    Server(Box<Watch>),
    Local(Box<Lines>),
}

impl Source {
    /// Finds a run.
    pub(super) async fn of(settings: &Settings, run: &str) -> Result<Self, CliError> {
        Ok(match locate_to_read(settings, run).await? {
            RunLocation::Server(client) => Self::Server(client),
            RunLocation::Local(here) => Self::Local(here, modules::open_store_to_read(settings).await?),
        })
    }

    /// The run with all its tasks.
    pub(super) async fn run(&self, run: &str) -> Result<Run, CliError> {
        match self {
            Self::Server(client) => client.run(run).await.map_err(remote::cli_error),
            Self::Local(LocalRun { logbook, run }, store) => {
                ::server::run(logbook, &**store, run).await.map_err(CliError::unreachable)
            }
        }
    }

    /// One value of the run, whole.
    pub(super) async fn value(&self, run: &str, name: &str) -> Result<Value, CliError> {
        match self {
            Self::Server(client) => client.value(run, name).await.map_err(remote::cli_error),
            Self::Local(LocalRun { logbook, run }, store) => {
                let wanted = WantedValue { run: run.clone(), name: name.to_owned(), digest: None };
                ::server::value(logbook, &**store, &wanted).await.map_err(value_error)
            }
        }
    }

    /// The lines of the run.
    pub(super) async fn watch(&self, run: &str) -> Result<RunLines, CliError> {
        Ok(match self {
            Self::Server(client) => RunLines::Server(Box::new(client.watch(run))),
            Self::Local(LocalRun { logbook, run }, store) => {
                let lines = Lines::open(run.clone(), logbook.clone(), store.clone()).await;
                RunLines::Local(Box::new(lines.map_err(CliError::unreachable)?))
            }
        })
    }

    /// Returns an error if no process drives a run that has not ended, so that nothing more will come. A server's runs have their
    /// engines.
    pub(super) async fn check_driver(&self) -> Result<(), CliError> {
        let Self::Local(LocalRun { logbook, run }, _) = self else { return Ok(()) };
        if logbook.run_lock_holder(run).await.map_err(CliError::unreachable)?.is_some() {
            return Ok(());
        }
        // Read this second: a process releases its run only after it has written the end.
        let RunInfo { state, shard, .. } = logbook.summary(run).await.map_err(CliError::unreachable)?.info;
        if state.is_final() || !is_own(&shard) {
            return Ok(());
        }
        let reason = if state == RunState::Suspended { "is suspended" } else { "was interrupted" };
        Err(CliError::new(Exit::Interrupted, anyhow!("run {run} {reason}, and no process drives it"))
            .hint(format!("`waft run --resume {run}` goes on with it, `waft cancel {run}` rolls it back")))
    }
}

fn value_error(error: ValueError) -> CliError {
    let hint = error.hint();
    let error = match error {
        ValueError::Load(error) => CliError::unreachable(error),
        ValueError::Missing { .. } => CliError::invalid(error),
        ValueError::Store { .. } => CliError::unreachable(error),
    };
    hint.into_iter().fold(error, CliError::hint)
}

impl RunLines {
    /// Waits for the next line; returns `None` after the last line of an ended run. Poll it to its end.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, CliError> {
        match self {
            Self::Server(watch) => watch.next().await.map_err(remote::cli_error),
            Self::Local(lines) => {
                let line = lines.next().await.map_err(CliError::unreachable)?;
                Ok(line.map(|line| Event::new(line.id, line.text)))
            }
        }
    }

    /// The next line, if it has arrived already.
    pub(super) fn next_received(&mut self) -> Option<Event> {
        match self {
            Self::Server(watch) => watch.next_received(),
            Self::Local(lines) => lines.next_received().map(|line| Event::new(line.id, line.text)),
        }
    }
}
