//! The state machine of a run: a plain value without I/O, the same for live work and for recovery.
//!
//! [`Machine::decide`] turns an event into records, [`Machine::evolve`] applies one durable record, and nothing else changes
//! the machine. The cost of an event depends on what it changes, never on the size of the flow: each node counts the
//! neighbours it still waits for, and the machine looks only at nodes whose count reaches zero.
//!
//! Reading order: this file, `firing.rs` (one firing of the flow; most runs have only one), `triggers.rs` (runs that fire
//! more than once), `edits.rs` (flows that are changed), `snapshot.rs` (a machine without its history).

mod edits;
mod triggers;
mod notifications;
mod firing;
mod snapshot;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    CallId, Change, ClockShift, Command, Event, Fact, Failures, Firing, Flow, NodeIndex, NodeName, Record, Revision,
    Role, RunId, RunState, State, TaskResult, Timestamp, Values, WorkerName,
};
pub use firing::for_each::{Expansion, collect_results, elements};
pub use firing::node::{Intention, NodeRun, NodeState};
use firing::{FiringMachine, FiringStart};
pub use notifications::NotificationKeys;
pub use snapshot::{FiringSnapshot, IllegalSnapshot, Snapshot};
pub use triggers::{Backlog, NextFiring, PendingTrigger, QueuedFiring, SkipCount, TriggerState};

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
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it says nothing".into())
}

/// The result of one event: records to store, and commands to execute afterwards.
#[derive(Debug, Default)]
pub struct Step {
    /// Records to append to the logbook, in this order, before any command is sent.
    pub records: Vec<Record>,
    /// Commands to execute once the records are durable, in this order.
    pub commands: Vec<Command>,
    /// Whether more records may follow at this time: then the caller sends [`Event::Tick`] after other runs had their turn.
    pub is_unfinished: bool,
}

/// The maximum number of records of one step; only its last decision may exceed it. At some microseconds a record, other
/// runs wait for a few milliseconds.
pub const MAX_STEP_RECORDS: usize = 512;

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
    firings: BTreeMap<Firing, FiringMachine>,
    /// The additional state of a run that fires more than once.
    triggers: Option<TriggerState>,
    /// The keys of the notifications that the run has received.
    notifications: NotificationKeys,
    /// The time of the last record: a clock that shows an earlier time was set back.
    latest: Timestamp,
}

