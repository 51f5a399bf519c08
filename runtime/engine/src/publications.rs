//! Tracks which changes of each run are published, and publishes changes again: those of runs that another process left,
//! and those whose append was not confirmed.
//!
//! A replay decides the same as the live run did. So the records after the published version lead to the same
//! notifications, even if there are edits among them. Receivers recognize a duplicate by its run, task, firing,
//! attempt and state.

mod barrier;
mod cursors;

use std::collections::BTreeSet;

use broker::Message;
use flow::{RunId, Shard};
use logbook::Version;
use machine::NodeChange;
use protocol::EngineSecret;
use protocol::topology as names;

use crate::{effects::Effects, messages, runs::ActiveRun};
use barrier::DeliveryBarrier;
use cursors::PublishCursors;

/// The published versions of runs, and the notifications to publish again.
#[derive(Default)]
pub(crate) struct Publications {
    pub(crate) cursors: PublishCursors,
    pub(crate) barrier: DeliveryBarrier,
    /// Notifications to publish again.
    notifications: Vec<Message>,
    /// Runs, each with the version up to which these notifications contain its messages.
    republished: Vec<(RunId, Version)>,
    /// Shards whose ended runs must be searched for unpublished changes.
    unsearched: BTreeSet<Shard>,
    /// Whether all listeners are bound by now.
    listeners_bound: bool,
}

impl Publications {
    /// Marks a shard whose ended runs must be searched for unpublished changes.
    pub(crate) fn add_unsearched(&mut self, shard: Shard) {
        self.unsearched.insert(shard);
    }

    /// The ended runs of a shard are being searched.
    pub(crate) fn set_searched(&mut self, shard: &Shard) {
        self.unsearched.remove(shard);
    }

    /// Returns the shards to search now; none until the changes of the runs that were found before are published.
    pub(crate) fn unsearched(&self, is_open: impl Fn(&RunId) -> bool) -> Vec<Shard> {
        if self.unsearched.is_empty() || !self.cursors.is_done_except(is_open) {
            return Vec::new();
        }
        self.unsearched.iter().cloned().collect()
    }

    /// The broker has confirmed the changes of some runs. `is_lasting` tells whether they outlive this process.
    pub(crate) fn on_confirmed(&mut self, versions: Vec<(RunId, Version)>, is_lasting: bool) {
        if is_lasting {
            let earlier = self.barrier.give_up();
            let all = earlier.into_iter().chain(versions);
            all.for_each(|(run, version)| self.cursors.on_confirmed(&run, version));
        } else {
            self.barrier.add(versions);
        }
    }

    /// Queues the possibly unpublished changes of a run for publishing; `None` if all are published.
    pub(crate) fn republish(
        &mut self,
        run: &RunId,
        active: &ActiveRun,
        changes: Option<Vec<NodeChange>>,
        secret: &EngineSecret,
    ) {
        let Some(changes) = changes else { return };
        let flow = active.machine.flow();
        self.notifications.extend(changes.iter().map(|change| messages::notification(run, flow, change, secret)));
        self.republished.push((run.clone(), active.version));
        self.cursors.send(run, active.version);
    }

    /// Adds the queued notifications to the effects. With an in-process broker, notifications are held until all runs
    /// are read, because their listeners may not be bound before.
    pub(crate) fn add_to(&mut self, effects: &mut Effects, all_bound: bool) {
        self.listeners_bound |= all_bound;
        if self.listeners_bound {
            effects.messages.splice(0..0, self.notifications.drain(..));
            effects.published.splice(0..0, self.republished.drain(..));
            return;
        }
        let is_notification = |message: &mut Message| message.exchange == names::NOTIFICATIONS;
        self.notifications.extend(effects.messages.extract_if(.., is_notification));
        self.republished.append(&mut effects.published);
    }
}
