//! Properties of all histories: random flows, guests that fail at random, answers in any order.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;

use super::{
    harness::{Harness, applied_and_undone, flow},
    random_flows::{random_flow, random_triggered_flow},
};
use crate::{
    Action, CallId, Edit, Event, Execution, Fact, Failure, FailureKind, Firing, MAX_STEP_RECORDS, Machine, NodeAttempt,
    NodeIndex, NodeName, Record, Role, RunState, Signal, SourceOutcome, State, TaskResult, Value, Values,
    seeded_rng::SeededRng,
};

/// Runs one random history; answers come in any order, with occasional run commands.
fn run_history(seed: u64) -> Harness {
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
enum Edits {
    None,
    Some,
}

fn run_history_with(seed: u64, edits: Edits) -> Harness {
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
fn run_triggered_history(seed: u64) -> Harness {
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
fn run_history_to_end(seed: u64) -> Harness {
    continue_to_end(seed, run_history(seed))
}

fn continue_to_end(seed: u64, mut world: Harness) -> Harness {
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
fn run_on(world: &mut Harness, draw: &mut SeededRng) {
    if !notify_somebody(world, draw) {
        world.step_or_advance();
    }
}

/// The tasks whose effects remain: applied, and not rolled back since.
fn standing_effects(world: &Harness) -> BTreeSet<NodeName> {
    let mut standing = BTreeSet::new();
    for (task, action) in &world.done {
        match action {
            crate::Action::Apply => drop(standing.insert(task.clone())),
            crate::Action::Rollback => drop(standing.remove(task)),
        }
    }
    standing
}

/// Whether the effects of a task can be rolled back.
fn has_rollback(world: &Harness, task: &NodeName) -> bool {
    world.machine.task(task).expect("what was called stays in the flow").rollback
}

/// Checks that all successors of a node were rolled back, or never ran, when it was rolled back itself.
fn rollback_is_strictly_backwards(world: &Harness) {
    let firings: BTreeSet<Option<Firing>> = world.records.iter().map(|record| record.firing).collect();
    for firing in firings {
        rollback_of_a_firing_is_strictly_backwards(world, firing);
    }
}

fn rollback_of_a_firing_is_strictly_backwards(world: &Harness, firing: Option<Firing>) {
    let flow = world.flow_of(firing);
    let mut standing: BTreeSet<NodeIndex> = BTreeSet::new();
    let mut late: BTreeSet<NodeIndex> = BTreeSet::new();
    for Record { fact, .. } in world.records.iter().filter(|record| record.firing == firing) {
        match fact {
            // A failure handler is not rolled back.
            Fact::Started { attempt, action: crate::Action::Apply } if flow.node(attempt.node).is_failure_handler => {}
            Fact::StartFailed { node, .. } if flow.node(*node).is_failure_handler => {}
            Fact::Started { attempt, action: crate::Action::Apply } => {
                standing.insert(attempt.node);
            }
            Fact::ControllerRan { node, .. } | Fact::StartFailed { node, .. } => {
                standing.insert(*node);
            }
            Fact::LateOutcome { attempt, outcome: Some(_), .. } if can_roll_back(flow, attempt.node) => {
                // Its predecessors may be rolled back already: its own rollback is repeated separately.
                late.insert(attempt.node);
            }
            Fact::Started { attempt, action: crate::Action::Rollback } => {
                assert!(
                    late.contains(&attempt.node) || standing.contains(&attempt.node),
                    "only what ran is rolled back"
                );
                // Successors did not use the effects of an earlier attempt.
                if standing.contains(&attempt.node) {
                    no_later_effect_stands(flow, attempt.node, &standing);
                }
            }
            Fact::RollbackNotNeeded { node } => {
                assert!(standing.contains(node), "only what ran is rolled back");
                no_later_effect_stands(flow, *node, &standing);
                standing.remove(node);
            }
            Fact::RolledBack { attempt, .. } => {
                standing.remove(&attempt.node);
            }
            Fact::RunStarted { .. }
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
            | Fact::Succeeded { .. }
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
            | Fact::Retrying { .. }
            | Fact::CancelRequested
            | Fact::SuspendRequested
            | Fact::Resumed
            | Fact::RunStateChanged { .. } => {}
        }
    }
}

fn is_of_a_list(flow: &crate::Flow, node: NodeIndex) -> bool {
    matches!(flow.node(node).role, Role::Element(_) | Role::FanIn(_))
}

fn can_roll_back(flow: &crate::Flow, node: NodeIndex) -> bool {
    flow.task_called(node).is_some_and(|task| task.rollback)
}

fn no_later_effect_stands(flow: &crate::Flow, node: NodeIndex, standing: &BTreeSet<NodeIndex>) {
    let mut seen = BTreeSet::new();
    let mut work = flow.node(node).after.clone();
    while let Some(after) = work.pop() {
        if seen.insert(after) {
            assert!(
                !standing.contains(&after),
                "{:?} is rolled back before {:?}",
                flow.node(node).name,
                flow.node(after).name
            );
            work.extend(&flow.node(after).after);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn every_run_that_ends_is_in_success_rolled_back_or_failure(seed in any::<u64>()) {
        let world = run_history(seed);
        let (applied, undone) = applied_and_undone(&world.records);
        let flow = world.flow_of(None);
        let main = || flow.indices().filter(|index| !flow.node(*index).is_failure_handler);
        match world.state() {
            // A `for_each` task reports whether its elements are in success.
            RunState::Success => for index in main().filter(|index| !is_of_a_list(flow, *index)) {
                let state = world.machine.node_state(index);
                // The earlier lost effects of an ignored task are rolled back.
                let is_done = matches!(state, State::Success | State::Ignored | State::RolledBack);
                prop_assert!(is_done, "{:?} is {}", flow.node(index).name, state);
            },
            RunState::RolledBack => {
                let mut applied_in_the_main = applied.iter().filter(|index| !flow.node(NodeIndex(**index)).is_failure_handler);
                prop_assert!(applied_in_the_main.all(|index| undone.contains(index)), "{:?} {:?}", applied, undone);
            }
            RunState::Failure => prop_assert!(!world.machine.failures().is_empty()),
            state @ (RunState::Pending | RunState::Running | RunState::Suspending | RunState::Suspended) => {
                prop_assert!(false, "the run ended in {}", state);
            }
        }
    }

    #[test]
    fn rollback_visits_exactly_the_applied_tasks_in_reverse_order(seed in any::<u64>()) {
        rollback_is_strictly_backwards(&run_history(seed));
    }

    #[test]
    fn a_late_outcome_is_always_rolled_back(seed in any::<u64>()) {
        let world = run_history_to_end(seed);
        if world.state() == RunState::RolledBack {
            let flow = world.flow_of(None);
            let mut skipped = BTreeSet::new();
            for record in &world.records {
                if let Fact::RollbackSkipped { node, .. } = &record.fact {
                    skipped.insert(flow.node(*node).name.clone());
                }
            }
            let standing = standing_effects(&world);
            let forgotten = standing.iter().find(|task| has_rollback(&world, task) && !skipped.contains(*task));
            prop_assert!(forgotten.is_none(), "{:?} stands", forgotten);
        }
    }

    #[test]
    fn an_edit_at_any_time_keeps_rollback_complete(seed in any::<u64>()) {
        // Each step compares the live machine with replay and with a snapshot.
        let world = continue_to_end(seed, run_history_with(seed, Edits::Some));
        let skipped = world.records.iter().any(|record| matches!(record.fact, Fact::RollbackSkipped { .. }));
        if world.state() == RunState::RolledBack && !skipped {
            let flow = world.machine.flow();
            // The effects of a module without a rollback remain, though the replacing module has one.
            let edits = &flow.origin.as_ref().unwrap().edits;
            let is_replaced = |name: &NodeName| {
                edits.iter().any(|edit| matches!(edit, Edit::Use { task, .. } if *task == name.base()))
            };
            let mut standing = standing_effects(&world).into_iter();
            let forgotten = standing.find(|task| has_rollback(&world, task) && !is_replaced(task));
            prop_assert!(forgotten.is_none(), "{:?} stands", forgotten);
        }
    }

    #[test]
    fn each_firing_is_rolled_back_alone_in_reverse_order(seed in any::<u64>()) {
        // Each step compares the live machine with replay and with a snapshot.
        let world = run_triggered_history(seed);
        let is_edited = world.records.iter().any(|record| matches!(record.fact, Fact::Edited { .. }));
        if !is_edited {
            rollback_is_strictly_backwards(&world);
        }
        prop_assert!(world.machine.firings().all(|(_, state)| state.is_final()));
    }

    #[test]
    fn a_run_that_was_rolled_back_can_begin_again(seed in any::<u64>()) {
        let mut world = run_history_to_end(seed);
        if world.state() == RunState::RolledBack {
            world.step(&Event::Retry);
            let mut draw = SeededRng(seed);
            while !world.state().is_final() {
                run_on(&mut world, &mut draw);
            }
        }
    }

    #[test]
    fn assert_replay_equals_live(seed in any::<u64>()) {
        // Each step compares the two already; this compares the whole history, replayed record by record.
        let world = run_history(seed);
        let run = world.machine.run().clone();
        let mut replayed = Machine::new(run.clone(), world.machine.flow().clone());
        for (told, record) in world.records.iter().enumerate() {
            replayed.evolve(record).unwrap();
            if told % 8 != 0 {
                continue;
            }
            prop_assert!(Machine::replay(run.clone(), &world.records[..=told]).unwrap() == replayed, "after {}", told + 1);
        }
        prop_assert!(replayed == world.machine);
    }

    #[test]
    fn duplicate_late_or_reordered_events_change_nothing(seed in any::<u64>()) {
        let world = run_history(seed);
        let run = world.machine.run().clone();
        let mut machine = Machine::new(run.clone(), world.machine.flow().clone());
        let mut lost: BTreeSet<CallId> = BTreeSet::new();
        let mut heard: BTreeSet<Execution> = BTreeSet::new();
        let call = |attempt: &NodeAttempt, action: &Action| CallId {
            run: run.clone(),
            task: world.flow_of(None).node(attempt.node).name.clone(),
            firing: attempt.firing,
            attempt: attempt.attempt,
            action: *action,
        };
        // At every point of the history, every answer that is not awaited at that point has no effect.
        for record in &world.records {
            machine.evolve(record).unwrap();
            if let Fact::Lost { attempt, action, .. } = &record.fact {
                lost.insert(call(attempt, action));
            }
            if let Fact::LateOutcome { attempt, action, execution, .. } = &record.fact {
                lost.remove(&call(attempt, action));
                heard.extend(*execution);
            }
            if let Fact::Succeeded { execution, .. } | Fact::Failed { execution: Some(execution), .. } = &record.fact {
                heard.insert(*execution);
            }
            let asked: BTreeSet<CallId> = machine.outstanding_calls().chain(lost.iter().cloned()).collect();
            // The answer of an apply that no record reports yet always matters.
            let is_news = |signal: &&Signal| {
                signal.call.action == Action::Apply
                    && !heard.contains(&signal.execution)
            };
            let known = |signal: &&Signal| !asked.contains(&signal.call) && !is_news(signal);
            for signal in world.answered().iter().filter(known) {
                prop_assert_eq!(machine.decide(world.now, &Event::Signal(signal.clone())), []);
            }
            prop_assert_eq!(machine.decide(world.now, &Event::Start), []);
        }
    }
}
