//! The runs that this engine drives: their machines in memory, their timers, and stale runs, which have to be read again
//! from the logbook.

pub(crate) mod active;
mod held;
mod recent;
mod returned_jobs;
mod stale;

use std::collections::{BTreeMap, BTreeSet};

use broker::Delivery;
use flow::{CallId, RunId, RunState, Shard, Timestamp};
use logbook::Version;
use machine::Event;
use tokio::time::Instant;

use crate::{effects::ReplyTo, forwards::NotificationCopy, messages::EarlierDeliveries};
pub(crate) use active::ActiveRun;
pub(crate) use held::HeldDeliveries;
use held::HoldLimit;
pub(crate) use recent::RecentRuns;
use returned_jobs::ReturnedJobs;
pub(crate) use stale::{LoadProgress, MAX_FAILED_READS, StaleRun};

/// Maximum number of runs that are remembered as inactive: a row that differs from its records is rare.
const MAX_INACTIVE: usize = 1_024;

/// A run that cannot be read, or that a bug of waft stopped.
#[derive(Default)]
struct CorruptRun {
    /// The panic message and the record or event that caused it, if it was a bug.
    bug: Option<String>,
    shard: Option<Shard>,
    /// They stay unsettled for the next process that drives the run.
    held: HeldDeliveries,
}

/// Whether a delivery is held for a run.
pub(crate) enum Hold {
    /// It is.
    Held,
    /// The run needs no hold.
    NotNeeded(Delivery),
    /// No more deliveries can be held for the run now.
    TooMany(Delivery),
}

/// How much is held for runs that cannot be read now.
struct HoldLimits {
    loads: HoldLimit,
    unreadable: HoldLimit,
}

impl Default for HoldLimits {
    fn default() -> Self {
        Self { loads: HoldLimit::of_loads(), unreadable: HoldLimit::of_unreadable() }
    }
}

/// The runs of a shard whose listeners are not known. The later ones decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum UnknownListeners {
    /// There are none.
    None,
    /// They cannot be read, and are tried again later.
    Unreadable,
    /// They are read beside the driver, or are about to be.
    BeingRead,
    /// The driver reads them as soon as the logbook answers.
    Due,
}

/// An event for a run, and the target of the reply, if there is one.
pub(crate) struct RunEvent {
    pub(crate) run: RunId,
    pub(crate) event: Event,
    pub(crate) reply_to: Option<ReplyTo>,
    /// The copy of a notification that the event is about: its delivery is settled when all parts of it are recorded.
    pub(crate) copy: Option<Box<NotificationCopy>>,
}

impl RunEvent {
    /// An event that nobody waits for.
    pub(crate) fn new(run: RunId, event: Event) -> Self {
        Self { run, event, reply_to: None, copy: None }
    }
}

/// The runs of the shards that are driven here.
#[derive(Default)]
pub(crate) struct Runs {
    active: BTreeMap<RunId, ActiveRun>,
    stale: BTreeMap<RunId, StaleRun>,
    corrupt: BTreeMap<RunId, CorruptRun>,
    hold_limits: HoldLimits,
    due: BTreeSet<(Timestamp, RunId)>,
    /// Runs that another process left and that were not adopted here: they may hold permits.
    orphaned: BTreeSet<RunId>,
    /// Runs that were inactive when they were read, each with its version, although their rows in the logbook may call them open.
    inactive: BTreeMap<RunId, Version>,
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

    /// Whether a run was not read yet, or cannot be read: what is in its records is not known.
    pub(crate) fn is_unread(&self, run: &RunId) -> bool {
        self.is_known(run) && !self.is_active(run)
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
        self.inactive.clear();
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
        let due = if active.awaits_answers { None } else { active.machine.next_due() };
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

    /// Takes runs with a timer that is due, at most this many. The timer of each counts again from [`Runs::update_due`] on.
    pub(crate) fn take_due(&mut self, now: Timestamp, max: usize) -> Vec<RunId> {
        let mut taken = Vec::new();
        while taken.len() < max && self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, run)) = self.due.pop_first() else { break };
            if let Some(active) = self.active.get_mut(&run) {
                active.due = None;
            }
            taken.push(run);
        }
        taken
    }
}

/// Stale runs: their copy in memory was dropped, and their records have to be read again.
impl Runs {
    pub(crate) fn is_stale(&self, run: &RunId) -> bool {
        self.stale.contains_key(run)
    }

