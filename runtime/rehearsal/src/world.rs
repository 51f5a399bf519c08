//! One run of a flow without guests: the machine, the calls that it makes, and a clock that jumps to the next time it waits for.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use flow::{
    Action, CallId, Execution, Failure, FailureKind, Firing, Flow, Json, NodeIndex, NodeName, RunId, RunState, Signal,
    TaskResult, Timestamp, Value, ValueName, Values, graph::Role,
};
use machine::{Call, Command, Event, FetchResult, FetchTarget, Machine, ValueFetch, collect_results};

use crate::{
    Limits, Stubs,
    history::History,
    injection::{self, FailingElements, Injection, Tries},
    rehearse::Cases,
};

/// The maximum number of firings that follow one another from one trigger; a cycle may fire for ever.
pub(crate) const MAX_FIRINGS: u64 = 3;

/// The maximum number of steps of a case. A step is a record of the machine, or what takes as long: some microseconds. A list may have a
/// million elements. Small in tests, so that they reach it.
pub(crate) const MAX_STEPS: usize = if cfg!(test) { 10_000 } else { 100_000 };

/// The cost of conditions that counts as one step, in the unit of [`flow::EvaluationBudget::MAX_COST`].
const CONDITION_COST_PER_STEP: u64 = 50;

/// The number of firings that cost another step. A run keeps some that have ended.
const FIRINGS_PER_STEP: usize = 32;

/// The number of nodes of a new firing that cost a step.
const NODES_PER_STEP: usize = 16;

/// The id of a rehearsed run. It is a seed of the random part of pauses, so that each rehearsal has the same.
const RUN: &str = "rehearsal";

/// The state that a case starts with.
#[derive(Debug, Clone)]
pub(crate) enum Beginning {
    /// A new run of a flow.
    New(Arc<Flow>),
    /// A recorded run.
    Recorded(Box<Machine>),
}

/// What starts a firing of a persistent flow.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TriggerKind {
    /// A notification of a task.
    Notification(NodeIndex),
    /// The first time of a schedule of a task.
    Schedule(NodeIndex, Timestamp),
}

impl TriggerKind {
    /// The task that it fires.
    pub(crate) const fn entry(self) -> NodeIndex {
        match self {
            Self::Notification(entry) | Self::Schedule(entry, _) => entry,
        }
    }
}

/// One run.
pub(crate) struct World<'r> {
    pub(crate) machine: Machine,
    pub(crate) history: History,
    /// Whether the call of interest was made.
    pub(crate) reached: bool,
    /// Why the run was not continued to its end.
    pub(crate) stopped: Option<String>,
    /// The number of steps so far.
    pub(crate) steps: usize,
    stubs: &'r Stubs,
    injection: &'r Injection,
    /// The tasks and retry controllers, by name.
    index_of: &'r BTreeMap<NodeName, NodeIndex>,
    limits: Limits<'r>,
    now: Timestamp,
    calls: VecDeque<Call>,
    /// The calls of firings after the last one, which are not answered.
    later_calls: Vec<Call>,
    fetches: VecDeque<ValueFetch>,
    interrupted: BTreeSet<CallId>,
    elements: FailingElements,
    /// Whether the state is a recorded one: some elements of a list may have ended already.
    is_recorded: bool,
    /// Failing tasks that have used up their retries.
    settled: BTreeSet<NodeName>,
    is_unfinished: bool,
    executions: u64,
    /// The last firing whose calls are answered.
    last_firing: u64,
    /// The scheduled task that this part is about.
    only: Option<NodeIndex>,
}

