//! Begins and ends to drive a shard, in all parts of the engine.

use flow::{RunId, Shard};
use logbook::Version;
use tracing::{debug, warn};

use super::{Batch, Driver};
use crate::shards::Sharing;

impl Driver {
    /// Starts to drive a shard: reads its runs. Returns whether that worked.
    pub(super) async fn take_over(&mut self, shard: &Shard, batch: &mut Batch) -> bool {
        match self.load_shard(shard, batch).await {
            Ok(runs) => {
                debug!(%shard, runs, "drives the shard");
                batch.effects.messages.push(self.shards.take_over(shard));
                true
            }
            Err(error) => {
                // Until the next try, other engines may add records to the runs that were read.
                self.drop_shard(shard);
                warn!(%shard, %error, "the shard cannot be driven yet");
                false
            }
        }
    }

    /// Another engine has added records to a run: if shards are shared, that engine drives the shard of this run.
    pub(super) fn on_conflict(&mut self, run: &RunId, version: Version) {
        // A run that has not begun here only has a name that is taken.
        let Some(active) = self.runs.get(run).filter(|active| active.version != Version::NONE) else { return };
        warn!(%run, version = version.get(), "another engine has added to this run");
        if self.shards.sharing() == Sharing::Shared {
            let shard = active.shard.clone();
            self.release_shard(&shard);
        }
    }

    /// Starts a term of a shard: another engine may have driven it since the last one.
    pub(super) fn begin_term(&mut self, shard: &Shard, term: u64) {
        if self.shards.sharing() == Sharing::Shared && self.shards.owns(shard) {
            self.release_shard(shard);
        }
        self.shards.set_term(shard, Some(term));
    }

    /// Stops driving a shard.
    pub(super) fn release_shard(&mut self, shard: &Shard) {
        self.shards.release(shard);
        self.drop_shard(shard);
    }

    /// Removes all runs of a shard from memory, and everything known about them.
    fn drop_shard(&mut self, shard: &Shard) {
        self.leases.drop_shard(shard);
        self.context.topology.forget_bindings(shard);
        self.withdrawals.drop_shard(shard);
        self.listeners.drop_shard(shard);
        self.forwards.drop_shard(shard);
        self.held_notifications.drop_shard(shard);
        self.requeued.drop_shard(shard);
        self.resend_at_probe.retain(|(of, _), _| of != shard);
        for (run, _) in self.runs.of_shard(shard) {
            self.resend_next.remove(run);
        }
        self.permits.drop_shard(shard);
        self.publications.drop_shard(shard);
        self.runs.drop_shard(shard);
    }
}
