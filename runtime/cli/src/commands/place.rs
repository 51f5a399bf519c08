//! Where a run is: with a server, or in the logbook of this machine, where `waft run` left it.

use std::sync::Arc;

use client::Client;
use flow::{RunId, Shard};
use logbook::{LoadError, Logbook};
use tracing::debug;

use super::remote;
use crate::{exit::Failed, settings::Settings};

/// Where a run is.
pub(super) enum Place {
    /// With a server.
    Server(Client),
    /// In the logbook that `waft run` keeps: nobody drives it unless a `waft run` does.
    Here(Here),
}

/// A run of `waft run`.
pub(super) struct Here {
    pub(super) logbook: Arc<dyn Logbook>,
    pub(super) run: RunId,
}

/// Finds a run. A server that was chosen is meant; otherwise a run that a `waft run` began is here, and any other with the
/// server of the built-in address.
pub(super) async fn place(settings: &Settings, run: &str) -> Result<Place, Failed> {
    let here = match RunId::new(run) {
        Ok(run) if !settings.server.is_chosen() => here(settings, run).await?,
        Ok(_) | Err(_) => None,
    };
    here.map_or_else(|| remote::client(settings).map(Place::Server), |here| Ok(Place::Here(here)))
}

async fn here(settings: &Settings, run: RunId) -> Result<Option<Here>, Failed> {
    if !logbook::may_be_there(&settings.logbook).map_err(super::unusable)? {
        return Ok(None);
    }
    let logbook = match logbook::open(&settings.logbook).await {
        Ok(logbook) => logbook,
        Err(error) => {
            debug!(%error, "the logbook of this machine cannot be read: the server is asked");
            return Ok(None);
        }
    };
    match logbook.summary(&run).await {
        Ok(summary) if is_own(&summary.standing.shard) => Ok(Some(Here { logbook, run })),
        Ok(_) | Err(LoadError::Missing { .. }) => Ok(None),
        Err(error @ (LoadError::Damaged { .. } | LoadError::Unavailable { .. })) => Err(Failed::unreachable(error)),
    }
}

/// Whether a shard is that of one `waft run`; servers share the others.
pub(super) fn is_own(shard: &Shard) -> bool {
    !protocol::topology::shards().any(|shared| shared == *shard)
}