impl Machine {
    /// Creates the machine of a run without records. [`Event::Start`] starts the run.
    #[must_use]
    pub fn new(run: RunId, flow: Arc<Flow>) -> Self {
        let tasks = tasks_of(&flow);
        let life = flow.triggers.as_ref().map(|living| TriggerState::new(living.schedules.len()));
        let (revision, passes, latest) = (Revision::FIRST, BTreeMap::new(), Timestamp::default());
        Self {
            run,
            flow,
            tasks,
            revision,
            firings: passes,
            triggers: life,
            notifications: NotificationKeys::default(),
            latest,
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
        if let Event::Notify { task, result: answer, .. } = event {
            return self.decide_notify(now, task, answer, event);
        }
        self.decide_other(now, event)
    }

    fn decide_other(&self, now: Timestamp, event: &Event) -> Vec<Record> {
        let about_the_run = |fact| vec![Record { at: now, firing: None, fact }];
        match (&self.triggers, self.single_firing(), event) {
            (_, None, Event::Start) if self.state() == RunState::Pending => {
                about_the_run(Fact::RunStarted { flow: self.flow.clone(), revision: self.revision })
            }
            (_, Some(_), Event::Edit { revision, flow }) | (Some(_), None, Event::Edit { revision, flow }) => {
                self.decide_edit(*revision, flow).map(about_the_run).unwrap_or_default()
            }
            (None, Some(pass), Event::TaskNotification(heard)) => {
                let facts = pass.decide_task_notification(heard).into_iter();
                facts.map(|fact| Record { at: now, firing: None, fact }).collect()
            }
            (None, Some(pass), event) => {
                let about = |fact| Record { at: now, firing: None, fact };
                pass.decide(now, event).into_iter().map(about).collect()
            }
            (Some(life), _, event) => self.decide_triggers(life, now, event),
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
        let node = record.fact.node().map(|node| {
            let of_pass = record.firing.unwrap_or(Firing::FIRST);
            let flow = self.firings.get(&of_pass).map_or(&self.flow, |pass| &pass.flow);
            match flow.nodes.get(node.0 as usize) {
                Some(known) => format!(" of {:?}", known.name),
                None => format!(" of node {}, which the flow does not have", node.0),
            }
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
            (Fact::RunStarted { flow, revision }, None) => {
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
            (fact, None) => match self.firings.get_mut(&Firing::FIRST) {
                Some(pass) => pass.evolve(*at, fact),
                None => Err("the run has no pass".into()),
            },
        }
    }

    fn start(&mut self, at: Timestamp) -> Vec<Command> {
        if self.triggers.is_some() {
            return self.start_triggers(at);
        }
        let mut pass = self.new_firing(FiringStart::single());
        pass.begin(at);
        self.firings.insert(Firing::FIRST, pass);
        vec![Command::Publish(Change::Run { state: RunState::Running, at })]
    }

    fn new_firing(&self, beginning: FiringStart) -> FiringMachine {
        FiringMachine::new(self.run.clone(), self.flow.clone(), self.tasks.clone(), beginning)
    }

    /// The firing of a run that fires once.
    fn single_firing(&self) -> Option<&FiringMachine> {
        if self.triggers.is_some() { None } else { self.firings.get(&Firing::FIRST) }
    }

    /// Decides an event and continues until nothing more follows at this time, or until [`MAX_STEP_RECORDS`] records.
    ///
    /// The machine is ahead of the logbook until the records are appended: if the append fails, drop the machine and replay.
    ///
    /// # Panics
    /// When the machine refuses its own decision, which is a bug.
    pub fn step(&mut self, now: Timestamp, event: &Event) -> Step {
        self.step_within(now, event, MAX_STEP_RECORDS)
    }

    /// Like [`Machine::step`], with a given maximum: once there are `most` records, no further decision follows.
    ///
    /// # Panics
    /// When the machine refuses its own decision, which is a bug.
    pub fn step_within(&mut self, now: Timestamp, event: &Event, most: usize) -> Step {
        let mut step = Step::default();
        if let Some(record) = self.decide_clock(now, event) {
            step.commands.extend(self.evolve(&record).expect("a clock may be set at any time"));
            step.records.push(record);
        }
        let mut records = self.decide(now, event);
        if records.is_empty() && !step.records.is_empty() {
            // Something may be due by the new clock.
            records = self.decide(now, &Event::Tick);
        }
        while !records.is_empty() {
            for record in &records {
                let evolved = self.evolve(record);
                let commands =
                    evolved.unwrap_or_else(|refused| panic!("the machine accepts what it decided: {refused}"));
                step.commands.extend(commands);
            }
            step.records.append(&mut records);
            if step.records.len() >= most && !self.firings.values().any(FiringMachine::has_missing_input) {
                step.is_unfinished = !self.state().is_final();
                break;
            }
            records = self.decide(now, &Event::Tick);
        }
        step
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
        let is_timed = self.triggers.as_ref().is_some_and(TriggerState::has_timer)
            || self.firings.values().any(FiringMachine::has_timer);
        let has_begun = self.state() != RunState::Pending;
        let by = by.filter(|_| is_timed && has_begun && !self.state().is_final())?;
        Some(Record { at: now, firing: None, fact: Fact::ClockSet { by } })
    }

    /// The time at which to send [`Event::Tick`] if no other event arrives first.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        if self.triggers.as_ref().is_some_and(|life| life.state != RunState::Running) {
            return None;
        }
        let of_passes = self.firings.values().filter_map(FiringMachine::next_due);
        of_passes.chain(self.triggers.iter().filter_map(TriggerState::next_due)).min()
    }

    /// The id of the run.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The flow that the run executes.
    #[must_use]
    pub fn flow(&self) -> &Arc<Flow> {
        &self.flow
    }

    /// The current revision of the flow.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The state of the run.
    #[must_use]
    pub fn state(&self) -> RunState {
        match &self.triggers {
            Some(life) => life.state,
            None => self.single_firing().map_or(RunState::Pending, |pass| pass.state),
        }
    }

    /// The number of firings so far: the number of the last firing, or 0 before the first.
    #[must_use]
    pub fn firing_count(&self) -> u64 {
        self.triggers.as_ref().map_or(u64::from(!self.firings.is_empty()), |life| life.firing_count)
    }

    /// The firings that are under way or need a person, each with its state.
    pub fn firings(&self) -> impl Iterator<Item = (Firing, RunState)> {
        self.firings.iter().map(|(firing, pass)| (*firing, pass.state))
    }

    /// The failure of every node that failed in the last firing. Where both apply and rollback failed, this is the
    /// rollback's failure; [`Machine::apply_failure`] has the other.
    #[must_use]
    pub fn failures(&self) -> &Failures {
        static NONE: Failures = Failures::new();
        match &self.triggers {
            Some(life) => &life.failures,
            None => self.single_firing().map_or(&NONE, |pass| &pass.failures),
        }
    }

    /// The failure of an apply whose rollback failed too.
    #[must_use]
    pub fn apply_failure(&self, name: &NodeName) -> Option<&crate::Failure> {
        self.firings.values().rev().find_map(|pass| pass.apply_failure(pass.index_of(name)?))
    }

    /// Explains to people why the machine would refuse a notification of a task now; `None` when the task waits for it.
    #[must_use]
    pub fn notification_error(&self, task: &NodeName, answer: &TaskResult) -> Option<String> {
        let Some(index) = self.tasks.get(task).copied() else { return Some(format!("the run has no task {task:?}")) };
        if let Role::Wait(wait) = &self.flow.node(index).role {
            let waiting = self.firings.values().find(|pass| pass.waiting_tasks.contains(&index));
            return match waiting.or_else(|| self.firings.values().next_back()) {
                Some(pass) => pass.refuses(index, wait, answer),
                None => Some(format!("task {task:?} is pending, and does not wait now")),
            };
        }
        self.refuses_firing(index, answer)
    }

    /// The task with a name. Look tasks up by name: an edit may have changed the index since a call was dispatched.
    #[must_use]
    pub fn task(&self, name: &NodeName) -> Option<&crate::Task> {
        let index = *self.tasks.get(&name.base())?;
        self.flow.task_called(index).or_else(|| self.flow.for_each(index).map(|each| &each.task))
    }

    /// The name of a node and the task that it calls, list elements included; `None` for a node without a guest call.
    #[must_use]
    pub fn call_of(&self, firing: Option<Firing>, index: NodeIndex) -> Option<(&NodeName, &crate::Task)> {
        let pass = self.firings.get(&firing.unwrap_or(Firing::FIRST))?;
        Some((&pass.flow.nodes.get(index.0 as usize)?.name, pass.flow.task_called(index)?))
    }

    /// The number of elements of a `for_each` task, and how many of them succeeded; `None` before its list is known, and for
    /// a task that is called once.
    #[must_use]
    pub fn progress(&self, index: NodeIndex) -> Option<(usize, usize)> {
        self.firings.values().rev().find_map(|pass| pass.progress(index))
    }

    /// The flow of each firing, including the list elements of its tasks.
    #[cfg(test)]
    fn expanded_flows(&self) -> impl Iterator<Item = (Firing, Arc<Flow>)> {
        self.firings.iter().map(|(firing, pass)| (*firing, pass.flow.clone()))
    }

    /// The number of nodes and list elements, with or without a node yet: the cost of a snapshot of the machine.
    #[must_use]
    pub fn size(&self) -> usize {
        let of_elements = |pass: &FiringMachine| pass.nodes.len() - self.flow.nodes.len() + pass.elements_ahead();
        self.flow.nodes.len() + self.firings.values().map(of_elements).sum::<usize>()
    }

    /// The tasks that wait for a notification, each with its deadline if it has one.
    pub fn waiting_tasks(&self) -> impl Iterator<Item = (NodeIndex, Option<Timestamp>)> + use<'_> {
        self.firings.values().flat_map(FiringMachine::expected)
    }

    /// The calls that are dispatched to workers and not answered.
    pub fn outstanding_calls(&self) -> impl Iterator<Item = CallId> + use<'_> {
        self.firings.values().flat_map(FiringMachine::calls_out)
    }

