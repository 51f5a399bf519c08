//! The state machine of a run: a plain value without I/O, the same for live work and for recovery.
//!
//! [`Machine::decide`] turns an event into records, [`Machine::evolve`] applies one durable record, and nothing else changes
//! the machine. The cost of an event depends on what it changes, never on the size of the flow: each node counts the
//! neighbours it still waits for, and the machine looks only at nodes whose count reaches zero.
//!
//! Reading order: this file, `firing.rs` (one firing of the flow; most runs have only one), `triggers.rs` (runs that fire
//! more than once), `edits.rs` (flows that are changed), `held.rs` (how much a run may hold), `snapshot.rs` (a machine without its history), `queries.rs`
//! (read-only questions about a run).

mod edits;
mod triggers;
mod notifications;
mod task_notifications;
mod condition_budget;
mod held;
mod firings;
mod firing;
mod ended_attempts;
mod snapshot;
mod queries;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use crate::{Change, Command, Event, Fact, NotificationCursor, Record};
use condition_budget::ConditionBudget;
pub use ended_attempts::{AttemptEnd, EndedAttempt, UnansweredCall};
pub use firing::for_each::{ElementState, Expansion, collect_results, elements};
pub use firing::node::{Executions, Intention, NodeRun, NodeState, ProvidedValues, Rare, RareState};
use firing::{FiringMachine, FiringStart};
use firings::Firings;
use flow::{
    Action, ClockShift, EvaluationBudget, Firing, Flow, Labels, NodeIndex, NodeName, Revision, RunId, RunState,
    Timestamp, graph::Role,
};
pub use notifications::NotificationKeys;
pub use snapshot::{FiringSnapshot, IllegalSnapshot, Snapshot};
use task_notifications::PartLimits;
pub use triggers::{
    Backlog, Backlogs, GivenValues, NextFiring, PendingTrigger, QueuedFiring, ScheduleStatus, ScheduleTimes, SkipCount,
    TriggerState,
};

/// A record that cannot follow the records before it: the logbook is damaged or belongs to another run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {about} does not fit run {run}: {reason}")]
pub struct IllegalRecord {
    run: RunId,
    /// Summary of the record, with its task and firing.
    about: String,
    reason: String,
}

/// The message of a caught panic.
#[must_use]
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

/// The result of one event: records to store, and commands to execute afterwards.
#[derive(Debug, Default)]
pub struct Step {
    /// Records to append to the logbook, in this order, before any command is sent.
    pub records: Vec<Record>,
    /// Commands to execute once the records are durable, in this order.
    pub commands: Vec<Command>,
    /// The attempts that the records end.
    pub ended_attempts: Vec<EndedAttempt>,
    /// The calls that the records end although no worker has answered them.
    pub unanswered_calls: Vec<UnansweredCall>,
    /// How late the records fire schedules, each by its time; times from a backlog are not included.
    pub schedule_delays: Vec<Duration>,
    /// Whether more records may follow at this time: then the caller sends [`Event::Tick`] after other runs had their turn.
    pub is_unfinished: bool,
    /// Why a notification was refused, for people. Whoever needs it does not have to check the notification again.
    pub refusal: Option<String>,
    /// Whether only decisions with conditions follow, which had no budget. The step is unfinished then.
    pub awaits_conditions: bool,
    /// What the evaluated conditions have cost, in the unit of [`EvaluationBudget::MAX_COST`].
    pub condition_cost: u64,
    /// The bytes of the records and commands, approximately.
    pub bytes: usize,
    /// The part of a task's notification that is not decided yet: the caller sends the event again with it, after other runs had their
    /// turn.
    pub rest: Option<NotificationCursor>,
}

impl Step {
    fn add(&mut self, record: Record, commands: Vec<Command>) {
        let of_commands: usize = commands.iter().map(Command::bytes).sum();
        self.bytes = self.bytes.saturating_add(record.bytes()).saturating_add(of_commands);
        self.records.push(record);
        self.commands.extend(commands);
    }
}