impl<'r> World<'r> {
    /// Starts a run, or continues a recorded one.
    pub(crate) fn start(cases: &'r Cases<'r>, injection: &'r Injection) -> Self {
        let Cases { beginning, now, stubs, index_of, limits, .. } = cases;
        let (machine, is_recorded) = match beginning {
            Beginning::New(flow) => {
                let run = RunId::new(RUN).expect("the constant is a name");
                (Machine::new(run, flow.clone()), false)
            }
            Beginning::Recorded(machine) => ((**machine).clone(), true),
        };
        let mut world = Self {
            machine,
            history: History::default(),
            reached: false,
            stopped: None,
            steps: 0,
            stubs,
            injection,
            index_of,
            limits: *limits,
            now: *now,
            calls: VecDeque::new(),
            later_calls: Vec::new(),
            fetches: VecDeque::new(),
            interrupted: BTreeSet::new(),
            elements: FailingElements::default(),
            is_recorded,
            settled: BTreeSet::new(),
            is_unfinished: false,
            executions: 0,
            last_firing: 0,
            only: None,
        };
        if is_recorded {
            world.continue_recorded();
        } else {
            world.step(&Event::Start);
        }
        world.last_firing = world.machine.firing_count().max(1) + MAX_FIRINGS - 1;
        world
    }

    /// Takes over the calls that a recorded run has with the workers.
    fn continue_recorded(&mut self) {
        if matches!(self.machine.state(), RunState::Suspending | RunState::Suspended) {
            self.step(&Event::Resume);
        }
        let known: BTreeSet<CallId> = self.calls.iter().map(|call| call.id.clone()).collect();
        let outstanding = self.machine.outstanding_calls().filter(|id| !known.contains(id));
        let calls: Vec<Call> = outstanding.filter_map(|id| self.machine.outstanding_call(&id)).collect();
        calls.into_iter().for_each(|call| self.take_call(call));
        for command in self.machine.pending() {
            match command {
                Command::Fetch(fetch) if !self.fetches.contains(&fetch) => self.fetches.push_back(*fetch),
                Command::Fetch(_) | Command::Call(_) | Command::Interrupt(_) | Command::Publish(_) => {}
            }
        }
        for (index, _) in self.machine.waiting_tasks().collect::<Vec<_>>() {
            let name = self.machine.flow().node(index).name.clone();
            self.history.applied.insert(name);
        }
        self.step(&Event::Tick);
    }

    /// The same state, for another trigger.
    pub(crate) fn fork(&self, part: usize) -> Self {
        Self {
            machine: self.machine.clone(),
            history: History::of_part(part),
            reached: false,
            stopped: None,
            steps: 0,
            stubs: self.stubs,
            injection: self.injection,
            index_of: self.index_of,
            limits: self.limits,
            now: self.now,
            calls: self.calls.clone(),
            later_calls: self.later_calls.clone(),
            fetches: self.fetches.clone(),
            interrupted: self.interrupted.clone(),
            elements: FailingElements::default(),
            is_recorded: self.is_recorded,
            settled: self.settled.clone(),
            is_unfinished: self.is_unfinished,
            executions: self.executions,
            last_firing: self.last_firing,
            only: None,
        }
    }

    /// Whether the run goes on, and waits for its next trigger.
    pub(crate) fn is_open(&self) -> bool {
        self.stopped.is_none() && self.machine.state() == RunState::Running
    }

    /// Fires a task.
    ///
    /// # Errors
    /// Why the machine refuses it.
    pub(crate) fn fire(&mut self, trigger: TriggerKind) -> Result<(), String> {
        match trigger {
            TriggerKind::Notification(entry) => {
                let flow = self.machine.flow().clone();
                let (task, values) = (flow.node(entry).name.clone(), self.stubs.notification(&flow, entry));
                let result = TaskResult::Succeeded(values);
                if let Some(refusal) = self.step(&Event::Notify { task, result, key: None }) {
                    return Err(refusal);
                }
            }
            TriggerKind::Schedule(entry, at) => {
                self.only = Some(entry);
                self.now = self.now.max(at);
                self.step(&Event::Tick);
            }
        }
        self.last_firing = self.machine.firing_count() + MAX_FIRINGS - 1;
        self.calls.extend(self.later_calls.drain(..));
        Ok(())
    }

    /// Continues until the run has ended, or nothing happens before its next trigger, or it has had as many steps as the case has left.
    pub(crate) fn drive(&mut self, max_steps: usize) {
        while self.stopped.is_none() && self.advance() {
            if self.steps > max_steps {
                self.stopped = Some(out_of_steps());
            } else if (self.limits.is_over)() {
                self.stopped = Some("since its time is over".into());
            }
        }
    }

