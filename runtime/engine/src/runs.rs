//! The runs that this engine drives: their machines in memory, their timers, and stale runs, which have to be read again
//! from the logbook.

pub(crate) mod active;
mod recent;
mod returned_jobs;
mod stale;

use std::collections::{BTreeMap, BTreeSet};

use broker::Delivery;
use flow::{CallId, RunId, RunState, Shard, Timestamp};
use machine::Event;
use tokio::time::Instant;

use crate::{effects::ReplyTo, messages::EarlierDeliveries};
pub(crate) use active::ActiveRun;
pub(crate) use recent::RecentRuns;
use returned_jobs::ReturnedJobs;
pub(crate) use stale::{LoadProgress, StaleRun};

/// A run that cannot be read, or that a bug of waft stopped.
#[derive(Default)]
struct CorruptRun {
    /// The panic message and the record or event that caused it, if it was a bug.
    bug: Option<String>,
    /// They stay unsettled for the next process that drives the run.
    deliveries: Vec<Delivery>,
}

/// An event for a run, and the target of the reply, if there is one.
pub(crate) struct RunEvent {
    pub(crate) run: RunId,
    pub(crate) event: Event,
    pub(crate) reply_to: Option<ReplyTo>,
}

impl RunEvent {
    /// An event that nobody waits for.
    pub(crate) fn new(run: RunId, event: Event) -> Self {
        Self { run, event, reply_to: None }
    }
}

/// The runs of the shards that are driven here.
#[derive(Default)]
pub(crate) struct Runs {
    active: BTreeMap<RunId, ActiveRun>,
    stale: BTreeMap<RunId, StaleRun>,
    corrupt: BTreeMap<RunId, CorruptRun>,
    due: BTreeSet<(Timestamp, RunId)>,
    /// Runs that another process left and that were not adopted here: they may hold permits.
    orphaned: BTreeSet<RunId>,
    /// Whether a run was ever in memory.
    is_used: bool,
    /// The jobs that workers have returned, also those of suspended and of stale runs.
    pub(crate) returned_jobs: ReturnedJobs,
}

/// Whether a run in this state needs no engine.
pub(crate) fn is_inactive(state: RunState) -> bool {
    state.is_final() || state == RunState::Suspended
}

/// Runs in memory.
impl Runs {
    pub(crate) fn get(&self, run: &RunId) -> Option<&ActiveRun> {
        self.active.get(run)
    }

    pub(crate) fn get_mut(&mut self, run: &RunId) -> Option<&mut ActiveRun> {
        self.active.get_mut(run)
    }

    /// Whether the run is in memory.
    pub(crate) fn is_active(&self, run: &RunId) -> bool {
        self.active.contains_key(run)
    }

    /// Whether the run is in memory, or was until its append failed.
    pub(crate) fn is_driven(&self, run: &RunId) -> bool {
        self.is_active(run) || self.stale.get(run).is_some_and(|stale| stale.was_active)
    }

    /// Whether the state of the run is known here, or its records will be read.
    pub(crate) fn is_known(&self, run: &RunId) -> bool {
        self.is_active(run) || self.stale.contains_key(run) || self.is_corrupt(run)
    }

    /// Whether a run was ever in memory.
    pub(crate) fn is_used(&self) -> bool {
        self.is_used
    }

    /// The number of runs that are driven here, or about to be read.
    pub(crate) fn count_open(&self) -> usize {
        self.active.len() + self.stale.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RunId, &ActiveRun)> {
        self.active.iter()
    }

