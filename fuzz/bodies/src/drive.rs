//! Drives runs for a few steps, and checks that their records and snapshots lead to the same machine.

use std::{sync::Arc, time::Duration};

use flow::{
    Execution, Failure, FailureKind, Flow, RunId, Signal, TaskResult, Timestamp, Value, ValueName, Values, WorkerName,
};
use machine::{Event, Machine, Record};

use crate::round_trip;

/// The number of steps: enough for a retry, a rollback and a few firings.
const STEPS: u64 = 12;

/// The start of each run: in 2023.
const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

pub(crate) fn run_id() -> RunId {
    "r".parse().expect("a name")
}

/// A run of a flow, and everything that was recorded of it.
pub(crate) struct Run {
    pub(crate) machine: Machine,
    pub(crate) records: Vec<Record>,
    now: Timestamp,
}

impl Run {
    /// A run that has started.
    pub(crate) fn new(flow: &Arc<Flow>) -> Self {
        let machine = Machine::new(run_id(), flow.clone());
        let mut run = Self { machine, records: Vec::new(), now: START };
        run.step(&Event::Start);
        run
    }

    pub(crate) fn step(&mut self, event: &Event) {
        self.records.extend(self.machine.step(self.now, event).records);
    }

    /// Answers calls in turn, with success and with failure, and lets time pass where nobody is called.
    pub(crate) fn go_on(&mut self) {
        for step in 0..STEPS {
            self.now = self.now.after(Duration::from_secs(1));
            let call = self.machine.outstanding_calls().next();
            let event = match call {
                Some(call) => {
                    let answer = match (self.machine.task(&call.task), step % 5) {
                        (_, 4) => TaskResult::Failed(Failure::new(FailureKind::Permanent, "no")),
                        (Some(task), _) => TaskResult::Succeeded(task.provides.keys().map(value_of).collect()),
                        (None, _) => TaskResult::Succeeded(Values::new()),
                    };
                    let execution = Execution::new(step);
                    Event::Signal(Signal { call, answer, execution, redelivered: false, worker: None })
                }
                None => {
                    let Some(due) = self.machine.next_due() else { break };
                    self.now = self.now.max(due);
                    Event::Tick
                }
            };
            self.step(&event);
        }
    }

    /// A replay never differs from live execution, nor does a machine from its snapshot.
    pub(crate) fn check(&self) {
        ask(&self.machine);
        let records = round_trip::records(&self.records);
        let replayed = Machine::replay(run_id(), &records).unwrap_or_else(|error| panic!("{error}"));
        assert!(replayed == self.machine, "a replay differs from live execution");
        let snapshot = round_trip::snapshot(&self.machine.snapshot());
        let restored = Machine::restore(run_id(), snapshot).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(restored.state(), self.machine.state());
    }
}

fn value_of(name: &ValueName) -> (ValueName, Value) {
    (name.clone(), Value::json(&1.into()))
}

/// Starts a run, drives it for a few steps, and checks it.
pub(crate) fn start(flow: &Arc<Flow>) {
    let mut run = Run::new(flow);
    run.go_on();
    run.check();
}

/// Asks a machine what an engine asks a machine that it has loaded.
pub(crate) fn ask(machine: &Machine) {
    let worker: WorkerName = "w".parse().expect("a name");
    for call in machine.outstanding_calls() {
        let _ = (machine.is_wanted(&call), machine.may_start(START, &call), machine.outstanding_since(&call));
        let _ = (machine.has_lease(&call, &worker), machine.task(&call.task));
    }
    for index in machine.flow().indices() {
        let _ = (machine.node_state(index), machine.progress(index), machine.call_of(None, index));
    }
    let _ = (machine.pending(), machine.next_due(), machine.size(), machine.values(), machine.firing_count());
    let _ = (machine.leased_calls().count(), machine.withdrawable_calls().count(), machine.waiting_tasks().count());
    let _ = protocol::events::run_ended(machine, &protocol::events::RunValues::default()).to_line();
}
