//! Properties of all histories: random flows, guests that fail at random, answers in any order.

mod random;
mod rollback_order;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    harness::{applied_and_rolled_back, flow},
    random_flows::random_flow,
};
use crate::{Event, Fact, Machine, NodeAttempt, StepLimits, seeded_rng::SeededRng};
use flow::{Action, CallId, Edit, Execution, NodeIndex, NodeName, RunState, Signal, State};
use random::{
    Edits, continue_to_end, run_history, run_history_to_end, run_history_with, run_on, run_triggered_history,
    run_without_faults,
};
use rollback_order::{has_rollback, remaining_effects, rollback_is_strictly_backwards};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn every_run_that_ends_is_in_success_rolled_back_or_failure(seed in any::<u64>()) {
        let harness = run_history(seed);
        let (applied, rolled_back) = applied_and_rolled_back(&harness.records);
        let graph = harness.graph_of(None);
        let main_nodes = graph.nodes().filter(|(_, node)| !node.is_failure_handler);
        match harness.state() {
            // A `for_each` task reports whether its elements are in success.
            RunState::Success => for (index, node) in main_nodes.filter(|(_, node)| !node.is_of_a_list) {
                let state = harness.machine.node_state(index);
                // The earlier lost effects of an ignored task are rolled back.
                let is_done = matches!(state, State::Success | State::Ignored | State::RolledBack);
                prop_assert!(is_done, "{:?} is {}", node.name, state);
            },
            RunState::RolledBack => {
                let mut applied_main_nodes = applied.iter().filter(|index| !graph.node(NodeIndex(**index)).is_failure_handler);
                prop_assert!(applied_main_nodes.all(|index| rolled_back.contains(index)), "{:?} {:?}", applied, rolled_back);
            }
            RunState::Failure => prop_assert!(!harness.machine.failures().is_empty()),
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
    fn a_run_whose_conditions_are_decided_one_by_one_reaches_the_same_end(seed in any::<u64>()) {
        let flow = flow(&random_flow(&mut SeededRng(seed)));
        let at_once = run_without_faults(&flow, StepLimits::default());
        let one_by_one = run_without_faults(&flow, StepLimits { conditions: 1, ..StepLimits::default() });
        prop_assert!(one_by_one.state().is_final());
        // A task that could start beside one that fails may have started or not.
        let is_failure = |fact: &Fact| matches!(fact, Fact::Failed { .. } | Fact::StartFailed { .. });
        if !at_once.records.iter().any(|record| is_failure(&record.fact)) {
            prop_assert_eq!(one_by_one.state(), at_once.state());
            prop_assert_eq!(one_by_one.values(), at_once.values());
            for index in flow.indices() {
                prop_assert_eq!(one_by_one.machine.node_state(index), at_once.machine.node_state(index));
            }
        }
    }

    #[test]
    fn a_late_outcome_is_always_rolled_back(seed in any::<u64>()) {
        let harness = run_history_to_end(seed);
        if harness.state() == RunState::RolledBack {
            let graph = harness.graph_of(None);
            let mut skipped = BTreeSet::new();
            for record in &harness.records {
                if let Fact::RollbackSkipped { node, .. } = &record.fact {
                    skipped.insert(graph.node(*node).name.clone());
                }
            }
            let effects = remaining_effects(&harness);
            let remaining = effects.iter().find(|task| has_rollback(&harness, task) && !skipped.contains(*task));
            prop_assert!(remaining.is_none(), "the effects of {:?} remain", remaining);
        }
    }

    #[test]
    fn an_edit_at_any_time_keeps_rollback_complete(seed in any::<u64>()) {
        // Each step compares the live machine with replay and with a snapshot.
        let harness = continue_to_end(seed, run_history_with(seed, Edits::Some));
        let skipped = harness.records.iter().any(|record| matches!(record.fact, Fact::RollbackSkipped { .. }));
        if harness.state() == RunState::RolledBack && !skipped {
            let flow = harness.machine.flow();
            // The effects of a module without a rollback remain, though the replacing module has one.
            let edits = &flow.origin.as_ref().unwrap().edits;
            let is_replaced = |name: &NodeName| {
                edits.iter().any(|edit| matches!(edit, Edit::Use { task, .. } if *task == name.base()))
            };
            let mut effects = remaining_effects(&harness).into_iter();
            let remaining = effects.find(|task| has_rollback(&harness, task) && !is_replaced(task));
            prop_assert!(remaining.is_none(), "the effects of {:?} remain", remaining);
        }
    }

    #[test]
    fn each_firing_is_rolled_back_alone_in_reverse_order(seed in any::<u64>()) {
        // Each step compares the live machine with replay and with a snapshot.
        let harness = run_triggered_history(seed);
        let is_edited = harness.records.iter().any(|record| matches!(record.fact, Fact::Edited { .. }));
        if !is_edited {
            rollback_is_strictly_backwards(&harness);
        }
        prop_assert!(harness.machine.firings().all(|(_, state)| state.is_final()));
    }

    #[test]
    fn a_run_that_was_rolled_back_can_start_again(seed in any::<u64>()) {
        let mut harness = run_history_to_end(seed);
        if harness.state() == RunState::RolledBack {
            harness.step(&Event::Retry);
            let mut rng = SeededRng(seed);
            while !harness.state().is_final() {
                run_on(&mut harness, &mut rng);
            }
        }
    }

    #[test]
    fn assert_replay_equals_live(seed in any::<u64>()) {
        // Each step compares the two already; this compares the whole history, replayed record by record.
        let harness = run_history(seed);
        let run = harness.machine.run().clone();
        let mut replayed = Machine::new(run.clone(), harness.machine.flow().clone());
        for (index, record) in harness.records.iter().enumerate() {
            replayed.evolve(record).unwrap();
            if index % 8 != 0 {
                continue;
            }
            prop_assert!(Machine::replay(run.clone(), &harness.records[..=index]).unwrap() == replayed, "after {}", index + 1);
        }
        prop_assert!(replayed == harness.machine);
    }

    #[test]
    fn duplicate_late_or_reordered_events_change_nothing(seed in any::<u64>()) {
        let harness = run_history(seed);
        let run = harness.machine.run().clone();
        let mut machine = Machine::new(run.clone(), harness.machine.flow().clone());
        let mut lost: BTreeSet<CallId> = BTreeSet::new();
        let mut reported: BTreeSet<Execution> = BTreeSet::new();
        let call = |attempt: &NodeAttempt, action: &Action| CallId {
            run: run.clone(),
            task: harness.graph_of(None).node(attempt.node).name.clone(),
            firing: attempt.firing,
            attempt: attempt.attempt,
            action: *action,
        };
        // At every point of the history, every answer that is not awaited at that point has no effect.
        for record in &harness.records {
            machine.evolve(record).unwrap();
            if let Fact::Lost { attempt, action, .. } = &record.fact {
                lost.insert(call(attempt, action));
            }
            if let Fact::LateOutcome { attempt, action, execution, .. } = &record.fact {
                lost.remove(&call(attempt, action));
                reported.extend(*execution);
            }
            if let Fact::Succeeded { execution, .. } | Fact::Failed { execution: Some(execution), .. } = &record.fact {
                reported.insert(*execution);
            }
            let awaited: BTreeSet<CallId> = machine.outstanding_calls().chain(lost.iter().cloned()).collect();
            // The answer of an apply that no record reports yet always matters.
            let is_unreported = |signal: &&Signal| {
                signal.call.action == Action::Apply
                    && !reported.contains(&signal.execution)
            };
            let is_ignored = |signal: &&Signal| !awaited.contains(&signal.call) && !is_unreported(signal);
            for signal in harness.answered().iter().filter(is_ignored) {
                prop_assert_eq!(machine.decide(harness.now, &Event::Signal(signal.clone())), []);
            }
            prop_assert_eq!(machine.decide(harness.now, &Event::Start), []);
        }
    }
}
