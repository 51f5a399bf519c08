//! Finds the location of a run: at a server, or in the logbook of this machine, for runs of `waft run`.

use std::sync::Arc;

use anyhow::anyhow;
use client::{Client, ClientError};
use flow::{RunId, Shard};
use logbook::{LoadError, Logbook};
use tracing::debug;

use super::{remote, serve::without_password};
use crate::{exit::CliError, settings::Settings};

/// The location of a run.
pub(super) enum RunLocation {
    /// At a server.
    Server(Client),
    /// In the logbook of `waft run`: only a running `waft run` drives it.
    Local(LocalRun),
}

/// A run of `waft run`.
pub(super) struct LocalRun {
    pub(super) logbook: Arc<dyn Logbook>,
    pub(super) run: RunId,
}

/// Whether commands read the logbook of this machine: a flag named it, or no server was chosen.
pub(super) fn reads_logbook(settings: &Settings) -> bool {
    settings.logbook_is_named() || !settings.server.is_chosen()
}

/// Finds a run for a command. If no server was chosen, or a logbook was named, a run that `waft run` started is in the
/// logbook. Any other run is at the server, which may be at the built-in address.
///
/// # Errors
/// The run is neither in the logbook nor at a reachable server.
pub(super) async fn locate(settings: &Settings, run: &str) -> Result<RunLocation, CliError> {
    if !reads_logbook(settings) {
        return remote::client(settings).map(RunLocation::Server);
    }
    let run = RunId::new(run).map_err(CliError::invalid)?;
    match look_up(settings, &run).await? {
        LookUp::Own(logbook) => Ok(RunLocation::Local(LocalRun { logbook, run })),
        LookUp::OfServer(_) | LookUp::Unknown => remote::client(settings).map(RunLocation::Server),
        LookUp::Nothing if settings.logbook_is_named() => Err(missing(settings, &run)),
        LookUp::Nothing => {
            let client = remote::client(settings)?;
            // The built-in address was not chosen by a person, so a missing server there is not reported.
            match client.run(run.as_str()).await {
                Err(ClientError::Unreachable { .. } | ClientError::Unexpected { .. }) => Err(missing(settings, &run)),
                // The command sends its own request, and reports the problem.
                Ok(_) | Err(_) => Ok(RunLocation::Server(client)),
            }
        }
    }
}

/// Finds a run to read it. If a logbook was named, runs of servers are read from it too.
///
/// # Errors
/// As [`locate`].
pub(super) async fn locate_to_read(settings: &Settings, run: &str) -> Result<RunLocation, CliError> {
    if settings.logbook_is_named()
        && let Ok(run) = RunId::new(run)
        && let LookUp::OfServer(logbook) = look_up(settings, &run).await?
    {
        return Ok(RunLocation::Local(LocalRun { logbook, run }));
    }
    locate(settings, run).await
}

/// The error for an unknown run.
pub(super) fn missing(settings: &Settings, run: &RunId) -> CliError {
    let logbook = without_password(&settings.logbook);
    CliError::invalid(anyhow!("there is no run {run} in the logbook {logbook}")).hint(
        "`waft list` shows the runs there are; --logbook names another logbook, --server or WAFT_SERVER a server to ask",
    )
}

/// The result of looking a run up in the logbook of this machine.
enum LookUp {
    /// `waft run` started it.
    Own(Arc<dyn Logbook>),
    /// It was submitted to a server.
    OfServer(Arc<dyn Logbook>),
    /// There is no such run, or no logbook.
    Nothing,
    /// The logbook cannot be read, and no flag named it.
    Unknown,
}

async fn look_up(settings: &Settings, run: &RunId) -> Result<LookUp, CliError> {
    if !super::may_have_runs(settings)? {
        return Ok(LookUp::Nothing);
    }
    let logbook = match logbook::open(&settings.logbook).await {
        Ok(logbook) => logbook,
        Err(error) if settings.logbook_is_named() => return Err(super::logbook_error(error)),
        Err(error) => {
            debug!(%error, "the logbook of this machine cannot be read: the server is asked");
            return Ok(LookUp::Unknown);
        }
    };
    match logbook.summary(run).await {
        Ok(summary) if is_own(&summary.info.shard) => Ok(LookUp::Own(logbook)),
        Ok(_) => Ok(LookUp::OfServer(logbook)),
        Err(LoadError::Missing { .. }) => Ok(LookUp::Nothing),
        Err(error @ (LoadError::Damaged { .. } | LoadError::Unavailable { .. })) => Err(CliError::unreachable(error)),
    }
}

/// Whether a shard belongs to one `waft run`; servers share the others.
pub(super) fn is_own(shard: &Shard) -> bool {
    !protocol::topology::shards().any(|shared| shared == *shard)
}
