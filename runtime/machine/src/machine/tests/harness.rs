//! A test harness for one machine: guests that answer at once, in an order the test chooses, and a clock that jumps.

mod graph;
mod guests;
mod invariants;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    Call, Change, Command, EndedAttempt, Event, Fact, FetchResult, FetchTarget, MAX_STEP_RECORDS, Machine, NodeChange,
    Record, StepLimits, UnansweredCall, ValueFetch,
};
use flow::{
    Action, CallId, Digest, Edit, Execution, Failure, FailureKind, Firing, Flow, FlowSource, Json, NodeName, RunId,
    RunLimits, RunState, Signal, State, TaskResult, Timestamp, Value, ValueName, Values,
};

pub(super) use graph::Graph;
use guests::guest;

use super::super::firing::FiringStart;
pub(super) use guests::modules;

/// Wires a flow; the text needs no `[modules]`.
pub(super) fn flow(text: &str) -> Arc<Flow> {
    let text = format!("name = \"f\"\n{text}\n[modules]\ng = \"g.wasm\"\n");
    let draft = flow::file::parse(&text).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}"));
    let (flow, _) =
        flow::wire(&draft, &modules(), &Values::new()).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}"));
    let modules = [("g".into(), Digest::from_bytes([1; 32]))].into();
    // So few that tests reach it: 500 wait while one is under way.
    let limits = RunLimits { firings: 501, ..RunLimits::default() };
    let origin = Some(Arc::new(FlowSource { text: text.into(), modules, edits: Vec::new() }));
    Arc::new(Flow { origin, limits, ..flow })
}

/// A machine, its history so far, and its dispatched calls.
pub(super) struct Harness {
    pub(super) machine: Machine,
    pub(super) records: Vec<Record>,
    pub(super) ended: Vec<EndedAttempt>,
    pub(super) unanswered: Vec<UnansweredCall>,
    /// How late schedules fired.
    pub(super) delays: Vec<Duration>,
    pub(super) published: Vec<NodeChange>,
    pub(super) outstanding: Vec<Call>,
    /// The outstanding fetches.
    pub(super) fetches: Vec<ValueFetch>,
    /// The graphs of its firings.
    graphs: BTreeMap<Firing, Graph>,
    /// Calls that the run no longer needed after an earlier step.
    unwanted: BTreeSet<CallId>,
    /// Calls whose workers were lost: each may have been executed, and may still be answered.
    pub(super) lost: Vec<Call>,
    /// Answered calls whose jobs may be delivered once more.
    pub(super) redeliverable: Vec<Call>,
    /// The actual effects of the guests, in order.
    pub(super) done: Vec<(NodeName, Action)>,
    pub(super) now: Timestamp,
    /// The limits of each step. If they are below the default for conditions, only ticks evaluate conditions, as in an engine.
    limits: StepLimits,
    /// Whether more records follow from the last event.
    pub(super) is_unfinished: bool,
    /// Whether other events may come in between.
    pub(super) interrupts: bool,
    answered: Vec<Signal>,
    /// The results of past fetches; a repeated fetch has the same result.
    fetched: Vec<Event>,
    executions: u64,
}

impl Harness {
    pub(super) fn start(flow: Arc<Flow>) -> Self {
        let mut harness = Self::new(flow);
        harness.step(&Event::Start);
        harness
    }

    /// Starts a run whose steps are limited to this many records, so that other events come in between.
    pub(super) fn start_in_steps_of(records: usize, flow: Arc<Flow>) -> Self {
        Self::start_within(StepLimits { records, ..StepLimits::default() }, flow)
    }

    /// Starts a run whose steps have these limits, so that other events come in between.
    pub(super) fn start_within(limits: StepLimits, flow: Arc<Flow>) -> Self {
        let mut harness = Self { limits, interrupts: true, ..Self::new(flow) };
        harness.step(&Event::Start);
        harness
    }

    fn new(flow: Arc<Flow>) -> Self {
        let machine = Machine::new(RunId::new("r").unwrap(), flow);
        let now = Timestamp::from_micros(1_000_000);
        Self {
            machine,
            records: Vec::new(),
            ended: Vec::new(),
            unanswered: Vec::new(),
            delays: Vec::new(),
            published: Vec::new(),
            outstanding: Vec::new(),
            fetches: Vec::new(),
            graphs: BTreeMap::new(),
            unwanted: BTreeSet::new(),
            lost: Vec::new(),
            executions: 0,
            redeliverable: Vec::new(),
            done: Vec::new(),
            now,
            limits: StepLimits::default(),
            is_unfinished: false,
            interrupts: false,
            answered: Vec::new(),
            fetched: Vec::new(),
        }
    }

