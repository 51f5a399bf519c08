//! The decisions of one batch, and what is left of its bounds.

use std::collections::{BTreeMap, BTreeSet};

use flow::{CallId, RunId, Timestamp};
use machine::{Event, Machine, NotificationCursor, Step, ValueFetch};

use super::{
    StepResult,
    shares::{MAX_BATCH_RECORDS, MAX_BATCH_STEP_BYTES, Share, Shares},
};
use crate::{effects::Effects, forwards::NotificationCopy};

/// The bytes of a batch that are for notifications of other flows, and as many for events that were deferred.
const MIN_BYTES_OF_KIND: usize = MAX_BATCH_STEP_BYTES / 4;

/// The result of each run, the events that were decided, and the notifications among them with what is left of each.
pub(super) type DecidedBatch =
    (BTreeMap<RunId, StepResult>, Vec<(RunId, Event)>, Vec<(NotificationCopy, Option<NotificationCursor>)>);

/// The decisions of a batch so far, and what they need.
pub(super) struct Decisions<'a> {
    pub(super) now: Timestamp,
    shares: Shares,
    /// The number of records of all steps.
    records: usize,
    /// The bytes of all steps.
    bytes: usize,
    pub(super) released: &'a BTreeSet<RunId>,
    pub(super) not_found: &'a BTreeSet<RunId>,
    pub(super) effects: &'a mut Effects,
    pub(super) steps: BTreeMap<RunId, StepResult>,
    pub(super) decided: Vec<(RunId, Event)>,
    /// The copies of notifications that were decided, each with what is left of it.
    pub(super) copies: Vec<(NotificationCopy, Option<NotificationCursor>)>,
    /// Runs that have to continue and have no bytes left, in the order of their turns.
    held: Vec<RunId>,
    held_runs: BTreeSet<RunId>,
}

impl<'a> Decisions<'a> {
    /// No decisions yet.
    pub(super) fn new(
        now: Timestamp,
        shares: Shares,
        (released, not_found): (&'a BTreeSet<RunId>, &'a BTreeSet<RunId>),
        effects: &'a mut Effects,
    ) -> Self {
        Self {
            now,
            shares,
            records: 0,
            bytes: 0,
            released,
            not_found,
            effects,
            steps: BTreeMap::new(),
            decided: Vec::new(),
            copies: Vec::new(),
            held: Vec::new(),
            held_runs: BTreeSet::new(),
        }
    }

    /// The number of records that a run may still add.
    pub(super) fn records_left(&self, run: &RunId) -> usize {
        self.shares.of(run).records.saturating_sub(self.steps.get(run).map_or(0, |step| step.records.len()))
    }

    /// The number of bytes that a run may still add.
    pub(super) fn bytes_left(&self, run: &RunId) -> usize {
        let share = self.shares.of(run).bytes;
        let of_run = share.saturating_sub(self.steps.get(run).map_or(0, |step| step.bytes));
        of_run.min(MAX_BATCH_STEP_BYTES.saturating_sub(self.bytes))
    }

    /// Begins the notifications of other flows, or the events that were deferred. They have a part of the bytes, however much the events
    /// before them have taken: they would otherwise wait for as long as full batches of messages come.
    pub(super) fn begin_kind(&mut self) {
        self.bytes = self.bytes.min(MAX_BATCH_STEP_BYTES - MIN_BYTES_OF_KIND);
    }

    /// Begins the turns of conditions. They have what is reserved for them, however much the events have taken.
    pub(super) fn begin_conditions(&mut self, turns: usize) {
        let Share { records, bytes } = self.shares.of_conditions();
        self.records = self.records.min(MAX_BATCH_RECORDS.saturating_sub(records * turns));
        self.bytes = self.bytes.min(MAX_BATCH_STEP_BYTES.saturating_sub(bytes * turns));
    }

    /// Whether the runs of the batch may add a record together.
    pub(super) fn has_room(&self) -> bool {
        self.records < MAX_BATCH_RECORDS && self.bytes < MAX_BATCH_STEP_BYTES
    }

    /// The result of a run, to which a step adds.
    pub(super) fn result_of(&mut self, run: &RunId, step: &Step) -> &mut StepResult {
        self.records += step.records.len();
        self.bytes = self.bytes.saturating_add(step.bytes);
        let result = self.steps.entry(run.clone()).or_default();
        result.bytes = result.bytes.saturating_add(step.bytes);
        result
    }

    /// Lets a run continue in the next batch, before the runs that continue in this one.
    pub(super) fn hold(&mut self, run: RunId) {
        match self.steps.get_mut(&run) {
            Some(step) => step.is_unfinished = true,
            None if self.held_runs.insert(run.clone()) => self.held.push(run),
            None => {}
        }
    }

    /// The decisions, and the runs that were held.
    pub(super) fn end(self) -> (DecidedBatch, Vec<RunId>) {
        ((self.steps, self.decided, self.copies), self.held)
    }
}

/// The calls and fetches of a run that are unanswered.
#[derive(Default)]
pub(super) struct PendingWork {
    pub(super) calls: Vec<CallId>,
    pub(super) fetches: Vec<ValueFetch>,
}

impl PendingWork {
    pub(super) fn of(machine: &Machine) -> Self {
        Self { calls: machine.pending_calls().collect(), fetches: machine.pending_fetches().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_leave_bytes_for_other_kinds_of_events() {
        let run: RunId = "r".parse().expect("a valid name");
        let shares = Shares::new(BTreeMap::from([(None, BTreeSet::from([run.clone()]))]), 0);
        let (released, not_found, mut effects) = (BTreeSet::new(), BTreeSet::new(), Effects::default());
        let mut decisions = Decisions::new(Timestamp::default(), shares, (&released, &not_found), &mut effects);
        // What a message decides itself may be more than a batch has.
        let step = Step { bytes: 2 * MAX_BATCH_STEP_BYTES, ..Step::default() };
        decisions.result_of(&"busy".parse().expect("a valid name"), &step);
        assert_eq!(decisions.bytes_left(&run), 0);
        decisions.begin_kind();
        assert_eq!(decisions.bytes_left(&run), MIN_BYTES_OF_KIND);
    }
}