/// The limits of one step. They change no decision, only its time: a further step decides the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepLimits {
    /// The maximum number of records; only the last decision may exceed it.
    pub records: usize,
    /// The maximum number of bytes of records and commands; only the last decision may exceed it.
    pub bytes: usize,
    /// The maximum cost of conditions, in the unit of [`EvaluationBudget::MAX_COST`]. Only the conditions of the last node may exceed it.
    /// With 0, none is evaluated.
    pub conditions: u64,
    /// Whether calls expire.
    pub expiry: CallExpiry,
}

impl Default for StepLimits {
    fn default() -> Self {
        let conditions = EvaluationBudget::MAX_COST;
        Self { records: MAX_STEP_RECORDS, bytes: MAX_STEP_BYTES, conditions, expiry: CallExpiry::Due }
    }
}

/// Whether calls expire in a step that no worker has started in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallExpiry {
    /// A call expires once its time has passed.
    Due,
    /// No call expires in this step: reports of workers about the calls may not have been received yet.
    Held,
}

/// The maximum number of records of one step; only its last decision may exceed it. At some microseconds a record, other
/// runs wait for a few milliseconds.
pub const MAX_STEP_RECORDS: usize = 512;

/// The maximum number of bytes of the records and commands of one step; only its last decision may exceed it. It is written, and sent as
/// notifications, within some tens of milliseconds.
pub const MAX_STEP_BYTES: usize = 4 << 20;

/// The state machine of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    run: RunId,
    flow: Arc<Flow>,
    /// The index of each task, by name.
    tasks: Arc<BTreeMap<NodeName, NodeIndex>>,
    revision: Revision,
    /// The firings that are under way, and ended firings that may still receive a late outcome. A run that fires once has
    /// exactly one, from its start.
    firings: Firings,
    /// The additional state of a run that fires more than once.
    triggers: Option<TriggerState>,
    /// The bytes of the failures in it.
    failed_bytes: u64,
    /// The keys of the notifications that the run has received.
    notifications: NotificationKeys,
    /// The time of the last record: a clock that shows an earlier time was set back.
    latest: Timestamp,
    /// The labels for the record with which the run starts. A run that has started has them in its records only.
    labels: Labels,
}

impl Machine {
    /// Creates the machine of a run without records. [`Event::Start`] starts the run.
    #[must_use]
    pub fn new(run: RunId, flow: Arc<Flow>) -> Self {
        Self::labelled(run, flow, Labels::default())
    }

    /// Like [`Machine::new`], for a run with labels.
    #[must_use]
    pub fn labelled(run: RunId, flow: Arc<Flow>, labels: Labels) -> Self {
        let tasks = tasks_of(&flow);
        let trigger_state = flow.triggers.as_ref().map(|triggers| TriggerState::new(triggers.schedules.len()));
        let (revision, firings, latest) = (Revision::FIRST, Firings::default(), Timestamp::default());
        Self {
            run,
            flow,
            tasks,
            revision,
            firings,
            triggers: trigger_state,
            failed_bytes: 0,
            notifications: NotificationKeys::default(),
            latest,
            labels,
        }
    }

