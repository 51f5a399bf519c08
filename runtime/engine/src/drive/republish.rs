//! Publishes changes again that may be unpublished: of runs that another process left, or whose append was not
//! confirmed.
//!
//! A replay decides the same as the live run did. So the records after the published version lead to the same
//! notifications, even if there are edits among them. Receivers recognize a duplicate by its run, task, firing,
//! attempt and state.

use std::collections::BTreeSet;

use broker::Message;
use flow::{Change, NodeChange, RunId, Shard};
use logbook::{LoadError, Page, Replay, Version};
use protocol::topology as names;
use tracing::{error, warn};

use super::{ActiveRun, Driver};
use crate::{messages, outbox::OutboxBatch};

/// Maximum number of ended runs that are republished at once; more follow after these. An engine ends about as many
/// in some seconds, so it leaves about as many when it dies.
const MAX_REPUBLISHED_RUNS: usize = 1_000;

/// Notifications to publish again, or to publish later.
#[derive(Default)]
pub(super) struct Republisher {
    notifications: Vec<Message>,
    /// Runs, each with the version up to which the notifications contain its messages.
    published: Vec<(RunId, Version)>,
    /// Shards with further ended runs to republish.
    shards_with_more: BTreeSet<Shard>,
    /// Whether all listeners are bound by now.
    listeners_bound: bool,
}

impl Republisher {
    /// Marks a shard whose ended runs must be searched for unpublished changes.
    pub(super) fn add_shard(&mut self, shard: Shard) {
        self.shards_with_more.insert(shard);
    }
}

impl Driver {
    /// Reads the ended or suspended runs of a shard that may have unpublished changes.
    ///
    /// # Errors
    /// [`LoadError`] when runs cannot be read; the runs read before it are still republished.
    pub(super) async fn load_unpublished(&mut self, shard: &Shard) -> Result<(), LoadError> {
        self.again.shards_with_more.remove(shard);
        let runs = self.tools.logbook.unpublished_runs(shard, MAX_REPUBLISHED_RUNS).await?;
        if runs.len() == MAX_REPUBLISHED_RUNS {
            self.again.shards_with_more.insert(shard.clone());
        }
        for run in runs {
            if self.is_loaded_or_stale(&run) || self.publish_cursors.is_publishing(&run) {
                continue;
            }
            match self.load_for_publishing(&run, Version::NONE).await {
                Ok((live, changes)) => self.republish(&run, &live, changes),
                Err(error @ LoadError::Unavailable { .. }) => return Err(error),
                Err(LoadError::Missing { .. }) => {}
                Err(error @ LoadError::Damaged { .. }) => {
                    error!(%run, %error, "what the run did not tell cannot be read");
                }
            }
        }
        Ok(())
    }

    /// Reads more unpublished runs, once the previous ones are published.
    pub(super) async fn load_more_unpublished(&mut self) {
        if self.again.shards_with_more.is_empty()
            || !self.publish_cursors.is_done_but(|run| self.runs.contains_key(run))
        {
            return;
        }
        for shard in self.again.shards_with_more.clone() {
            if let Err(error) = self.load_unpublished(&shard).await {
                warn!(%shard, %error, "the runs of the shard that have ended are not known");
                self.again.shards_with_more.insert(shard);
            }
        }
    }

    /// Queues the possibly unpublished changes of a run for publishing.
    pub(super) fn republish(&mut self, run: &RunId, live: &ActiveRun, changes: Option<Vec<NodeChange>>) {
        let Some(changes) = changes else { return };
        let flow = live.machine.flow();
        self.again.notifications.extend(changes.iter().map(|change| messages::notification(run, flow, change)));
        self.again.published.push((run.clone(), live.version));
        self.publish_cursors.send(run, live.version);
    }

    /// Adds the queued notifications to a batch. A broker that started with this process gets no notification before
    /// all runs are read: until then their listeners may not be bound.
    pub(super) fn add_republished(&mut self, batch: &mut OutboxBatch) {
        self.again.listeners_bound |= self.is_lasting() || (self.shards.owns_all() && self.stale.is_empty());
        if self.again.listeners_bound {
            batch.messages.splice(0..0, self.again.notifications.drain(..));
            batch.published.splice(0..0, self.again.published.drain(..));
            return;
        }
        let is_notification = |message: &mut Message| message.exchange == names::NOTIFICATIONS;
        self.again.notifications.extend(batch.messages.extract_if(.., is_notification));
        self.again.published.append(&mut batch.published);
    }

    /// Reads a run, with its changes after `told` or after its published version, whichever is later; `None` if all
    /// are published.
    pub(super) async fn load_for_publishing(
        &self,
        run: &RunId,
        told: Version,
    ) -> Result<(ActiveRun, Option<Vec<NodeChange>>), LoadError> {
        let history = self.tools.logbook.load(run).await?;
        let (told, version) = (told.max(history.told), history.version());
        let snapshot = history.snapshot.as_ref().map_or(Version::NONE, |(version, _)| *version);
        let mut changes = Vec::new();
        let live = self.restore(run, history, |version, change| {
            if version > told {
                changes.extend(of_node(change));
            }
        });
        let live = live.await?;
        if snapshot > told {
            // The snapshot was saved before all changes up to it were published.
            changes = self.replay_changes(run, told, version).await?;
        }
        Ok((live, (version > told).then_some(changes)))
    }

    /// Replays all records of a run and returns its changes between two versions.
    async fn replay_changes(&self, run: &RunId, after: Version, until: Version) -> Result<Vec<NodeChange>, LoadError> {
        let mut replay = Replay::new(run.clone(), self.tools.logbook.clone());
        let mut changes = Vec::new();
        loop {
            // Records that are trimmed meanwhile have been published, so that none of them is missed here.
            let Page { records, .. } = replay.read().await?;
            if records.is_empty() {
                return Ok(changes);
            }
            for record in &records {
                let taken = replay.apply(record)?;
                if taken.version > until {
                    return Ok(changes);
                }
                if taken.version > after {
                    changes.extend(taken.changes.into_iter().filter_map(of_node));
                }
            }
        }
    }
}

/// Returns the part of a change that is published.
fn of_node(change: Change) -> Option<NodeChange> {
    match change {
        Change::Node(change) => Some(change),
        Change::Run { .. } | Change::Firing { .. } => None,
    }
}
