//! Whether the runs in memory are as the logbook has them.
//!
//! They are, but for what is written behind the back of whoever drives a run: an append whose answer was lost and that the
//! database commits after the run was read again, or the last appends of an engine that does not know yet that it drives the
//! shard no more. Mostly the next append meets a conflict, and the run is read anew; but nothing may be left that leads to an
//! append, and the run would wait for ever for what is written already. So each shard is compared now and then.

use std::collections::BTreeMap;

use flow::{RunId, Shard};
use logbook::Version;
use tracing::{debug, warn};

use super::{Driver, is_inactive};

impl Driver {
    /// Compares one shard with the logbook: what differs is read again.
    pub(super) async fn reconcile(&mut self) {
        // A broker that ends with this process has no other engines beside it.
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
        // No append is under way here, so a run is at the version of its last one.
        let is_ahead = |run: &RunId, known: Version| open.get(run).is_none_or(|version| *version > known);
        let of_shard = self.runs.iter().filter(|(_, live)| live.shard == *shard && !is_inactive(live.machine.state()));
        let ahead = of_shard.filter(|(run, live)| is_ahead(run, live.version)).map(|(run, _)| run.clone());
        for run in ahead.collect::<Vec<_>>() {
            warn!(%run, "something was added to the run, and not by this engine: it is read again");
            self.drop_machine(&run, true);
        }
    }
}