    /// Rebuilds a run from its records. Commands that the records caused are not returned again; [`Machine::pending`] has
    /// the commands that are still unanswered.
    ///
    /// # Errors
    /// [`IllegalRecord`] when there is no record, the first record does not start the run, or a record does not fit.
    pub fn replay<'a>(run: RunId, records: impl IntoIterator<Item = &'a Record>) -> Result<Self, IllegalRecord> {
        let mut records = records.into_iter();
        let illegal =
            |fact: String, reason: &str| IllegalRecord { run: run.clone(), about: fact, reason: reason.into() };
        let first = records.next().ok_or_else(|| illegal("none".into(), "a run has at least one record"))?;
        let Fact::RunStarted { flow, .. } = &first.fact else {
            return Err(illegal(first.fact.name().into(), "the first record starts the run"));
        };
        let mut machine = Self::new(run.clone(), flow.clone());
        machine.evolve(first)?;
        for record in records {
            machine.evolve(record)?;
        }
        Ok(machine)
    }

    /// Decides which records an event leads to. Changes nothing.
    ///
    /// A duplicate, late or out-of-order event leads to no records.
    #[must_use]
    pub fn decide(&self, now: Timestamp, event: &Event) -> Vec<Record> {
        self.decide_within(now, event, &ConditionBudget::default())
    }

    fn decide_within(&self, now: Timestamp, event: &Event, budget: &ConditionBudget) -> Vec<Record> {
        self.within_maximum(event, self.decide_unbounded(now, event, budget))
    }

    /// Decides whatever the run holds already.
    fn decide_unbounded(&self, now: Timestamp, event: &Event, budget: &ConditionBudget) -> Vec<Record> {
        if let Event::Notify { task, result, .. } = event {
            return self.decide_notify(now, task, result, (event, budget)).unwrap_or_default();
        }
        if let Event::TaskNotification { notification, part } = event {
            return self.decide_task_notification(now, notification, *part, PartLimits::NONE).0;
        }
        self.decide_other(now, event, budget)
    }

    fn decide_other(&self, now: Timestamp, event: &Event, budget: &ConditionBudget) -> Vec<Record> {
        let run_record = |fact| vec![Record { at: now, firing: None, fact }];
        match (&self.triggers, self.single_firing(), event) {
            (_, None, Event::Start) if self.state() == RunState::Pending => {
                let (flow, labels) = (self.flow.clone(), self.labels.clone());
                run_record(Fact::RunStarted { flow, revision: self.revision, labels })
            }
            (_, Some(_), Event::Edit { revision, flow }) | (Some(_), None, Event::Edit { revision, flow }) => {
                self.decide_edit(*revision, flow).map(run_record).unwrap_or_default()
            }
            (None, Some(firing), event) => {
                let record = |fact| Record { at: now, firing: None, fact };
                firing.decide(now, event, budget).into_iter().map(record).collect()
            }
            (Some(trigger_state), _, event) => self.decide_triggers(trigger_state, now, event, budget),
            (None, None, _) => Vec::new(),
        }
    }

    /// Applies one durable record. Nothing else ever changes the machine.
    ///
    /// # Errors
    /// [`IllegalRecord`] when the record cannot follow the records before it, or applying it hits a bug; drop the machine
    /// then.
    pub fn evolve(&mut self, record: &Record) -> Result<Vec<Command>, IllegalRecord> {
        // A bug report needs the record that caused it, and only this function knows the record.
        let evolved = catch_unwind(AssertUnwindSafe(|| self.try_evolve(record)));
        let evolved =
            evolved.unwrap_or_else(|panic| Err(format!("it meets a bug of waft: {}", panic_message(&*panic))));
        self.latest = record.at;
        evolved.map_err(|reason| IllegalRecord { run: self.run.clone(), about: self.describe_record(record), reason })
    }

    /// Summarizes a record with its task and firing, for people; it contains no values.
    fn describe_record(&self, record: &Record) -> String {
        let node = record.fact.node().map(|node| match self.node_name(record.firing, node) {
            Some(name) => format!(" of {name:?}"),
            None => format!(" of node {}, which the flow does not have", node.0),
        });
        let firing = record.firing.map(|firing| format!(", firing {firing}")).unwrap_or_default();
        format!("{}{}{firing}", record.fact.name(), node.unwrap_or_default())
    }

    fn try_evolve(&mut self, record: &Record) -> Result<Vec<Command>, String> {
        let Record { at, firing, fact } = record;
        if (self.state() == RunState::Pending) != matches!(fact, Fact::RunStarted { .. }) {
            return Err(format!("the run is {}", self.state()));
        }
        match (fact, firing) {
            (Fact::RunStarted { flow, revision, labels: _ }, None) => {
                *self = Self { revision: *revision, ..Self::new(self.run.clone(), flow.clone()) };
                Ok(self.start(*at))
            }
            (Fact::Edited { flow, revision }, None) => {
                if let [reason, ..] = &self.edit_errors(flow)[..] {
                    return Err(reason.clone());
                }
                Ok(self.replace_flow(*at, flow, *revision))
            }
            (Fact::NotificationReceived { node, key }, None) => {
                self.remember_notification(*node, key).map(|()| Vec::new())
            }
            (fact, Some(firing)) => self.evolve_firing(*at, *firing, fact),
            (fact, None) if self.triggers.is_some() => self.evolve_triggers(*at, fact),
            (fact, None) => match self.firings.change(Firing::FIRST, |firing| firing.evolve(*at, fact)) {
                Some(evolved) => evolved,
                None => Err("the run has no firing".into()),
            },
        }
    }

    fn start(&mut self, at: Timestamp) -> Vec<Command> {
        if self.triggers.is_some() {
            return self.start_triggers(at);
        }
        let mut firing = self.new_firing(FiringStart::single());
        firing.begin(at);
        self.firings.insert(firing);
        vec![Command::Publish(Change::Run { state: RunState::Running, at })]
    }

    fn new_firing(&self, start: FiringStart) -> FiringMachine {
        FiringMachine::new(self.run.clone(), self.flow.clone(), self.tasks.clone(), start)
    }

    /// The firing of a run that fires once.
    fn single_firing(&self) -> Option<&FiringMachine> {
        if self.triggers.is_some() { None } else { self.firings.get(&Firing::FIRST) }
    }

    /// Decides an event and continues until nothing more follows at this time, within the default limits.
    ///
    /// The machine is ahead of the logbook until the records are appended: if the append fails, drop the machine and replay.
    ///
    /// # Panics
    /// When the machine refuses its own decision, which is a bug.
    pub fn step(&mut self, now: Timestamp, event: &Event) -> Step {
        self.step_within(now, event, StepLimits::default())
    }

    /// Like [`Machine::step`], with given limits: once there are as many records or bytes as allowed, no further decision follows, and once
    /// conditions have cost as much as allowed, no decision that evaluates one.
    ///
    /// # Panics
    /// When the machine refuses its own decision, which is a bug.
    pub fn step_within(&mut self, now: Timestamp, event: &Event, limits: StepLimits) -> Step {
        let mut step = Step::default();
        let budget = ConditionBudget::of(limits);
        if let Some(record) = self.decide_clock(now, event) {
            let commands = self.evolve(&record).expect("a clock may be set at any time");
            step.add(record, commands);
        }
        let mut held = budget.held();
        let mut is_tick = matches!(event, Event::Tick);
        let decided = self.decide_event(now, event, (limits, &budget), &mut step);
        let mut records = self.within_maximum(event, decided);
        if records.is_empty() && !step.records.is_empty() {
            // Something may be due by the new clock.
            records = self.decide_within(now, &Event::Tick, &budget);
            is_tick = true;
        }
        while !records.is_empty() {
            let is_cut = self.evolve_within(std::mem::take(&mut records), is_tick, limits, &mut step);
            held = budget.held();
            let is_full = is_cut || step.records.len() >= limits.records || step.bytes >= limits.bytes;
            if is_full && !self.firings.values().any(FiringMachine::has_missing_input) {
                step.is_unfinished = !self.state().is_final();
                break;
            }
            records = self.decide_within(now, &Event::Tick, &budget);
            is_tick = true;
        }
        // What the last decision held is all that follows.
        step.awaits_conditions = budget.held() > held;
        step.is_unfinished |= step.awaits_conditions;
        step.condition_cost = budget.spent();
        step
    }

    /// Decides about the event itself. A notification of another flow's task is decided as far as the limits allow.
    fn decide_event(
        &self,
        now: Timestamp,
        event: &Event,
        (limits, budget): (StepLimits, &ConditionBudget),
        step: &mut Step,
    ) -> Vec<Record> {
        match event {
            Event::Notify { task, result, .. } => {
                self.decide_notify(now, task, result, (event, budget)).unwrap_or_else(|refusal| {
                    step.refusal = Some(refusal);
                    Vec::new()
                })
            }
            Event::TaskNotification { notification, part } => {
                let limits = PartLimits::of(*part, limits.bytes);
                let (records, rest) = self.decide_task_notification(now, notification, *part, limits);
                step.rest = rest;
                records
            }
            Event::Start
            | Event::Signal(_)
            | Event::Cancel
            | Event::Suspend
            | Event::Abandon
            | Event::Resume
            | Event::Leased { .. }
            | Event::Lost { .. }
            | Event::LostDelivery { .. }
            | Event::Retry
            | Event::Skip { .. }
            | Event::Fetched { .. }
            | Event::Remembered { .. }
            | Event::Withdrawn { .. }
            | Event::Edit { .. }
            | Event::ClockSet { .. }
            | Event::Tick => self.decide_unbounded(now, event, budget),
        }
    }

    /// Applies decided records. Of starts, and of lists that tasks have read, it applies as many as the step may have bytes, and at least
    /// one. Returns whether the rest is left out: each of these records stands for itself and is decided again, as few others are.
    fn evolve_within(&mut self, records: Vec<Record>, is_tick: bool, limits: StepLimits, step: &mut Step) -> bool {
        let stands_alone = |record: &Record| {
            matches!(record.fact, Fact::Expanded { .. } | Fact::Started { action: Action::Apply, .. })
        };
        let may_be_cut = is_tick && records.iter().all(stands_alone);
        let mut records = records.into_iter();
        for record in records.by_ref() {
            step.ended_attempts.extend(self.ended_attempt(&record));
            step.unanswered_calls.extend(self.unanswered_call(&record));
            step.schedule_delays.extend(self.schedule_delay(&record));
            let evolved = self.evolve(&record);
            let commands = evolved.unwrap_or_else(|error| panic!("the machine accepts what it decided: {error}"));
            step.add(record, commands);
            if may_be_cut && step.bytes >= limits.bytes {
                break;
            }
        }
        records.len() > 0
    }

    /// Decides how a clock change affects the run. The driver reports the change, or the time of the last record shows it. A
    /// driver that was not running cannot know the size of the change: then started waits begin again, and no wait becomes
    /// longer than intended.
    fn decide_clock(&self, now: Timestamp, event: &Event) -> Option<Record> {
        let by = if let Event::ClockSet { by } = event {
            Some(*by)
        } else {
            ClockShift::between(self.latest, now).filter(|by| by.back().is_some())
        };
        let has_timer = self.triggers.as_ref().is_some_and(TriggerState::has_timer)
            || self.firings.values().any(FiringMachine::has_timer);
        let has_started = self.state() != RunState::Pending;
        let by = by.filter(|_| has_timer && has_started && !self.state().is_final())?;
        Some(Record { at: now, firing: None, fact: Fact::ClockSet { by } })
    }

    /// The time at which to send [`Event::Tick`] if no other event arrives first.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        if self.triggers.as_ref().is_some_and(|trigger_state| trigger_state.state != RunState::Running) {
            return None;
        }
        let due_times = self.firings.values().filter_map(FiringMachine::next_due);
        due_times.chain(self.triggers.iter().filter_map(TriggerState::next_due)).min()
    }
}

fn tasks_of(flow: &Flow) -> Arc<BTreeMap<NodeName, NodeIndex>> {
    let is_task =
        |index: &NodeIndex| matches!(flow.node(*index).role, Role::Task(_) | Role::Wait(_) | Role::ForEach(_));
    Arc::new(flow.indices().filter(is_task).map(|index| (flow.node(index).name.clone(), index)).collect())
}
