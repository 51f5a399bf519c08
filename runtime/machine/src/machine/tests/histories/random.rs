//! Random histories: draws a flow, and the events and faults of its run, from one seed.

use std::sync::Arc;

use super::super::{
    harness::{Harness, flow},
    random_flows::{random_flow, random_triggered_flow},
};
use crate::{Event, MAX_STEP_BYTES, MAX_STEP_RECORDS, StepLimits, seeded_rng::SeededRng};
use flow::{Edit, Failure, FailureKind, NodeIndex, RunState, SourceOutcome, TaskResult, Value, Values, graph::Role};

/// Runs one random history; answers come in any order, with occasional run commands.
pub(super) fn run_history(seed: u64) -> Harness {
    run_history_with(seed, Edits::None)
}

/// Starts a run whose steps are cut off at a random length, as those of large runs are, and at a random cost of conditions; other
/// events come in between.
fn begin(flow: Arc<flow::Flow>, rng: &mut SeededRng) -> Harness {
    let records = rng.pick(&[1, 7, MAX_STEP_RECORDS, MAX_STEP_RECORDS, MAX_STEP_RECORDS, MAX_STEP_RECORDS]);
    // So few that a step is cut off within a decision.
    let bytes = if records == 7 { 300 } else { MAX_STEP_BYTES };
    let all = StepLimits::default().conditions;
    let conditions = rng.pick(&[1, 1, 500, all, all, all]);
    Harness::start_within(StepLimits { records, bytes, conditions, ..StepLimits::default() }, flow)
}

/// Runs a flow to its end without faults, each waiting task notified once nothing else is to be done.
pub(super) fn run_without_faults(flow: &Arc<flow::Flow>, limits: StepLimits) -> Harness {
    let mut harness = Harness::start_within(limits, flow.clone());
    let mut steps = 0;
    while !harness.state().is_final() {
        steps += 1;
        assert!(steps < 20_000, "the run does not end");
        let waiting = harness.machine.waiting_tasks().next().map(|(index, _)| index);
        let is_idle = !harness.is_unfinished && harness.outstanding.is_empty() && harness.fetches.is_empty();
        if let Some(index) = waiting.filter(|_| is_idle) {
            let task = harness.machine.flow().node(index).name.clone();
            harness.step(&Event::Notify { task, result: TaskResult::Succeeded(Values::new()), key: None });
        } else {
            harness.step_or_advance();
        }
    }
    harness
}

/// Whether the flow is edited during the run.
#[derive(PartialEq, Eq)]
pub(super) enum Edits {
    None,
    Some,
}

pub(super) fn run_history_with(seed: u64, edits: Edits) -> Harness {
    let mut rng = SeededRng(seed);
    let mut harness = begin(flow(&random_flow(&mut rng)), &mut rng);
    let mut steps = 0;
    while !harness.state().is_final() {
        steps += 1;
        assert!(steps < 20_000, "the run does not end");
        if rng.below(300) == 0 {
            harness.step(&Event::Cancel);
        } else if rng.below(40) == 0 && harness.machine.next_due().is_some() {
            harness.advance_to_next_due();
        } else if edits == Edits::Some && rng.below(6) == 0 {
            random_edit(&mut harness, &mut rng, steps);
        } else if !(inject_fault(&mut harness, &mut rng)
            || rng.below(4) == 0 && notify_waiting_task(&mut harness, &mut rng)
            || advance(&mut harness, &mut rng))
        {
            assert!(notify_waiting_task(&mut harness, &mut rng), "a run in {} waits for nothing", harness.state());
        }
    }
    harness
}

