//! Rehearsals that continue a recorded run.

use flow::{Execution, RunId, Signal, TaskResult, Values};
use machine::{Command, Event, Machine};

use super::{NOW, flows::flow, flows::modules, line};
use crate::{Limits, Request, Results, Stubs, rehearse_recorded};

const FLOW: &str = "pattern = \"linear\"\n[[task]]\nname = \"a\"\nuse = \"m#noop\"\n\
    [[task]]\nname = \"b\"\nuse = \"m#noop\"\n[[task]]\nname = \"c\"\nuse = \"m#plain\"\n";

/// A run in which `a` has succeeded, and `b` is with a worker.
fn recorded() -> Machine {
    let mut machine = Machine::new(RunId::new("r1").unwrap(), flow(FLOW));
    let step = machine.step(NOW, &Event::Start);
    let call = step.commands.into_iter().find_map(|command| match command {
        Command::Call(call) => Some(call.id),
        Command::Interrupt(_) | Command::Fetch(_) | Command::Publish(_) => None,
    });
    let (answer, execution) = (TaskResult::Succeeded(Values::new()), Execution::new(1));
    let signal = Signal { call: call.unwrap(), answer, execution, redelivered: false, worker: None };
    machine.step(NOW, &Event::Signal(signal));
    machine
}

fn lines(machine: Machine, only: &str) -> Vec<String> {
    let stubs = Stubs::new(machine.flow(), &modules(), &Results::default()).unwrap();
    let request = Request { stubs: &stubs, now: NOW, only: Some(only.parse().unwrap()), limits: Limits::default() };
    let rehearsal = rehearse_recorded(machine, &request).unwrap();
    assert_eq!(rehearsal.run.as_deref(), Some("r1"));
    rehearsal.cases.iter().map(line).collect()
}

#[test]
fn a_recorded_run_goes_on_from_its_state() {
    let expected = [
        ": success",
        "apply of b: rolled-back; rolled back [b a]",
        "apply of c + rollback of b: failure; still applied [a]; stuck [b]",
    ];
    assert_eq!(lines(recorded(), "b"), expected);
    let mut suspended = recorded();
    suspended.step(NOW, &Event::Suspend);
    suspended.step(NOW, &Event::Abandon);
    assert_eq!(suspended.state(), flow::RunState::Suspended);
    assert_eq!(lines(suspended, "b"), expected);
}

#[test]
fn a_task_that_has_succeeded_fails_no_more_but_its_rollback_may() {
    assert_eq!(
        lines(recorded(), "a"),
        [
            ": success",
            "apply of a (not reached): success",
            "apply of b + rollback of a: failure; rolled back [b]; stuck [a]"
        ]
    );
}
