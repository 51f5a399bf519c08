//! Summarizes the end of a run for a person to act on: what failed, why, what was rolled back.

use std::{fmt::Write, time::Duration};

use flow::{NodeIndex, RunState, State, Task};
use machine::Machine;

use super::{FullValueHint, state::Unfinished};
use crate::{colour::Colour, sanitize};

/// The text of the summary.
pub(super) fn text(machine: &Machine, elapsed: Duration, colour: bool, full_value_hint: FullValueHint) -> String {
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
        let is_rolled_back = |state| state == State::RolledBack;
        nodes(machine, "rolled back", is_rolled_back, has_rollback, &mut text);
        nodes(machine, "without a rollback", is_rolled_back, has_none, &mut text);
        for heading in [Unfinished::Applied, Unfinished::Pending, Unfinished::InProgress] {
            let is_listed = |state| Unfinished::of(state) == Some(heading);
            nodes(machine, heading.as_str(), is_listed, |_, _| true, &mut text);
        }
    }
    if let Some(next) = next(machine, full_value_hint) {
        let _ = writeln!(text, "{next}");
    }
    text
}

fn failures(machine: &Machine, colour: bool, text: &mut String) {
    for (name, failure) in machine.failures() {
        let kind = failure.kind;
        let stuck = machine.apply_failure(name).is_some() || rollback_failed(machine, name.as_str());
        let action = if stuck { "could not be rolled back" } else { "failed" };
        let message = sanitize::indented(&failure.message, 4);
        let _ = writeln!(text, "  {} {action} ({kind}): {message}", Colour::Red.text(name.as_str(), colour));
        if let Some(apply) = machine.apply_failure(name) {
            let message = sanitize::indented(&apply.message, 6);
            let _ = writeln!(text, "    after it had failed ({}): {message}", apply.kind);
        }
    }
}

fn rollback_failed(machine: &Machine, name: &str) -> bool {
    let flow = machine.flow();
    let index = flow.indices().find(|index| flow.node(*index).name.as_str() == name);
    index.is_some_and(|index| machine.node_state(index) == State::RollbackFailure)
}

/// Appends the names of the first few tasks that are in a state and meet a condition.
fn nodes(
    machine: &Machine,
    heading: &str,
    is_listed: impl Fn(State) -> bool,
    is_included: impl Fn(&Task, &str) -> bool,
    text: &mut String,
) {
    const MAX_NAMES: usize = 20;
    let is_in = |index: NodeIndex| is_listed(machine.node_state(index));
    let tasks = machine.flow().tasks().filter(|(index, name, task)| is_in(*index) && is_included(task, name.as_str()));
    let names: Vec<&str> = tasks.map(|(_, name, _)| name.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let more = if names.len() > MAX_NAMES { format!(" and {} more", names.len() - MAX_NAMES) } else { String::new() };
    let _ = writeln!(text, "  {heading}: {}{more}", names[..names.len().min(MAX_NAMES)].join(", "));
}

/// What a person may do next.
fn next(machine: &Machine, full_value_hint: FullValueHint) -> Option<String> {
    match (machine.state(), full_value_hint) {
        (RunState::Success | RunState::RolledBack, _) => None,
        (RunState::Failure, FullValueHint::Json) => {
            Some("roll back by hand what is still applied: this run is not stored".into())
        }
        (RunState::Failure, FullValueHint::Show) => Some(format!(
            "`waft retry {0}` tries the rollbacks again; if you have rolled back by hand, `waft skip {0} TASK --reason TEXT`",
            machine.run()
        )),
        (_, FullValueHint::Json) => Some("nothing was rolled back, and this run is not stored".into()),
        (RunState::Pending | RunState::Running | RunState::Suspending | RunState::Suspended, FullValueHint::Show) => {
            Some(format!("nothing was rolled back; `waft run --resume {}` continues it", machine.run()))
        }
    }
}