    /// Sends one event, and continues with what follows from it, unless other events may come in between.
    pub(super) fn step(&mut self, event: &Event) {
        self.step_once(event);
        while self.is_unfinished && !self.interrupts {
            self.step_once(&Event::Tick);
        }
    }

    /// Executes one step; then checks the invariants.
    pub(super) fn step_once(&mut self, event: &Event) {
        let waits_for_turn = self.limits.conditions < StepLimits::default().conditions && *event != Event::Tick;
        let limits = if waits_for_turn { StepLimits { conditions: 0, ..self.limits } } else { self.limits };
        let step = self.machine.step_within(self.now, event, limits);
        assert!(step.records.len() < limits.records + MAX_STEP_RECORDS, "a step is bounded");
        assert!(limits.conditions > 0 || step.condition_cost == 0, "no condition is evaluated without a budget");
        assert!(step.is_unfinished || !step.awaits_conditions);
        if !step.records.is_empty() || *event == Event::Tick {
            // An event without effect does not change whether more follows from the previous event.
            self.is_unfinished = step.is_unfinished;
        }
        self.records.extend(step.records);
        self.ended.extend(step.ended_attempts);
        self.unanswered.extend(step.unanswered_calls);
        self.delays.extend(step.schedule_delays);
        for command in step.commands {
            match command {
                Command::Call(call) => self.outstanding.push(*call),
                Command::Fetch(fetch) => self.fetches.push(*fetch),
                Command::Interrupt(_) | Command::Publish(Change::Run { .. } | Change::Firing { .. }) => {}
                Command::Publish(Change::Node(change)) => {
                    self.assert_one_number_per_rollback(&change);
                    self.published.push(change);
                }
            }
        }
        // An expired call may still have been taken by a worker, and is answered late.
        let out: BTreeSet<CallId> = self.machine.outstanding_calls().collect();
        let (out, expired) =
            std::mem::take(&mut self.outstanding).into_iter().partition(|call: &Call| out.contains(&call.id));
        self.outstanding = out;
        self.lost.extend::<Vec<Call>>(expired);
        self.graphs.extend(self.machine.firings.iter().map(|(number, firing)| (*number, Graph::of(firing))));
        self.assert_replay_equals_live();
        self.assert_snapshot_restores();
        self.assert_pending_equals_outstanding();
        self.assert_no_call_is_wanted_again();
        self.assert_old_event_is_ignored();
    }

    /// Answers the dispatched call at an index, as its guest would.
    pub(super) fn answer(&mut self, index: usize) {
        let call = self.outstanding.remove(index);
        if self.delivers_twice() {
            self.redeliverable.push(call.clone());
        }
        self.answer_call(call);
    }

    /// Ends the dispatched call at an index with the result that its guest would give, which another run has computed. For one in
    /// two the job was sent anyway, and is answered late. Returns whether it had an effect.
    pub(super) fn remember(&mut self, index: usize) -> bool {
        let call = self.outstanding[index].clone();
        let TaskResult::Succeeded(values) = guest(&self.machine, &call) else { return false };
        let computed_by = CallId { run: RunId::new("earlier").unwrap(), ..call.id.clone() };
        let event = Event::Remembered { call: call.id.clone(), values, computed_by };
        if self.machine.decide(self.now, &event).is_empty() {
            return false;
        }
        self.outstanding.remove(index);
        if self.executions % 2 == 1 {
            self.lost.push(call);
        }
        self.step(&event);
        assert_eq!(self.machine.decide(self.now, &event), [], "it counts once");
        true
    }

    /// Answers a call whose worker was considered lost.
    pub(super) fn answer_late(&mut self, index: usize) {
        let call = self.lost.remove(index);
        self.answer_call(call);
    }

    /// Executes an answered call again, since its job was delivered twice.
    pub(super) fn redeliver(&mut self, index: usize) {
        let call = self.redeliverable.remove(index);
        self.answer_call(call);
    }

    /// Completes a fetch; lists from the store have two elements.
    pub(super) fn complete_fetch(&mut self, index: usize) {
        match &self.fetches[index].target {
            FetchTarget::List { .. } => self.complete_list_fetch(index, &["0", "1"]),
            FetchTarget::Results(results) => {
                let list = |name: &ValueName| (name.clone(), Value::Json(Json::parse("[]").unwrap()));
                let results = results.keys().map(list).collect();
                let fetch = self.fetches.remove(index);
                self.on_fetched(fetch.id, FetchResult::Results(Ok(results)));
            }
        }
    }

