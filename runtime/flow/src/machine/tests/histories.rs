//! Properties of any history: random flows, guests that fail at random, answers in any order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::world::{World, applied_and_undone, flow};
use crate::{CallId, Event, Fact, Machine, NodeIndex, Record, Role, RunState, draw::Draw};

/// A random flow as text, nested up to three deep.
fn random_flow(draw: &mut Draw) -> String {
    let mut text = controller(draw);
    let mut names = 0;
    body(draw, "", 0, &mut names, &mut text);
    text
}

fn controller(draw: &mut Draw) -> String {
    match draw.below(6) {
        0 => "retry = { times = 2 }\n".into(),
        1 => "retry = { for_each = [1, 2, 3] }\n".into(),
        2 => "retry = { always = \"rollback\" }\n".into(),
        3 => "retry = { times = 2, otherwise = \"rollback-all\" }\n".into(),
        _ => String::new(),
    }
}

fn body(draw: &mut Draw, prefix: &str, depth: u32, names: &mut u32, text: &mut String) {
    let linear = draw.below(2) == 0;
    let mut tasks = Vec::new();
    for _ in 0..draw.below(5) {
        *names += 1;
        let guest = ["noop", "noop", "plain", "flaky", "fails", "five", "nasty", "stubborn"][draw.below(8)];
        let attempts = 1 + draw.below(3);
        text.push_str(&format!(
            "[[{prefix}task]]\nname = \"t{names}\"\nuse = \"g#{guest}\"\nprovides = []\n\
             retry = {{ attempts = {attempts}, initial = \"1s\" }}\npriority = {}\n",
            draw.below(3)
        ));
        tasks.push(*names);
    }
    if linear || tasks.len() < 2 {
        for pair in tasks.windows(2) {
            text.push_str(&format!("[[{prefix}link]]\nfrom = \"t{}\"\nto = \"t{}\"\n", pair[0], pair[1]));
        }
    } else {
        for _ in 0..draw.below(4) {
            let (one, other) = (draw.below(tasks.len()), draw.below(tasks.len()));
            if one < other {
                text.push_str(&format!("[[{prefix}link]]\nfrom = \"t{}\"\nto = \"t{}\"\n", tasks[one], tasks[other]));
            }
        }
    }
    if depth < 3 {
        for _ in 0..draw.below(3) {
            *names += 1;
            text.push_str(&format!("[[{prefix}flow]]\nname = \"n{names}\"\n{}", controller(draw)));
            body(draw, &format!("{prefix}flow."), depth + 1, names, text);
        }
    }
}

/// Lives one history; answers come in any order, and a person interferes now and then.
fn live(seed: u64) -> World {
    let mut draw = Draw(seed);
    let mut world = World::start(flow(&random_flow(&mut draw)));
    let mut steps = 0;
    while !world.state().is_final() {
        steps += 1;
        assert!(steps < 20_000, "the run does not end");
        if world.state() == RunState::Suspended {
            world.step(&Event::Resume);
        } else if draw.below(60) == 0 {
            world.step(&Event::Suspend);
        } else if draw.below(300) == 0 {
            world.step(&Event::Cancel);
        } else if world.out.is_empty() {
            match world.machine.next_due() {
                Some(due) => world.now = world.now.max(due),
                None => panic!("a run in {} without calls waits for time", world.state()),
            }
            world.step(&Event::Tick);
        } else {
            let place = draw.below(world.out.len());
            world.answer(place);
        }
    }
    world
}

/// Whether everything that came after a node was undone, or never ran, when it was rolled back itself.
fn rollback_is_strictly_backwards(world: &World) {
    let flow = world.machine.flow();
    let mut standing: BTreeSet<NodeIndex> = BTreeSet::new();
    for Record { fact, .. } in &world.records {
        match fact {
            Fact::Started { attempt, action: crate::Action::Apply } => {
                standing.insert(attempt.node);
            }
            Fact::ControllerRan { node, .. } | Fact::ControllerFailed { node, .. } => {
                standing.insert(*node);
            }
            Fact::Started { attempt, action: crate::Action::Rollback } => {
                assert!(standing.contains(&attempt.node), "only what ran is rolled back");
                nothing_after_stands(flow, attempt.node, &standing);
            }
            Fact::PassedRollback { node } => {
                assert!(standing.contains(node), "only what ran is rolled back");
                nothing_after_stands(flow, *node, &standing);
                standing.remove(node);
            }
            Fact::RolledBack { attempt, .. } => {
                standing.remove(&attempt.node);
            }
            Fact::RunStarted { .. }
            | Fact::Succeeded { .. }
            | Fact::Failed { .. }
            | Fact::RollbackFailed { .. }
            | Fact::Resolved { .. }
            | Fact::Retrying { .. }
            | Fact::CancelRequested
            | Fact::SuspendRequested
            | Fact::Resumed
            | Fact::RunEntered { .. } => {}
        }
    }
}

fn nothing_after_stands(flow: &crate::Flow, node: NodeIndex, standing: &BTreeSet<NodeIndex>) {
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
        let world = live(seed);
        let (applied, undone) = applied_and_undone(&world.records);
        let flow = world.machine.flow();
        let is_task = |index: &u32| matches!(flow.node(NodeIndex(*index)).role, Role::Task(_));
        match world.state() {
            RunState::Success => prop_assert_eq!(applied.iter().filter(|index| is_task(index)).count(), flow.tasks().count()),
            RunState::RolledBack => prop_assert!(applied.is_subset(&undone), "{:?} {:?}", applied, undone),
            RunState::Failure => prop_assert!(!world.machine.failures().is_empty()),
            state @ (RunState::Pending | RunState::Running | RunState::Suspending | RunState::Suspended) => {
                prop_assert!(false, "the run ended in {}", state);
            }
        }
    }

    #[test]
    fn rollback_visits_what_was_or_may_have_been_applied_strictly_backwards_and_nothing_else(seed in any::<u64>()) {
        rollback_is_strictly_backwards(&live(seed));
    }

    #[test]
    fn replay_equals_live(seed in any::<u64>()) {
        // Each step compares the two already; here, the history as a whole, told again record by record.
        let world = live(seed);
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
    fn an_event_twice_late_or_out_of_order_changes_nothing(seed in any::<u64>()) {
        let world = live(seed);
        let run = world.machine.run().clone();
        let mut machine = Machine::new(run, world.machine.flow().clone());
        // At every point of the history, every answer that is not asked for at that point means nothing.
        for record in &world.records {
            machine.evolve(record).unwrap();
            let asked: BTreeSet<CallId> = machine.calls_out().collect();
            for signal in world.answered().iter().filter(|signal| !asked.contains(&signal.call)) {
                prop_assert_eq!(machine.decide(world.now, &Event::Signal(signal.clone())), []);
            }
            prop_assert_eq!(machine.decide(world.now, &Event::Start), []);
        }
    }
}