    /// The runs of a shard that are in memory.
    pub(crate) fn of_shard<'a>(&'a self, shard: &'a Shard) -> impl Iterator<Item = (&'a RunId, &'a ActiveRun)> {
        self.active.iter().filter(move |(_, active)| active.shard == *shard)
    }

    /// Remembers what the worker that has returned a job has said of earlier deliveries.
    pub(crate) fn add_returned(&mut self, call: &CallId, earlier: EarlierDeliveries) {
        if let Some(active) = self.active.get(&call.run) {
            self.returned_jobs.add(&active.shard, &active.machine, call, earlier);
        }
    }

    pub(crate) fn insert(&mut self, run: RunId, active: ActiveRun) {
        // The timer of an earlier copy must not stay.
        self.remove(&run);
        // Others may have sent its jobs since, and all that are needed are sent again from here.
        self.returned_jobs.forget_sendings(&run);
        self.is_used = true;
        self.active.insert(run.clone(), active);
        self.update_due(&run);
    }

    pub(crate) fn remove(&mut self, run: &RunId) -> Option<ActiveRun> {
        let active = self.active.remove(run)?;
        if let Some(at) = active.due {
            self.due.remove(&(at, run.clone()));
        }
        Some(active)
    }

    /// Removes all runs of a shard that is no longer driven here. Requests that wait for its stale runs are refused.
    pub(crate) fn drop_shard(&mut self, shard: &Shard) {
        let runs: Vec<RunId> = self.of_shard(shard).map(|(run, _)| run.clone()).collect();
        for run in runs {
            self.remove(&run);
        }
        self.returned_jobs.drop_shard(shard);
        for (_, stale) in self.stale.extract_if(.., |_, stale| stale.may_be_of(shard)) {
            stale.requeue_deliveries();
        }
    }
}

/// Timers.
impl Runs {
    /// Reads the next timer of a run from its machine.
    pub(crate) fn update_due(&mut self, run: &RunId) {
        let Some(active) = self.active.get_mut(run) else { return };
        let due = active.machine.next_due();
        if active.due != due {
            active.due.into_iter().for_each(|at| {
                self.due.remove(&(at, run.clone()));
            });
            self.due.extend(due.map(|at| (at, run.clone())));
            active.due = due;
        }
    }

    /// When the next timer of any run is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The runs with a timer that is due.
    pub(crate) fn due_by(&self, now: Timestamp) -> impl Iterator<Item = &RunId> {
        self.due.iter().take_while(move |(at, _)| *at <= now).map(|(_, run)| run)
    }
}

/// Stale runs: their copy in memory was dropped, and their records have to be read again.
impl Runs {
    pub(crate) fn is_stale(&self, run: &RunId) -> bool {
        self.stale.contains_key(run)
    }

    pub(crate) fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    pub(crate) fn stale_mut(&mut self, run: &RunId) -> Option<&mut StaleRun> {
        self.stale.get_mut(run)
    }

    /// Whether a run is read beside the driver, or is about to be.
    pub(crate) fn is_being_read(&self, run: &RunId) -> bool {
        let is_read = |stale: &StaleRun| match stale.load {
            LoadProgress::Waiting | LoadProgress::Running(_) => true,
            LoadProgress::Due | LoadProgress::Paused(_) => false,
        };
        self.stale.get(run).is_some_and(is_read)
    }

    /// All stale runs.
    pub(crate) fn stale_iter_mut(&mut self) -> impl Iterator<Item = &mut StaleRun> {
        self.stale.values_mut()
    }

    /// Takes a stale run that was read otherwise.
    pub(crate) fn remove_stale(&mut self, run: &RunId) -> Option<StaleRun> {
        self.stale.remove(run)
    }

    /// Marks a run as stale; its records are read with the next tick.
    pub(crate) fn mark_stale(&mut self, run: RunId, stale: StaleRun) {
        self.stale.entry(run).or_insert(stale);
    }

    /// Marks a run as stale that was in memory until now; its watcher and its version replace what was known before.
    pub(crate) fn replace_stale(&mut self, run: RunId, stale: StaleRun) {
        self.stale.insert(run, stale);
    }

    /// Takes the stale runs whose records are read now: of those with many records, no more than there is room for.
    pub(crate) fn take_stale(&mut self, has_room: bool) -> BTreeMap<RunId, StaleRun> {
        let now = Instant::now();
        let is_due = |_: &RunId, stale: &mut StaleRun| match stale.load {
            LoadProgress::Due => true,
            LoadProgress::Waiting => has_room,
            LoadProgress::Running(_) => false,
            LoadProgress::Paused(until) => until <= now,
        };
        self.stale.extract_if(.., is_due).collect()
    }

