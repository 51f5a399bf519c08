//! Where a run is: with a server, or in the logbook of this machine, where `waft run` left it.

use std::sync::Arc;

use anyhow::anyhow;
use client::{Client, ClientError};
use flow::{RunId, Shard};
use logbook::{LoadError, Logbook};
use tracing::debug;

use super::{remote, serve::without_password};
use crate::{exit::CliError, settings::Settings};

/// Where a run is.
pub(super) enum RunLocation {
    /// With a server.
    Server(Client),
    /// In the logbook that `waft run` keeps: nobody drives it unless a `waft run` does.
    Local(LocalRun),
}

/// A run of `waft run`.
pub(super) struct LocalRun {
    pub(super) logbook: Arc<dyn Logbook>,
    pub(super) run: RunId,
}

/// Whether commands read the logbook of this machine: it was named here and now, or no server was chosen.
pub(super) fn reads_logbook(settings: &Settings) -> bool {
    settings.logbook_is_named || !settings.server.is_chosen()
}

/// Finds a run to do something with it. Where no server was chosen, or a logbook was named, a run that a `waft run` began is in
/// the logbook; any other is with the server, be it the one of the built-in address.
///
/// # Errors
/// A run that is neither in the logbook nor with a server that can be asked.
pub(super) async fn locate(settings: &Settings, run: &str) -> Result<RunLocation, CliError> {
    if !reads_logbook(settings) {
        return remote::client(settings).map(RunLocation::Server);
    }
    let run = RunId::new(run).map_err(CliError::invalid)?;
    match look_up(settings, &run).await? {
        Found::Own(logbook) => Ok(RunLocation::Local(LocalRun { logbook, run })),
        Found::OfServer(_) | Found::Unknown => remote::client(settings).map(RunLocation::Server),
        Found::Nothing if settings.logbook_is_named => Err(missing(settings, &run)),
        Found::Nothing => {
            let client = remote::client(settings)?;
            // Nobody chose the server of the built-in address: that it does not answer is no news.
            match client.run(run.as_str()).await {
                Err(ClientError::Unreachable { .. } | ClientError::Unexpected { .. }) => Err(missing(settings, &run)),
                // The command asks again, and tells what is wrong.
                Ok(_) | Err(ClientError::Refused { .. } | ClientError::Address { .. }) => {
                    Ok(RunLocation::Server(client))
                }
            }
        }
    }
}

/// Finds a run to read it: where a logbook was named, the runs of servers are read from it too.
///
/// # Errors
/// As [`place`].
pub(super) async fn place_to_read(settings: &Settings, run: &str) -> Result<RunLocation, CliError> {
    if settings.logbook_is_named
        && let Ok(run) = RunId::new(run)
        && let Found::OfServer(logbook) = look_up(settings, &run).await?
    {
        return Ok(RunLocation::Local(LocalRun { logbook, run }));
    }
    locate(settings, run).await
}

/// There is no such run.
pub(super) fn missing(settings: &Settings, run: &RunId) -> CliError {
    let logbook = without_password(&settings.logbook);
    CliError::invalid(anyhow!("there is no run {run} in the logbook {logbook}")).hint(
        "`waft list` shows the runs there are; --logbook names another logbook, --server or WAFT_SERVER a server to ask",
    )
}

/// What the logbook of this machine has of a run.
enum Found {
    /// A `waft run` began it.
    Own(Arc<dyn Logbook>),
    /// It was submitted to a server.
    OfServer(Arc<dyn Logbook>),
    /// There is no such run, or no logbook.
    Nothing,
    /// The logbook cannot be read, and nobody named it.
    Unknown,
}

async fn look_up(settings: &Settings, run: &RunId) -> Result<Found, CliError> {
    if !logbook::may_exist(&settings.logbook).map_err(super::logbook_error)? {
        return Ok(Found::Nothing);
    }
    let logbook = match logbook::open(&settings.logbook).await {
        Ok(logbook) => logbook,
        Err(error) if settings.logbook_is_named => return Err(super::logbook_error(error)),
        Err(error) => {
            debug!(%error, "the logbook of this machine cannot be read: the server is asked");
            return Ok(Found::Unknown);
        }
    };
    match logbook.summary(run).await {
        Ok(summary) if is_own(&summary.standing.shard) => Ok(Found::Own(logbook)),
        Ok(_) => Ok(Found::OfServer(logbook)),
        Err(LoadError::Missing { .. }) => Ok(Found::Nothing),
        Err(error @ (LoadError::Damaged { .. } | LoadError::Unavailable { .. })) => Err(CliError::unreachable(error)),
    }
}

/// Whether a shard is that of one `waft run`; servers share the others.
pub(super) fn is_own(shard: &Shard) -> bool {
    !protocol::topology::shards().any(|shared| shared == *shard)
}