    /// Completes a fetch with a list of these elements.
    pub(super) fn complete_list_fetch(&mut self, index: usize, elements: &[&str]) {
        let list = elements.iter().map(|element| Json::parse(*element).unwrap()).collect();
        let fetch = self.fetches.remove(index);
        self.on_fetched(fetch.id, FetchResult::List(Ok(list)));
    }

    /// Fails a fetch.
    pub(super) fn fail_fetch(&mut self, index: usize) {
        let ValueFetch { id, target } = self.fetches.remove(index);
        let failure = Failure::new(FailureKind::Permanent, "it is gone");
        let result = match target {
            FetchTarget::List { .. } => FetchResult::List(Err(failure)),
            FetchTarget::Results(_) => FetchResult::Results(Err(failure)),
        };
        self.on_fetched(id, result);
    }

    fn on_fetched(&mut self, id: CallId, result: FetchResult) {
        let event = Event::Fetched { id, result };
        self.step(&event);
        // A repeated fetch is answered twice, and the second time the value may be gone.
        let Event::Fetched { id, result } = &event else { return };
        let failure = Failure::new(FailureKind::Permanent, "it is gone");
        let missing = match result {
            FetchResult::List(_) => FetchResult::List(Err(failure)),
            FetchResult::Results(_) => FetchResult::Results(Err(failure)),
        };
        self.fetched.push(Event::Fetched { id: id.clone(), result: missing });
        self.fetched.push(event);
    }

    /// The graph of a firing as it was last. A firing that began and ended within one step had no list elements.
    pub(super) fn graph_of(&self, firing: Option<Firing>) -> Graph {
        let known = self.graphs.get(&firing.unwrap_or(Firing::FIRST)).cloned();
        known.unwrap_or_else(|| Graph::of(&self.machine.new_firing(FiringStart::single())))
    }

    /// Loses the worker of a call.
    pub(super) fn lose(&mut self, index: usize) {
        let call = self.outstanding.remove(index);
        self.lost.push(call.clone());
        self.step(&Event::Lost { call: call.id, worker: "w".parse().unwrap() });
    }

    /// Withdraws the first call from an index on that is no longer needed and that no worker has reported as started. One in
    /// two was started anyway, and is answered late.
    pub(super) fn withdraw(&mut self, index: usize) {
        let withdrawable: BTreeSet<CallId> = self.machine.withdrawable_calls().collect();
        let is_withdrawable = |call: &Call| withdrawable.contains(&call.id);
        let Some(offset) = self.outstanding[index..].iter().position(is_withdrawable) else { return };
        let call = self.outstanding.remove(index + offset);
        if self.executions % 2 == 1 {
            self.lost.push(call.clone());
        }
        let event = Event::Withdrawn { call: call.id };
        self.step(&event);
        assert_eq!(self.machine.decide(self.now, &event), []);
    }

    /// Puts a call under a lease.
    pub(super) fn lease(&mut self, index: usize) {
        let worker = "w".parse().unwrap();
        self.step(&Event::Leased { call: self.outstanding[index].id.clone(), worker });
    }

    /// Whether an apply is delivered twice: one in eight, by its number.
    fn delivers_twice(&self) -> bool {
        self.executions % 8 == 3
    }

    fn answer_call(&mut self, call: Call) {
        self.now = self.now.after(Duration::from_millis(1));
        let result = guest(&self.machine, &call);
        if matches!(result, TaskResult::Succeeded(_)) {
            self.done.push((call.id.task.clone(), call.action()));
        }
        self.executions += 1;
        let execution = Execution::new(self.executions);
        let signal =
            Signal { call: call.id, answer: result, execution, redelivered: false, worker: Some("w".parse().unwrap()) };
        self.step(&Event::Signal(signal.clone()));
        self.answered.push(signal);
    }

    /// Notifies a waiting task: it succeeds with these values, in JSON by name.
    pub(super) fn notify(&mut self, task: &str, values: &[(&str, &str)]) {
        let value = |json: &str| Value::Json(flow::Json::parse(json).unwrap());
        let values = values.iter().map(|(name, json)| (name.parse().unwrap(), value(json))).collect();
        self.step(&Event::Notify { task: name(task), result: TaskResult::Succeeded(values), key: None });
    }

    /// Edits the flow; returns the reasons when the edit is invalid.
    pub(super) fn edit(&mut self, edits: &[Edit]) -> Result<(), Vec<String>> {
        let (origin, draft) = self.machine.plan(edits)?;
        let messages = |diagnostics: Vec<flow::Diagnostic>| -> Vec<String> {
            diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect()
        };
        let (flow, _) = flow::wire(&draft, &modules(), &self.machine.flow().inputs).map_err(messages)?;
        let flow = Flow { origin: Some(Arc::new(origin)), limits: self.machine.flow().limits, ..flow };
        let reasons = self.machine.edit_errors(&flow);
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let revision = self.machine.revision();
        self.step(&Event::Edit { revision, flow: Arc::new(flow) });
        assert_eq!(self.machine.revision(), revision.next());
        Ok(())
    }