    /// The time since when a call is with the workers; `None` when it is not.
    #[must_use]
    pub fn outstanding_since(&self, call: &CallId) -> Option<Timestamp> {
        self.firings.get(&call.firing)?.out_since(call)
    }

    /// The commands that are still unanswered: a restarted engine sends them again. Calls under a lease are not included:
    /// their worker sends heartbeats, or the lease expires.
    #[must_use]
    pub fn pending(&self) -> Vec<Command> {
        self.firings.values().flat_map(FiringMachine::pending).collect()
    }

    /// The calls under a lease, each with its worker: dispatched calls, and calls whose answer no longer matters.
    pub fn leased_calls(&self) -> impl Iterator<Item = (CallId, WorkerName)> + use<'_> {
        self.firings.values().flat_map(FiringMachine::leased)
    }

    /// Whether a worker holds a recorded lease on a call.
    #[must_use]
    pub fn has_lease(&self, call: &CallId, worker: &WorkerName) -> bool {
        self.firings.get(&call.firing).is_some_and(|pass| pass.holds(call, worker))
    }

    /// The dispatched calls that the run no longer needs and that no worker has reported as started: the engine withdraws
    /// them, unless a worker reports one as started.
    pub fn withdrawable_calls(&self) -> impl Iterator<Item = CallId> + use<'_> {
        self.firings.values().flat_map(FiringMachine::withdrawable)
    }

    /// Whether a call is with the workers and still needed: it is neither answered nor lost, and the run is not about to
    /// roll it back.
    #[must_use]
    pub fn is_wanted(&self, call: &CallId) -> bool {
        self.firings.get(&call.firing).is_some_and(|pass| pass.wants(call))
    }

    /// Whether a worker that has the job of a call may start it. It may not when the call was answered, withdrawn or given
    /// up, or is about to be, or when it waited longer than its task allows. In a suspended run no call starts: the run
    /// sends its dispatched calls again when it resumes.
    #[must_use]
    pub fn may_start(&self, now: Timestamp, call: &CallId) -> bool {
        match self.firings.get(&call.firing) {
            Some(pass) if pass.knows(call) => self.state() != RunState::Suspended && pass.may_call(now, call),
            Some(_) => true,
            None => call.firing.get() > self.firing_count(),
        }
    }

    /// All current values: the inputs, and the values of nodes in success, failure or rolling-back.
    #[must_use]
    pub fn values(&self) -> Values {
        let mut values = self.flow.inputs.clone();
        values.extend(self.provided());
        values
    }

    /// The values of nodes in success, failure or rolling-back.
    #[must_use]
    pub fn provided(&self) -> Values {
        let mut values = Values::new();
        let mut add =
            |provided: &Values| values.extend(provided.iter().map(|(name, value)| (name.clone(), value.clone())));
        if let Some(life) = &self.triggers {
            life.latest_values.values().for_each(&mut add);
        }
        self.firings.values().flat_map(FiringMachine::values).for_each(|(_, provided)| add(provided));
        values
    }

    /// The published state of a node; in a run that fires more than once, its state in the last firing that contains it.
    #[must_use]
    pub fn node_state(&self, index: NodeIndex) -> State {
        match self.firings.values().rev().find(|pass| pass.has(index)) {
            Some(pass) => pass.node_state(index),
            None => {
                self.triggers.as_ref().and_then(|life| life.last_states.get(&index)).copied().unwrap_or(State::Pending)
            }
        }
    }
}

fn tasks_of(flow: &Flow) -> Arc<BTreeMap<NodeName, NodeIndex>> {
    let is_task =
        |index: &NodeIndex| matches!(flow.node(*index).role, Role::Task(_) | Role::Wait(_) | Role::ForEach(_));
    Arc::new(flow.indices().filter(is_task).map(|index| (flow.node(index).name.clone(), index)).collect())
}
