//! Random histories: draws a flow, and the events and faults of its run, from one seed.

use std::sync::Arc;

use super::super::{
    harness::{Harness, flow},
    random_flows::{random_flow, random_triggered_flow},
};
use crate::{
    Edit, Event, Failure, FailureKind, MAX_STEP_RECORDS, NodeIndex, Role, RunState, SourceOutcome, TaskResult, Value,
    Values, seeded_rng::SeededRng,
};

/// Runs one random history; answers come in any order, with occasional run commands.
pub(super) fn run_history(seed: u64) -> Harness {
    run_history_with(seed, Edits::None)
}

/// Starts a run whose steps are cut off at a random length, as those of large runs are; other events come in between.
fn begin(flow: Arc<crate::Flow>, draw: &mut SeededRng) -> Harness {
    Harness::start_in_steps_of(
        draw.pick(&[1, 7, MAX_STEP_RECORDS, MAX_STEP_RECORDS, MAX_STEP_RECORDS, MAX_STEP_RECORDS]),
        flow,
    )
}

/// Whether the flow is edited during the run.
#[derive(PartialEq, Eq)]
pub(super) enum Edits {
    None,
    Some,
}

pub(super) fn run_history_with(seed: u64, edits: Edits) -> Harness {
    let mut draw = SeededRng(seed);
    let mut world = begin(flow(&random_flow(&mut draw)), &mut draw);
    let mut steps = 0;
    while !world.state().is_final() {
        steps += 1;
        assert!(steps < 20_000, "the run does not end");
        if draw.below(300) == 0 {
            world.step(&Event::Cancel);
        } else if draw.below(40) == 0 && world.machine.next_due().is_some() {
            world.advance_to_next_due();
        } else if edits == Edits::Some && draw.below(6) == 0 {
            random_edit(&mut world, &mut draw, steps);
        } else if !(inject_fault(&mut world, &mut draw)
            || draw.below(4) == 0 && notify_somebody(&mut world, &mut draw)
            || advance(&mut world, &mut draw))
        {
            assert!(notify_somebody(&mut world, &mut draw), "a run in {} waits for nothing", world.state());
        }
    }
    world
}

/// Injects a fault that may happen to any run: it is suspended, a worker dies with a call or receives it twice, a fetch is
/// slow.
fn inject_fault(world: &mut Harness, draw: &mut SeededRng) -> bool {
    if world.is_unfinished && draw.below(4) > 0 {
        world.step(&Event::Tick);
    } else if world.state() == RunState::Suspended {
        world.step(&Event::Resume);
    } else if draw.below(60) == 0 {
        world.step(&Event::Suspend);
    } else if draw.below(4) == 0 && world.state() == RunState::Suspending {
        world.step(&Event::Abandon);
    } else if draw.below(20) == 0 && !world.outstanding.is_empty() {
        let place = draw.below(world.outstanding.len());
        match draw.below(4) {
            0 => world.lose(place),
            1 => world.withdraw(place),
            _ => world.lease(place),
        }
    } else if draw.below(8) == 0 && !world.redeliverable.is_empty() {
        let place = draw.below(world.redeliverable.len());
        world.redeliver(place);
    } else if draw.below(4) == 0 && !world.lost.is_empty() {
        let place = draw.below(world.lost.len());
        world.answer_late(place);
    } else if draw.below(2) == 0 && !world.fetches.is_empty() {
        let place = draw.below(world.fetches.len());
        match draw.below(10) {
            0 => world.fail_fetch(place),
            _ => world.complete_fetch(place),
        }
    } else {
        return false;
    }
    true
}

/// Lets the next event happen that needs no run command, if there is one.
fn advance(world: &mut Harness, draw: &mut SeededRng) -> bool {
    if world.is_unfinished {
        world.step(&Event::Tick);
    } else if !world.outstanding.is_empty() {
        let place = draw.below(world.outstanding.len());
        world.answer(place);
    } else if !world.fetches.is_empty() {
        world.complete_fetch(0);
    } else if world.machine.next_due().is_some() {
        world.advance_to_next_due();
    } else {
        return false;
    }
    true
}

/// Runs one random history of a flow that fires more than once: it is notified, edited, suspended and told to end at any
/// time.
pub(super) fn run_triggered_history(seed: u64) -> Harness {
    let mut draw = SeededRng(seed);
    let mut world = begin(flow(&random_triggered_flow(&mut draw)), &mut draw);
    let mut steps = 0;
    while !world.state().is_final() {
        steps += 1;
        assert!(steps < 20_000, "the run does not end");
        // Later no new events come, and the run ends.
        let is_late = steps > 1_000;
        if draw.below(150) == 0 || steps == 1_001 {
            world.step(&Event::Cancel);
        } else if is_late && (inject_fault(&mut world, &mut draw) || advance(&mut world, &mut draw)) {
            // The history has advanced.
        } else if draw.below(12) == 0 {
            random_edit(&mut world, &mut draw, steps);
        } else if draw.below(6) == 0 {
            random_notification(&mut world, &mut draw);
        } else if draw.below(30) == 0 {
            world.step(&Event::Retry);
        } else if !(inject_fault(&mut world, &mut draw) || advance(&mut world, &mut draw)) {
            random_notification(&mut world, &mut draw);
        }
    }
    world
}

