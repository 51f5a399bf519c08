//! Checks of a whole history: which effects remain, and whether rollback went strictly backwards.

use std::collections::BTreeSet;

use super::super::harness::{Graph, Harness};
use crate::{Fact, Record};
use flow::{Firing, NodeIndex, NodeName};

/// The tasks whose effects remain: applied, and not rolled back since.
pub(super) fn remaining_effects(harness: &Harness) -> BTreeSet<NodeName> {
    let mut applied = BTreeSet::new();
    for (task, action) in &harness.done {
        match action {
            flow::Action::Apply => drop(applied.insert(task.clone())),
            flow::Action::Rollback => drop(applied.remove(task)),
        }
    }
    applied
}

/// Whether the effects of a task can be rolled back.
pub(super) fn has_rollback(harness: &Harness, task: &NodeName) -> bool {
    harness.machine.task(task).expect("what was called stays in the flow").rollback
}

/// Checks that all successors of a node were rolled back, or never ran, when it was rolled back itself.
pub(super) fn rollback_is_strictly_backwards(harness: &Harness) {
    let firings: BTreeSet<Option<Firing>> = harness.records.iter().map(|record| record.firing).collect();
    for firing in firings {
        rollback_of_a_firing_is_strictly_backwards(harness, firing);
    }
}

fn rollback_of_a_firing_is_strictly_backwards(harness: &Harness, firing: Option<Firing>) {
    let graph = harness.graph_of(firing);
    let mut applied: BTreeSet<NodeIndex> = BTreeSet::new();
    let mut late: BTreeSet<NodeIndex> = BTreeSet::new();
    for Record { fact, .. } in harness.records.iter().filter(|record| record.firing == firing) {
        match fact {
            // A failure handler is not rolled back.
            Fact::Started { attempt, action: flow::Action::Apply } if graph.node(attempt.node).is_failure_handler => {}
            Fact::StartFailed { node, .. } if graph.node(*node).is_failure_handler => {}
            Fact::Started { attempt, action: flow::Action::Apply } => {
                applied.insert(attempt.node);
            }
            Fact::ControllerRan { node, .. } | Fact::StartFailed { node, .. } => {
                applied.insert(*node);
            }
            Fact::LateOutcome { attempt, outcome: Some(_), .. } if graph.node(attempt.node).can_roll_back => {
                // Its predecessors may be rolled back already: its own rollback is repeated separately.
                late.insert(attempt.node);
            }
            Fact::Started { attempt, action: flow::Action::Rollback } => {
                assert!(
                    late.contains(&attempt.node) || applied.contains(&attempt.node),
                    "only what ran is rolled back"
                );
                // Successors did not use the effects of an earlier attempt.
                if applied.contains(&attempt.node) {
                    assert_no_later_effect(&graph, attempt.node, &applied);
                }
            }
            Fact::RollbackNotNeeded { node } => {
                assert!(applied.contains(node), "only what ran is rolled back");
                assert_no_later_effect(&graph, *node, &applied);
                applied.remove(node);
            }
            Fact::RolledBack { attempt, .. } => {
                applied.remove(&attempt.node);
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
            | Fact::Remembered { .. }
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

fn assert_no_later_effect(graph: &Graph, node: NodeIndex, applied: &BTreeSet<NodeIndex>) {
    let mut seen = BTreeSet::new();
    let mut work = graph.node(node).after.clone();
    while let Some(after) = work.pop() {
        if seen.insert(after) {
            assert!(
                !applied.contains(&after),
                "{:?} is rolled back before {:?}",
                graph.node(node).name,
                graph.node(after).name
            );
            work.extend(&graph.node(after).after);
        }
    }
}