/// Injects a fault that may happen to any run: it is suspended, a worker dies with a call or receives it twice, a fetch is
/// slow.
fn inject_fault(harness: &mut Harness, rng: &mut SeededRng) -> bool {
    if harness.is_unfinished && rng.below(4) > 0 {
        harness.step(&Event::Tick);
    } else if harness.state() == RunState::Suspended {
        harness.step(&Event::Resume);
    } else if rng.below(60) == 0 {
        harness.step(&Event::Suspend);
    } else if rng.below(4) == 0 && harness.state() == RunState::Suspending {
        harness.step(&Event::Abandon);
    } else if rng.below(20) == 0 && !harness.outstanding.is_empty() {
        let index = rng.below(harness.outstanding.len());
        match rng.below(4) {
            0 => harness.lose(index),
            1 => harness.withdraw(index),
            _ => harness.lease(index),
        }
    } else if rng.below(8) == 0 && !harness.redeliverable.is_empty() {
        let index = rng.below(harness.redeliverable.len());
        harness.redeliver(index);
    } else if rng.below(4) == 0 && !harness.lost.is_empty() {
        let index = rng.below(harness.lost.len());
        harness.answer_late(index);
    } else if rng.below(2) == 0 && !harness.fetches.is_empty() {
        let index = rng.below(harness.fetches.len());
        match rng.below(10) {
            0 => harness.fail_fetch(index),
            _ => harness.complete_fetch(index),
        }
    } else {
        return false;
    }
    true
}

/// Lets the next event happen that needs no run command, if there is one.
fn advance(harness: &mut Harness, rng: &mut SeededRng) -> bool {
    if harness.is_unfinished {
        harness.step(&Event::Tick);
    } else if !harness.outstanding.is_empty() {
        let index = rng.below(harness.outstanding.len());
        if rng.below(10) > 0 || !harness.remember(index) {
            harness.answer(index);
        }
    } else if !harness.fetches.is_empty() {
        harness.complete_fetch(0);
    } else if harness.machine.next_due().is_some() {
        harness.advance_to_next_due();
    } else {
        return false;
    }
    true
}

/// Runs one random history of a flow that fires more than once: it is notified, edited, suspended and cancelled at any
/// time.
pub(super) fn run_triggered_history(seed: u64) -> Harness {
    let mut rng = SeededRng(seed);
    let mut harness = begin(flow(&random_triggered_flow(&mut rng)), &mut rng);
    let mut steps = 0;
    while !harness.state().is_final() {
        steps += 1;
        assert!(steps < 20_000, "the run does not end");
        // Later no new events come, and the run ends.
        let is_late = steps > 1_000;
        if rng.below(150) == 0 || steps == 1_001 {
            harness.step(&Event::Cancel);
        } else if is_late && (inject_fault(&mut harness, &mut rng) || advance(&mut harness, &mut rng)) {
            // The history has advanced.
        } else if rng.below(12) == 0 {
            random_edit(&mut harness, &mut rng, steps);
        } else if rng.below(6) == 0 {
            random_notification(&mut harness, &mut rng);
        } else if rng.below(30) == 0 {
            harness.step(&Event::Retry);
        } else if !(inject_fault(&mut harness, &mut rng) || advance(&mut harness, &mut rng)) {
            random_notification(&mut harness, &mut rng);
        }
    }
    harness
}

/// Notifies a random task, with or without the values it requires.
fn random_notification(harness: &mut Harness, rng: &mut SeededRng) {
    let flow = harness.machine.flow().clone();
    let names: Vec<_> = flow.tasks().map(|(index, name, _)| (index, name.clone())).collect();
    if names.is_empty() {
        return;
    }
    let (index, task) = names[rng.below(names.len())].clone();
    let value = if rng.below(2) == 0 { Value::json(&1.into()) } else { Value::json(&vec![1, 2].into()) };
    let values: Values = flow.notification_values(index).into_keys().map(|name| (name, value.clone())).collect();
    let key = (rng.below(3) == 0).then(|| format!("k{}", rng.below(3)));
    let (result, before) = (TaskResult::Succeeded(values), harness.machine.firing_count());
    let is_accepted = harness.machine.notification_error(&task, &result).is_none()
        && !key.as_ref().is_some_and(|key| harness.machine.has_received(&task, key))
        && matches!(harness.state(), RunState::Running | RunState::Suspending);
    harness.step(&Event::Notify { task, result, key });
    assert!(harness.machine.firing_count() >= before + u64::from(is_accepted), "an accepted notification fires");
}

