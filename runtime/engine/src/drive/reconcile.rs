//! Compares the runs in memory with the logbook.
//!
//! They agree, unless records were added without the driver's knowledge. Example: the database commits an append
//! after its reply was lost and the run was read again. Or an engine still appends although it no longer drives the
//! shard. Mostly the next append meets a conflict, and the run is read again. But a run may have no next append, and
//! would then wait for ever for something that is already written. So each shard is compared regularly.

use std::collections::BTreeMap;

use flow::{RunId, Shard};
use logbook::Version;
use tracing::{debug, warn};

use super::{Driver, is_inactive};

impl Driver {
    /// Compares one shard with the logbook; runs that differ are read again.
    pub(super) async fn reconcile(&mut self) {
        // A broker that ends with this process has no other engines.
        if !self.is_lasting() {
            return;
        }
        let Some(shard) = self.shards.next_to_reconcile() else { return };
        match self.tools.logbook.open_runs(&shard).await {
            Ok(open) => self.reload_changed(&shard, open.into_iter().collect()),
            Err(error) => debug!(%shard, %error, "the runs of the shard could not be compared with the logbook"),
        }
    }

    fn reload_changed(&mut self, shard: &Shard, open: BTreeMap<RunId, Version>) {
        for run in open.keys().filter(|run| !self.is_loaded_or_stale(run)).cloned().collect::<Vec<_>>() {
            warn!(%run, %shard, "the run was begun, and not by this engine: it is driven here");
            self.mark_stale(run, shard);
        }
        // No append is running here, so a run is at the version of its last one.
        let is_ahead = |run: &RunId, known: Version| open.get(run).is_none_or(|version| *version > known);
        let of_shard = self.runs.iter().filter(|(_, live)| live.shard == *shard && !is_inactive(live.machine.state()));
        let ahead = of_shard.filter(|(run, live)| is_ahead(run, live.version)).map(|(run, _)| run.clone());
        for run in ahead.collect::<Vec<_>>() {
            warn!(%run, "something was added to the run, and not by this engine: it is read again");
            self.drop_machine(&run, true);
        }
    }
}