    /// Takes the stale run whose load has ended; `None` if it was dropped meanwhile.
    pub(crate) fn take_loaded(&mut self, run: &RunId, load: tokio::task::Id) -> Option<StaleRun> {
        let is_loaded =
            |stale: &StaleRun| matches!(&stale.load, LoadProgress::Running(running) if running.id() == load);
        self.stale.get(run).filter(|stale| is_loaded(stale))?;
        self.stale.remove(run)
    }

    /// Whether a run of the shard, or of an unknown one, was never read: it may listen to tasks. One that cannot be read misses
    /// notifications, since all runs of the shard would wait for it.
    pub(crate) fn has_unknown_listeners(&self, shard: &Shard) -> bool {
        let is_unknown = |stale: &StaleRun| !stale.was_active && !matches!(stale.load, LoadProgress::Paused(_));
        let of_shard = |stale: &StaleRun| stale.may_be_of(shard) || stale.has_unknown_shard();
        self.stale.values().any(|stale| is_unknown(stale) && of_shard(stale))
    }

    /// The barrier of a shard has arrived.
    pub(crate) fn on_barrier(&mut self, shard: &Shard) {
        let of_shard = self.stale.values_mut().filter(|stale| stale.may_be_of(shard));
        of_shard.for_each(|stale| stale.awaits_barrier = false);
    }

    /// Returns stale runs whose records were not read.
    pub(crate) fn return_stale(&mut self, mut runs: BTreeMap<RunId, StaleRun>) {
        // Deliveries for a run that was read may have made other runs stale meanwhile.
        self.stale.append(&mut runs);
    }

    /// Holds a delivery for a stale run; returns it if the run is not stale.
    pub(crate) fn hold_for_stale(&mut self, run: &RunId, delivery: Delivery) -> Option<Delivery> {
        match self.stale.get_mut(run) {
            Some(stale) => {
                stale.deliveries.push(delivery);
                None
            }
            None => Some(delivery),
        }
    }

    /// Notes runs that another process left and that are not driven here.
    pub(crate) fn note_orphaned(&mut self, runs: impl IntoIterator<Item = RunId>) {
        let left = runs.into_iter().filter(|run| !self.active.contains_key(run));
        self.orphaned.extend(left);
    }

    /// A run is driven here from now on, whether or not another process left it.
    pub(crate) fn note_driven(&mut self, run: &RunId) {
        self.orphaned.remove(run);
    }

    /// The runs of a shard that are not in memory but may hold permits.
    pub(crate) fn unread_of(&self, shard: &Shard) -> Vec<RunId> {
        let may_be_of = |stale: &StaleRun| stale.may_be_of(shard) || stale.has_unknown_shard();
        let stale = self.stale.iter().filter(|(_, stale)| may_be_of(stale)).map(|(run, _)| run);
        stale.chain(&self.orphaned).cloned().collect()
    }
}

/// Runs that cannot be read, or that a bug of waft stopped.
impl Runs {
    pub(crate) fn is_corrupt(&self, run: &RunId) -> bool {
        self.corrupt.contains_key(run)
    }

    /// Stops a run whose records cannot be read; its deliveries stay unsettled.
    pub(crate) fn mark_unreadable(&mut self, run: RunId, deliveries: Vec<Delivery>) {
        self.corrupt.entry(run).or_default().deliveries.extend(deliveries);
    }

    /// Stops a run that meets a bug of waft.
    pub(crate) fn mark_buggy(&mut self, run: RunId, bug: String) {
        self.remove(&run);
        self.corrupt.entry(run).or_default().bug = Some(bug);
    }

    /// The bug that stopped a run.
    pub(crate) fn bug(&self, run: &RunId) -> Option<&str> {
        self.corrupt.get(run)?.bug.as_deref()
    }

    /// Keeps a delivery of a corrupt run unsettled; returns it if the run is not corrupt.
    pub(crate) fn hold_for_corrupt(&mut self, run: &RunId, delivery: Delivery) -> Option<Delivery> {
        match self.corrupt.get_mut(run) {
            Some(corrupt) => {
                corrupt.deliveries.push(delivery);
                None
            }
            None => Some(delivery),
        }
    }
}
