//! Tracks which changes of each run are published, and publishes changes again: those of runs that another process left,
//! and those whose append was not confirmed.
//!
//! A replay decides the same as the live run did. So the records after the published version lead to the same
//! notifications, even if there are edits among them. Receivers recognize a duplicate by its run, task, firing,
//! attempt and state; one about a run by its state and time.

mod backlog;
mod barrier;
mod cursors;

use std::collections::BTreeSet;

use flow::{FlowName, RunId, RunState, Shard, Timestamp};
use logbook::Version;
use machine::{Change, NodeChange};
use protocol::EngineSecret;

use crate::{effects::Effects, messages, runs::active::ActiveRun};
use backlog::{Backlog, Entry};
use barrier::DeliveryBarrier;
use cursors::PublishCursors;

/// A change that engines publish.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PublishedChange {
    /// A node is in a new state.
    Node(Box<NodeChange>),
    /// The run is in a new state.
    Run { state: RunState, at: Timestamp },
}

impl PublishedChange {
    /// The change as it is published; `None` for one that only the events of its run have.
    pub(crate) fn of(change: &Change) -> Option<Self> {
        match change {
            Change::Node(change) => Some(Self::Node(change.clone().into())),
            Change::Run { state, at } => Some(Self::Run { state: *state, at: *at }),
            Change::Firing { .. } => None,
        }
    }

    /// Whether a notification triggered its firing, which has called no guest and has not waited.
    pub(crate) fn is_of_empty_firing(&self) -> bool {
        match self {
            Self::Node(change) => change.is_of_empty_firing,
            Self::Run { .. } => false,
        }
    }
}

/// The published versions of runs, and the changes that are published later.
#[derive(Default)]
pub(crate) struct Publications {
    pub(crate) cursors: PublishCursors,
    pub(crate) barrier: DeliveryBarrier,
    backlog: Backlog,
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
    pub(crate) fn republish(&mut self, run: &RunId, active: &ActiveRun, changes: Option<Vec<PublishedChange>>) {
        let Some(changes) = changes else { return };
        let published = PublishedRun::of(run.clone(), active);
        self.backlog.add(&published, changes);
        self.cursors.send(run, published.version);
    }

    /// Publishes a change of a run, now or behind the changes of the run that wait.
    pub(crate) fn publish(
        &mut self,
        run: &RunId,
        active: &ActiveRun,
        change: &Change,
        secret: &EngineSecret,
        effects: &mut Effects,
    ) {
        let Some(change) = PublishedChange::of(change) else { return };
        if self.waits(run) {
            self.backlog.push(&PublishedRun::of(run.clone(), active), Entry::Change(change));
        } else {
            effects.messages.push(messages::notification(run, &active.machine.flow().name, &change, secret));
        }
    }

    /// All changes of a run up to its version are among the effects, or wait.
    pub(crate) fn sent(&mut self, published: PublishedRun, effects: &mut Effects) {
        self.cursors.send(&published.run, published.version);
        if self.waits(&published.run) {
            self.backlog.push(&published, Entry::Version(published.version));
        } else {
            effects.published.push((published.run, published.version));
        }
    }

    /// Whether the changes of a run have to wait. With an in-process broker, all wait until all runs are read, because their
    /// listeners may not be bound before.
    fn waits(&self, run: &RunId) -> bool {
        !self.listeners_bound || self.backlog.has(run)
    }

    /// Whether changes wait that can be published now.
    pub(crate) fn is_due(&self) -> bool {
        self.listeners_bound && !self.backlog.is_empty()
    }

    /// Adds some of the changes that wait to the effects, if the outbox has room for them.
    pub(crate) fn add_to(&mut self, effects: &mut Effects, all_bound: bool, has_room: bool, secret: &EngineSecret) {
        self.listeners_bound |= all_bound;
        if self.listeners_bound && has_room {
            for (run, version) in self.backlog.take(secret, effects) {
                self.cursors.send(&run, version);
            }
        }
    }

    /// Forgets the waiting changes of a shard that is no longer driven here: its new driver publishes them.
    pub(crate) fn drop_shard(&mut self, shard: &Shard) {
        self.unsearched.remove(shard);
        for (run, version) in self.backlog.drop_shard(shard) {
            self.cursors.withdraw(&run, version);
        }
    }
}

/// A run whose changes are published, at a version.
pub(crate) struct PublishedRun {
    run: RunId,
    flow: FlowName,
    shard: Shard,
    version: Version,
}

impl PublishedRun {
    pub(crate) fn of(run: RunId, active: &ActiveRun) -> Self {
        Self { run, flow: active.machine.flow().name.clone(), shard: active.shard.clone(), version: active.version }
    }
}