    /// Lets the next thing happen. Returns whether there was one.
    fn advance(&mut self) -> bool {
        if self.is_unfinished {
            self.step(&Event::Tick);
        } else if let Some(fetch) = self.fetches.pop_front() {
            self.complete_fetch(fetch);
        } else if let Some(call) = self.next_call() {
            self.answer(call);
        } else if self.machine.state().is_final() {
            return false;
        } else if self.has_fired_enough() {
            self.stopped = Some(format!("after {MAX_FIRINGS} firings: it would fire again"));
            return false;
        } else if let Some(task) = self.waiting_task() {
            self.notify(task);
        } else if let Some(due) = self.machine.next_due().filter(|_| self.has_active_firing()) {
            self.now = self.now.max(due);
            self.step(&Event::Tick);
        } else {
            return false;
        }
        true
    }

    /// A task that waits for a notification.
    fn waiting_task(&self) -> Option<NodeIndex> {
        self.machine.waiting_tasks().next().map(|(index, _)| index)
    }

    /// The next call to be answered.
    fn next_call(&mut self) -> Option<Call> {
        while let Some(call) = self.calls.pop_front() {
            if call.id.firing.get() <= self.last_firing {
                return Some(call);
            }
            self.later_calls.push(call);
        }
        None
    }

    /// Whether as many firings have ended as one trigger may have, and another one has started.
    fn has_fired_enough(&self) -> bool {
        let is_counted = |firing: Firing| firing.get() <= self.last_firing;
        let mut active = self.machine.firings().filter(|(_, state)| !state.is_final());
        self.machine.firing_count() > self.last_firing && !active.any(|(firing, _)| is_counted(firing))
    }

    /// Whether time has to pass for something that has begun. A run that only waits for its next trigger has nothing like that.
    fn has_active_firing(&self) -> bool {
        let Some(triggers) = &self.machine.flow().triggers else { return true };
        // A back edge may wait before it fires.
        !triggers.persistent || self.machine.firings().any(|(_, state)| !state.is_final())
    }

    /// Lets the machine take an event. Returns why it refuses a notification, if it does.
    fn step(&mut self, event: &Event) -> Option<String> {
        let step = self.machine.step(self.now, event);
        let conditions = usize::try_from(step.condition_cost / CONDITION_COST_PER_STEP).unwrap_or(usize::MAX);
        // The machine asks each firing what follows.
        let firings = self.machine.firings().count() / FIRINGS_PER_STEP;
        let steps = step.records.len().max(1).saturating_add(conditions).saturating_add(firings);
        self.steps = self.steps.saturating_add(steps);
        self.is_unfinished = step.is_unfinished;
        let flow = self.machine.flow().clone();
        let mut has_grown = false;
        for record in &step.records {
            has_grown |= matches!(record.fact, machine::Fact::Triggered { .. } | machine::Fact::Expanded { .. });
            if matches!(record.fact, machine::Fact::Triggered { .. }) {
                self.steps = self.steps.saturating_add(flow.nodes.len() / NODES_PER_STEP);
            }
            self.history.on_record(&flow, record, self.only);
        }
        if has_grown && self.machine.node_count() > self.limits.nodes {
            self.stopped = Some(format!("after it has more than {} nodes and list elements", self.limits.nodes));
        }
        for command in step.commands {
            match command {
                Command::Call(call) => self.take_call(*call),
                Command::Fetch(fetch) => self.fetches.push_back(*fetch),
                Command::Interrupt(call) => drop(self.interrupted.insert(call)),
                Command::Publish(change) => {
                    self.note_settled(&change);
                    self.history.on_change(change);
                }
            }
        }
        step.refusal
    }

    fn take_call(&mut self, call: Call) {
        self.history.on_call(&call);
        self.calls.push_back(call);
    }

    /// Notes that a failing task has used up its retries.
    fn note_settled(&mut self, change: &machine::Change) {
        if let machine::Change::Node(change) = change
            && change.state == flow::State::Failure
            && change.retry_in.is_none()
            && self.injection.find(&change.name.base(), Action::Apply).is_some()
        {
            self.settled.insert(change.name.base());
        }
    }