    /// Advances the time to the next due event.
    pub(super) fn advance_to_next_due(&mut self) {
        let due = self.machine.next_due().expect("something is due");
        self.now = self.now.max(due);
        self.step(&Event::Tick);
    }

    /// Answers calls in order of arrival, and advances the time where the run only waits for time.
    pub(super) fn run(&mut self) {
        while !self.machine.state().is_final() {
            self.step_or_advance();
        }
        assert!(self.outstanding.is_empty(), "a run that has ended has no outstanding call");
    }

    /// Answers one call, if one is dispatched.
    pub(super) fn answer_one(&mut self) {
        if !self.outstanding.is_empty() {
            self.answer(0);
        }
    }

    /// Answers one call, or advances the time.
    pub(super) fn step_or_advance(&mut self) {
        if self.is_unfinished {
            self.step(&Event::Tick);
        } else if !self.fetches.is_empty() {
            self.complete_fetch(0);
        } else if self.outstanding.is_empty() {
            self.advance_to_next_due();
        } else {
            self.answer(0);
        }
    }

    /// The published changes, in short: `t1:R t1:S(5)`.
    pub(super) fn trace(&self) -> String {
        self.published.iter().map(short).collect::<Vec<_>>().join(" ")
    }

    /// The values at the end, in short: `x=2 y=2`.
    pub(super) fn values(&self) -> String {
        let values = self.machine.values();
        values.iter().map(|(name, value)| format!("{name}={value:?}")).collect::<Vec<_>>().join(" ")
    }

    /// Every answer so far.
    pub(super) fn answered(&self) -> &[Signal] {
        &self.answered
    }

    pub(super) fn state(&self) -> RunState {
        self.machine.state()
    }
}

fn short(change: &NodeChange) -> String {
    let initials = change.state.as_str().split('-').filter_map(|word| word.chars().next());
    let state = if change.state == State::RolledBack {
        "RD".to_owned()
    } else if change.state == State::Retrying {
        "RT".to_owned()
    } else {
        initials.collect::<String>().to_uppercase()
    };
    let value = change.provides.as_ref().and_then(|provides| provides.values().next());
    let value = value.map(|value| format!("({value:?})")).unwrap_or_default();
    format!("{}:{state}{value}", change.name)
}

/// The applied and the rolled-back tasks, computed from the records alone.
pub(super) fn applied_and_rolled_back(records: &[Record]) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let (mut applied, mut rolled_back) = (BTreeSet::new(), BTreeSet::new());
    for record in records {
        match &record.fact {
            Fact::Succeeded { attempt, .. } | Fact::Remembered { attempt, .. } => {
                applied.insert(attempt.node.0);
                rolled_back.remove(&attempt.node.0);
            }
            Fact::RolledBack { attempt, .. } => {
                rolled_back.insert(attempt.node.0);
            }
            Fact::RollbackNotNeeded { node } => {
                rolled_back.insert(node.0);
            }
            Fact::RunStarted { .. }
            | Fact::Started { .. }
            | Fact::Failed { .. }
            | Fact::Expanded { .. }
            | Fact::Leased { .. }
            | Fact::Lost { .. }
            | Fact::LateOutcome { .. }
            | Fact::RollbackFailed { .. }
            | Fact::RollbackRetried { .. }
            | Fact::RollbackSkipped { .. }
            | Fact::Reset
            | Fact::FailureResolved { .. }
            | Fact::ControllerRan { .. }
            | Fact::StartFailed { .. }
            | Fact::Ignored { .. }
            | Fact::ScopeStarted { .. }
            | Fact::Delayed { .. }
            | Fact::Triggered { .. }
            | Fact::BackEdgeSkipped { .. }
            | Fact::Scheduled { .. }
            | Fact::TriggerSkipped { .. }
            | Fact::BacklogAdded { .. }
            | Fact::BacklogFired { .. }
            | Fact::ClockSet { .. }
            | Fact::NotificationReceived { .. }
            | Fact::Expired
            | Fact::Edited { .. }
            | Fact::Retrying { .. }
            | Fact::CancelRequested
            | Fact::SuspendRequested
            | Fact::Resumed
            | Fact::RunStateChanged { .. } => {}
        }
    }
    (applied, rolled_back)
}

/// Parses a node name.
pub(super) fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}