    /// Whether notifications may wait for a stale run.
    pub(crate) fn delay_notifications(&self) -> bool {
        self.stale.values().any(StaleRun::delays_notifications)
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

    /// Takes stale runs whose records the driver reads now, at most this many.
    pub(crate) fn take_due_stale(&mut self, max: usize) -> BTreeMap<RunId, StaleRun> {
        let now = Instant::now();
        self.stale.extract_if(.., |_, stale| stale.is_due(now)).take(max).collect()
    }

    /// The stale run that waits until there is room to read it.
    pub(crate) fn waiting_mut(&mut self, run: &RunId) -> Option<&mut StaleRun> {
        self.stale.get_mut(run).filter(|stale| matches!(stale.load, LoadProgress::Waiting))
    }

    /// Takes the stale run whose load has ended; `None` if it was dropped meanwhile.
    pub(crate) fn take_loaded(&mut self, run: &RunId, load: tokio::task::Id) -> Option<StaleRun> {
        let is_loaded =
            |stale: &StaleRun| matches!(&stale.load, LoadProgress::Running(running) if running.id() == load);
        self.stale.get(run).filter(|stale| is_loaded(stale))?;
        self.stale.remove(run)
    }

    fn stale_of<'a>(&'a self, shard: &'a Shard) -> impl Iterator<Item = &'a StaleRun> {
        self.stale.values().filter(move |stale| stale.may_be_of(shard) || stale.has_unknown_shard())
    }

    /// Whether a run of the shard, or of an unknown one, was never read: it may listen to tasks.
    pub(crate) fn has_unread_listeners(&self, shard: &Shard) -> bool {
        self.stale_of(shard).any(StaleRun::may_listen)
    }

    /// Which runs of the shard, or of an unknown one, notifications wait for, since it is not known whether they listen.
    pub(crate) fn unknown_listeners(&self, shard: &Shard) -> UnknownListeners {
        let of_run = |stale: &StaleRun| match stale.load {
            LoadProgress::Due => UnknownListeners::Due,
            LoadProgress::Waiting | LoadProgress::Running(_) => UnknownListeners::BeingRead,
            LoadProgress::Paused(_) => UnknownListeners::Unreadable,
        };
        let awaited = self.stale_of(shard).filter(|stale| stale.is_awaited());
        awaited.map(of_run).max().unwrap_or(UnknownListeners::None)
    }

    /// Notifications for a shard do not wait any more for its runs that cannot be read. Returns these runs.
    pub(crate) fn give_up_unreadable(&mut self, shard: &Shard) -> Vec<RunId> {
        let of_shard = |stale: &StaleRun| stale.may_be_of(shard) || stale.has_unknown_shard();
        let is_given_up =
            |stale: &StaleRun| of_shard(stale) && stale.is_awaited() && matches!(stale.load, LoadProgress::Paused(_));
        let given_up = self.stale.iter_mut().filter(|(_, stale)| is_given_up(stale));
        let give_up = |(run, stale): (&RunId, &mut StaleRun)| {
            stale.give_up_notifications();
            run.clone()
        };
        given_up.map(give_up).collect()
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

    /// Holds a delivery for a stale run. Without a limit while all runs wait for the logbook.
    pub(crate) fn hold_for_stale(&mut self, run: &RunId, delivery: Delivery) -> Hold {
        let Some(stale) = self.stale.get_mut(run) else { return Hold::NotNeeded(delivery) };
        let limit = match stale.load {
            LoadProgress::Due => {
                stale.held.push(delivery);
                return Hold::Held;
            }
            LoadProgress::Waiting | LoadProgress::Running(_) => &self.hold_limits.loads,
            LoadProgress::Paused(_) => &self.hold_limits.unreadable,
        };
        stale.held.push_within(limit, delivery).map_or(Hold::Held, Hold::TooMany)
    }

    /// Holds a delivery for a stale run, whatever its limits are.
    pub(crate) fn hold_anyway(&mut self, run: &RunId, delivery: Delivery) {
        if let Some(stale) = self.stale.get_mut(run) {
            stale.held.push(delivery);
        }
    }

    /// The deliveries that are held for a stale run beyond the limits. There may be some if it was due before it was found that it
    /// takes long to read.
    pub(crate) fn take_excess(&mut self, run: &RunId) -> Vec<Delivery> {
        let Some(stale) = self.stale.get_mut(run) else { return Vec::new() };
        let held = std::mem::take(&mut stale.held).into_deliveries();
        let limit = &self.hold_limits.loads;
        held.filter_map(|delivery| stale.held.push_within(limit, delivery)).collect()
    }

    /// Notes runs that another process left and that are not driven here.
    pub(crate) fn note_orphaned(&mut self, runs: impl IntoIterator<Item = RunId>) {
        let left = runs.into_iter().filter(|run| !self.active.contains_key(run));
        self.orphaned.extend(left);
    }

    /// A run was read, and is inactive at this version.
    pub(crate) fn note_inactive(&mut self, run: &RunId, version: Version) {
        if self.inactive.len() >= MAX_INACTIVE {
            self.inactive.pop_first();
        }
        self.inactive.insert(run.clone(), version);
    }

    /// Whether a run was read at this version, and was inactive: it need not be read again, although its row calls it open.
    pub(crate) fn is_inactive_at(&self, run: &RunId, version: Version) -> bool {
        self.inactive.get(run) == Some(&version)
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

    /// Stops a run whose records cannot be read.
    pub(crate) fn mark_unreadable(&mut self, run: RunId, shard: Option<&Shard>) {
        self.corrupt.entry(run).or_default().shard = shard.cloned();
    }

    /// The shard of a run that is stale or corrupt, as far as it is known.
    pub(crate) fn shard_of_unread(&self, run: &RunId) -> Option<&Shard> {
        let of_stale = self.stale.get(run).and_then(|stale| stale.shard.as_ref());
        of_stale.or_else(|| self.corrupt.get(run)?.shard.as_ref())
    }

    /// Stops a run that meets a bug of waft.
    pub(crate) fn mark_buggy(&mut self, run: RunId, bug: String) {
        let shard = self.remove(&run).map(|active| active.shard);
        let corrupt = self.corrupt.entry(run).or_default();
        (corrupt.bug, corrupt.shard) = (Some(bug), shard);
    }

    /// The bug that stopped a run.
    pub(crate) fn bug(&self, run: &RunId) -> Option<&str> {
        self.corrupt.get(run)?.bug.as_deref()
    }

    /// Keeps a delivery of a corrupt run unsettled, for the next process that drives the run.
    pub(crate) fn hold_for_corrupt(&mut self, run: &RunId, delivery: Delivery) -> Hold {
        let Some(corrupt) = self.corrupt.get_mut(run) else { return Hold::NotNeeded(delivery) };
        corrupt.held.push_within(&self.hold_limits.unreadable, delivery).map_or(Hold::Held, Hold::TooMany)
    }
}

#[cfg(test)]
mod tests;