/// Edits the flow at random; a refused edit changes nothing.
fn random_edit(harness: &mut Harness, rng: &mut SeededRng, step: u32) {
    let flow = harness.machine.flow().clone();
    let is_task =
        |index: &NodeIndex| matches!(flow.node(*index).role, Role::Task(_) | Role::Wait(_) | Role::ForEach(_));
    let names: Vec<_> = flow.indices().filter(is_task).map(|index| flow.node(index).name.clone()).collect();
    if names.is_empty() {
        return;
    }
    let random_name = |rng: &mut SeededRng| names[rng.below(names.len())].clone();
    let edit = match rng.below(5) {
        0 => Edit::Remove { task: random_name(rng), ran: false },
        1 => {
            let on =
                rng.pick(&[SourceOutcome::Success, SourceOutcome::Success, SourceOutcome::Failure, SourceOutcome::Any]);
            Edit::Link {
                from: random_name(rng),
                to: random_name(rng),
                on,
                when: None,
                reach: None,
                join: flow::Join::All,
            }
        }
        2 => Edit::Unlink { from: random_name(rng), to: random_name(rng) },
        3 => Edit::Use { task: random_name(rng), uses: rng.pick(&["g#noop", "g#flaky", "g#fails"]).into() },
        _ => {
            let call = rng.pick(&[
                "use = \"g#noop\"\n",
                "use = \"g#make\"\nprovides = []\nfor_each = [1, \"bad\", 2]\nas = \"item\"\n",
            ]);
            let text = format!(
                "[[task]]\nname = \"e{step}\"\n{call}[[link]]\nfrom = \"{}\"\nto = \"e{step}\"\n",
                random_name(rng)
            );
            Edit::Add { text: text.into() }
        }
    };
    let before = harness.machine.clone();
    if harness.edit(&[edit]).is_err() {
        assert!(harness.machine == before, "a refused edit changes nothing");
    }
}

/// Notifies a waiting task, if there is one.
fn notify_waiting_task(harness: &mut Harness, rng: &mut SeededRng) -> bool {
    let waiting: Vec<NodeIndex> = harness.machine.waiting_tasks().map(|(index, _)| index).collect();
    for index in harness.machine.flow().indices() {
        let listed = harness.machine.waiting_tasks().find(|(waiting, _)| *waiting == index).map(|(_, until)| until);
        let found = harness.machine.is_waiting(index).then(|| harness.machine.wait_deadline(index));
        assert_eq!(found, listed, "a task is looked up as it is listed");
    }
    if waiting.is_empty() {
        return false;
    }
    let task = harness.machine.flow().node(waiting[rng.below(waiting.len())]).name.clone();
    let result = match rng.below(4) {
        0 => TaskResult::Failed(Failure::new(FailureKind::Permanent, "no")),
        _ => TaskResult::Succeeded(Values::new()),
    };
    assert_eq!(harness.machine.notification_error(&task, &result), None);
    harness.step(&Event::Notify { task, result, key: None });
    true
}

/// Continues one history until nothing is lost any more: lost calls are answered, and a person settles failed rollbacks.
pub(super) fn run_history_to_end(seed: u64) -> Harness {
    continue_to_end(seed, run_history(seed))
}

pub(super) fn continue_to_end(seed: u64, mut harness: Harness) -> Harness {
    let mut rng = SeededRng(seed ^ 0xA5A5);
    loop {
        if !harness.redeliverable.is_empty() {
            let index = rng.below(harness.redeliverable.len());
            harness.redeliver(index);
        } else if !harness.lost.is_empty() {
            let index = rng.below(harness.lost.len());
            harness.answer_late(index);
        } else if harness.state() == RunState::Failure {
            let stuck: Vec<_> = harness.machine.failures().keys().cloned().collect();
            if rng.below(3) == 0 {
                harness.step(&Event::Retry);
            } else {
                for task in stuck {
                    harness.step(&Event::Skip { task, reason: "by hand".into() });
                }
            }
        } else {
            return harness;
        }
        while !harness.state().is_final() {
            run_on(&mut harness, &mut rng);
        }
    }
}

/// Continues until the run has ended, or a task waits for a notification.
pub(super) fn run_on(harness: &mut Harness, rng: &mut SeededRng) {
    if !notify_waiting_task(harness, rng) {
        harness.step_or_advance();
    }
}