/// Notifies a random task, with or without the values it requires.
fn random_notification(world: &mut Harness, draw: &mut SeededRng) {
    let flow = world.machine.flow().clone();
    let names: Vec<_> = flow.tasks().map(|(index, name, _)| (index, name.clone())).collect();
    if names.is_empty() {
        return;
    }
    let (index, task) = names[draw.below(names.len())].clone();
    let value = if draw.below(2) == 0 { Value::json(&1.into()) } else { Value::json(&vec![1, 2].into()) };
    let values: Values = flow.notification_values(index).into_keys().map(|name| (name, value.clone())).collect();
    let key = (draw.below(3) == 0).then(|| format!("k{}", draw.below(3)));
    let (answer, before) = (TaskResult::Succeeded(values), world.machine.firing_count());
    let is_taken = world.machine.notification_error(&task, &answer).is_none()
        && !key.as_ref().is_some_and(|key| world.machine.has_received(&task, key))
        && matches!(world.state(), RunState::Running | RunState::Suspending);
    world.step(&Event::Notify { task, result: answer, key });
    assert!(world.machine.firing_count() >= before + u64::from(is_taken), "what is not refused fires");
}

/// Edits the flow at random; a refused edit changes nothing.
fn random_edit(world: &mut Harness, draw: &mut SeededRng, step: u32) {
    let flow = world.machine.flow().clone();
    let is_task =
        |index: &NodeIndex| matches!(flow.node(*index).role, Role::Task(_) | Role::Wait(_) | Role::ForEach(_));
    let names: Vec<_> = flow.indices().filter(is_task).map(|index| flow.node(index).name.clone()).collect();
    if names.is_empty() {
        return;
    }
    let any = |draw: &mut SeededRng| names[draw.below(names.len())].clone();
    let edit = match draw.below(5) {
        0 => Edit::Remove { task: any(draw), ran: false },
        1 => {
            let on = draw.pick(&[
                SourceOutcome::Success,
                SourceOutcome::Success,
                SourceOutcome::Failure,
                SourceOutcome::Any,
            ]);
            Edit::Link { from: any(draw), to: any(draw), on, when: None, reach: None, join: crate::Join::All }
        }
        2 => Edit::Unlink { from: any(draw), to: any(draw) },
        3 => Edit::Use { task: any(draw), uses: draw.pick(&["g#noop", "g#flaky", "g#fails"]).into() },
        _ => {
            let call = draw.pick(&[
                "use = \"g#noop\"\n",
                "use = \"g#make\"\nprovides = []\nfor_each = [1, \"bad\", 2]\nas = \"item\"\n",
            ]);
            let text =
                format!("[[task]]\nname = \"e{step}\"\n{call}[[link]]\nfrom = \"{}\"\nto = \"e{step}\"\n", any(draw));
            Edit::Add { text: text.into() }
        }
    };
    let before = world.machine.clone();
    if world.edit(&[edit]).is_err() {
        assert!(world.machine == before, "what is refused changes nothing");
    }
}

/// Notifies a waiting task, if there is one.
fn notify_somebody(world: &mut Harness, draw: &mut SeededRng) -> bool {
    let waiting: Vec<NodeIndex> = world.machine.waiting_tasks().map(|(index, _)| index).collect();
    if waiting.is_empty() {
        return false;
    }
    let task = world.machine.flow().node(waiting[draw.below(waiting.len())]).name.clone();
    let answer = match draw.below(4) {
        0 => TaskResult::Failed(Failure::new(FailureKind::Permanent, "no")),
        _ => TaskResult::Succeeded(Values::new()),
    };
    assert_eq!(world.machine.notification_error(&task, &answer), None);
    world.step(&Event::Notify { task, result: answer, key: None });
    true
}

/// Continues one history until nothing is lost any more: lost calls are answered, and a person settles failed rollbacks.
pub(super) fn run_history_to_end(seed: u64) -> Harness {
    continue_to_end(seed, run_history(seed))
}

pub(super) fn continue_to_end(seed: u64, mut world: Harness) -> Harness {
    let mut draw = SeededRng(seed ^ 0xA5A5);
    loop {
        if !world.redeliverable.is_empty() {
            let place = draw.below(world.redeliverable.len());
            world.redeliver(place);
        } else if !world.lost.is_empty() {
            let place = draw.below(world.lost.len());
            world.answer_late(place);
        } else if world.state() == RunState::Failure {
            let stuck: Vec<_> = world.machine.failures().keys().cloned().collect();
            if draw.below(3) == 0 {
                world.step(&Event::Retry);
            } else {
                for task in stuck {
                    world.step(&Event::Skip { task, reason: "by hand".into() });
                }
            }
        } else {
            return world;
        }
        while !world.state().is_final() {
            run_on(&mut world, &mut draw);
        }
    }
}

/// Continues until the run has ended, or a task waits for a notification.
pub(super) fn run_on(world: &mut Harness, draw: &mut SeededRng) {
    if !notify_somebody(world, draw) {
        world.step_or_advance();
    }
}
