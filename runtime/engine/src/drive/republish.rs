//! What may not have been told, and is told again: the changes of runs that another process left, or whose append did not
//! say whether it was written.
//!
//! Replay never differs from live, so the records that come after what was told lead to the same notifications once more,
//! whatever edits are among them. Who listens tells them apart by what they say: run, task, firing, attempt and state.

use std::collections::BTreeSet;

use broker::Message;
use flow::{Change, NodeChange, RunId, Shard};
use logbook::{LoadError, Page, Replay, Version};
use protocol::topology as names;
use tracing::{error, warn};

use super::{ActiveRun, Driver};
use crate::{messages, outbox::OutboxBatch};

/// Runs that have ended and are told again at once; more follow when these were. As many as an engine ends in some
/// seconds, which is what one leaves that dies.
const MAX_REPUBLISHED_RUNS: usize = 1_000;

/// What is told again, and what is not told yet.
#[derive(Default)]
pub(super) struct Republisher {
    notifications: Vec<Message>,
    /// Runs, and up to which version those have all that they tell.
    published: Vec<(RunId, Version)>,
    /// Shards of which more runs that have ended are to be told again.
    shards_with_more: BTreeSet<Shard>,
    /// Whether everyone who listens can hear by now.
    listeners_bound: bool,
}

impl Republisher {
    /// Runs of a shard that have ended are to be looked for.
    pub(super) fn add_shard(&mut self, shard: Shard) {
        self.shards_with_more.insert(shard);
    }
}

impl Driver {
    /// Reads the runs of a shard that have ended or rest, and of which not all may have been told.
    ///
    /// # Errors
    /// [`LoadError`] when they cannot be read; those that could are told again all the same.
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

    /// Reads more of them, once the others were told.
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

    /// Tells again what a run may not have told.
    pub(super) fn republish(&mut self, run: &RunId, live: &ActiveRun, changes: Option<Vec<NodeChange>>) {
        let Some(changes) = changes else { return };
        let flow = live.machine.flow();
        self.again.notifications.extend(changes.iter().map(|change| messages::notification(run, flow, change)));
        self.again.published.push((run.clone(), live.version));
        self.publish_cursors.send(run, live.version);
    }

    /// Adds what is to be told again to a batch. A broker that has begun with this process gets no notification before all
    /// runs have been read: until then those who listen may not be bound.
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

    /// Reads a run, and what it changed after a version, or after what it is known to have told, if that is more; `None`
    /// where it has told all.
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
            // It was kept before all up to it was told.
            changes = self.replay_changes(run, told, version).await?;
        }
        Ok((live, (version > told).then_some(changes)))
    }

    /// What a run changed between two versions, by all its records.
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

/// What is published of a change.
fn of_node(change: Change) -> Option<NodeChange> {
    match change {
        Change::Node(change) => Some(change),
        Change::Run { .. } | Change::Firing { .. } => None,
    }
}
