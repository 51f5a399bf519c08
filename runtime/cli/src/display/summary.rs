//! Summarizes the end of a run for a person to act on: what failed, why, what was rolled back.

use std::{fmt::Write, time::Duration};

use flow::{Machine, NodeIndex, RunState, State, Task};

use super::FullValueHint;
use crate::{colour::Colour, sanitize};

/// The text of the summary.
pub(super) fn text(machine: &Machine, elapsed: Duration, colour: bool, whole: FullValueHint) -> String {
    let mut text = String::new();
    let flow = &machine.flow().name;
    let (state, paint) = match machine.state() {
        RunState::Success => ("succeeded", Colour::Green),
        RunState::Failure => ("failed and needs a person: a rollback failed", Colour::Red),
        RunState::RolledBack if machine.failures().is_empty() => ("was stopped and rolled back", Colour::Yellow),
        RunState::RolledBack => ("failed and was rolled back", Colour::Yellow),
        RunState::Pending | RunState::Running | RunState::Suspending | RunState::Suspended => {
            ("was interrupted", Colour::Yellow)
        }
    };
    let seconds = elapsed.as_secs_f64();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "\n{} {} after {seconds:.1}s",
        Colour::Bold.text(flow.as_str(), colour),
        paint.text(state, colour)
    );
    if machine.state() != RunState::Success {
        failures(machine, colour, &mut text);
        let has_rollback = |task: &Task, _: &str| task.rollback;
        // A failed rollback is already listed above.
        let has_none = |task: &Task, name: &str| {
            !task.rollback && !machine.failures().keys().any(|failed| failed.as_str() == name)
        };
        nodes(machine, "rolled back", State::RolledBack, has_rollback, &mut text);
        nodes(machine, "without a rollback", State::RolledBack, has_none, &mut text);
        for (what, state) in
            [("still applied", State::Success), ("not started", State::Pending), ("not finished", State::Running)]
        {
            nodes(machine, what, state, |_, _| true, &mut text);
        }
    }
    if let Some(next) = next(machine, whole) {
        let _ = writeln!(text, "{next}");
    }
    text
}

fn failures(machine: &Machine, colour: bool, text: &mut String) {
    for (name, failure) in machine.failures() {
        let kind = failure.kind;
        let stuck = machine.apply_failure(name).is_some() || rollback_failed(machine, name.as_str());
        let what = if stuck { "could not be rolled back" } else { "failed" };
        let message = sanitize::indented(&failure.message, 4);
        let _ = writeln!(text, "  {} {what} ({kind}): {message}", Colour::Red.text(name.as_str(), colour));
        if let Some(apply) = machine.apply_failure(name) {
            let message = sanitize::indented(&apply.message, 6);
            let _ = writeln!(text, "    after it had failed ({}): {message}", apply.kind);
        }
    }
}

fn rollback_failed(machine: &Machine, name: &str) -> bool {
    let flow = machine.flow();
    let found = flow.indices().find(|index| flow.node(*index).name.as_str() == name);
    found.is_some_and(|index| machine.node_state(index) == State::RollbackFailure)
}

/// Appends the names of the first few tasks that are in a state and meet a condition.
fn nodes(machine: &Machine, what: &str, state: State, is_meant: impl Fn(&Task, &str) -> bool, text: &mut String) {
    const MOST: usize = 20;
    let is_in = |index: NodeIndex| machine.node_state(index) == state;
    let found = machine.flow().tasks().filter(|(index, name, task)| is_in(*index) && is_meant(task, name.as_str()));
    let names: Vec<&str> = found.map(|(_, name, _)| name.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let more = if names.len() > MOST { format!(" and {} more", names.len() - MOST) } else { String::new() };
    let _ = writeln!(text, "  {what}: {}{more}", names[..names.len().min(MOST)].join(", "));
}

/// What a person may do next.
fn next(machine: &Machine, whole: FullValueHint) -> Option<String> {
    match (machine.state(), whole) {
        (RunState::Success | RunState::RolledBack, _) => None,
        (RunState::Failure, FullValueHint::Json) => {
            Some("undo by hand what is still applied: this run is not kept".into())
        }
        (RunState::Failure, FullValueHint::Show) => Some(format!(
            "`waft retry {0}` tries the rollbacks again; where you have undone it by hand, `waft skip {0} TASK --reason TEXT`",
            machine.run()
        )),
        (_, FullValueHint::Json) => Some("nothing was rolled back, and this run is not kept".into()),
        (RunState::Pending | RunState::Running | RunState::Suspending | RunState::Suspended, FullValueHint::Show) => {
            Some(format!("nothing was rolled back; `waft run --resume {}` goes on with it", machine.run()))
        }
    }
}