    /// Answers a call as the case says.
    fn answer(&mut self, call: Call) {
        if self.machine.outstanding_since(&call.id).is_none() {
            // The machine has given it up.
            self.steps += 1;
            return;
        }
        let answer = if self.interrupted.contains(&call.id) {
            TaskResult::Failed(Failure::new(FailureKind::Cancelled, "it was stopped"))
        } else if self.fails(&call.id) {
            TaskResult::Failed(injection::failure())
        } else {
            TaskResult::Succeeded(self.results_of(&call))
        };
        self.executions += 1;
        let execution = Execution::new(self.executions);
        self.step(&Event::Signal(Signal { call: call.id, answer, execution, redelivered: false, worker: None }));
    }

    /// Whether a call fails in this case.
    fn fails(&mut self, call: &CallId) -> bool {
        let (base, action) = (call.task.base(), call.action);
        let Some(failing) = self.injection.find(&base, action) else { return false };
        if failing.tries == Tries::First && self.settled.contains(&base) {
            return false;
        }
        if let Some((_, number)) = call.task.as_element() {
            let index = self.index_of.get(&base);
            let elements = index.and_then(|index| self.machine.elements(Some(call.firing), *index, 0));
            let is_last = elements.is_some_and(|(_, elements)| number as usize + 1 == elements.len());
            let may_fail = is_last || self.is_recorded || action == Action::Rollback;
            if !self.elements.is_failing(&call.task, action, may_fail) {
                return false;
            }
        }
        self.reached |= self.injection.target() == Some(failing);
        true
    }

    fn results_of(&self, call: &Call) -> Values {
        let index = self.index_of.get(&call.id.task.base()).copied();
        match (call.action(), index, self.machine.task(&call.id.task)) {
            (Action::Apply, Some(index), Some(task)) => self.stubs.results_of(index, &task.provides),
            (Action::Apply | Action::Rollback, _, _) => Values::new(),
        }
    }

    /// Completes a waiting task, as the case says.
    fn notify(&mut self, index: NodeIndex) {
        let flow = self.machine.flow().clone();
        let task = flow.node(index).name.clone();
        let Role::Wait(wait) = &flow.node(index).role else {
            self.steps += 1;
            return;
        };
        self.history.applied.insert(task.clone());
        let failing = self.injection.find(&task, Action::Apply);
        let fails = failing.is_some_and(|failing| failing.tries == Tries::All || !self.settled.contains(&task));
        self.reached |= fails && self.injection.target() == failing;
        let result = match fails {
            true => TaskResult::Failed(injection::notified_failure()),
            false => TaskResult::Succeeded(self.stubs.results_of(index, &wait.provides)),
        };
        match self.step(&Event::Notify { task: task.clone(), result, key: None }) {
            None => self.history.notified.push(task),
            // It would wait for ever.
            Some(refusal) => {
                self.stopped = Some(format!("at {task}, where a run would refuse the stubbed values: {refusal}"));
            }
        }
    }

    /// Answers a request for values in the store, which a rehearsal does not read.
    fn complete_fetch(&mut self, fetch: ValueFetch) {
        let null = || Json::parse("null").expect("the constant is JSON");
        let result = match fetch.target {
            FetchTarget::List { most, .. } => {
                let length = usize::try_from(most).unwrap_or(usize::MAX).min(2);
                FetchResult::List(Ok(std::iter::repeat_with(null).take(length).collect()))
            }
            FetchTarget::Results(results) => {
                let inline = |value: Value| match value {
                    Value::Stored(_) => Value::Json(null()),
                    value @ (Value::Json(_) | Value::Bytes(_)) => value,
                };
                let list = |(name, values): (ValueName, Vec<Value>)| (name, values.into_iter().map(inline).collect());
                FetchResult::Results(collect_results(results.into_iter().map(list).collect()))
            }
        };
        self.step(&Event::Fetched { id: fetch.id, result });
    }
}

/// Why a case ends that has had all its steps.
pub(crate) fn out_of_steps() -> String {
    format!("after {MAX_STEPS} steps, as many as a case may have")
}
