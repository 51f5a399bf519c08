//! The bytes that the nodes of a firing hold: their values, failures and lists. Each change of one of them is counted here, so that the sum is
//! known without looking at the nodes.

use flow::{Failure, Failures, Json, NodeIndex, NodeName, Outcome};

use super::{
    FiringMachine,
    node::{NodeRun, NodeState},
};
use crate::bytes::{elements_bytes, failure_bytes, outcome_bytes, values_bytes};

impl FiringMachine {
    /// The bytes that its nodes hold, as a snapshot writes them, approximately: a value counts for each node that holds it.
    pub(in crate::machine) fn held_bytes(&self) -> u64 {
        self.held
    }

    /// Measures what a restored firing holds.
    pub(in crate::machine) fn measure_held(&mut self) {
        let of_nodes = self.nodes.iter().map(node_bytes);
        let of_lists = self.elements.values().map(|elements| list_bytes(&elements.expansion.list));
        let measured = of_nodes.chain(of_lists).fold(failures_bytes(&self.failures), u64::saturating_add);
        self.held = measured;
    }

    /// Counts something that had so many bytes before, and has so many now.
    pub(super) fn count_held(&mut self, before: u64, after: u64) {
        self.held = self.held.saturating_add(after).saturating_sub(before);
    }

    /// Replaces the late outcome of a node. Returns the one before.
    pub(super) fn set_late_outcome(&mut self, index: NodeIndex, outcome: Option<Outcome>) -> Option<Outcome> {
        let after = late_outcome_bytes(outcome.as_ref());
        let rare = &mut self.node_mut(index).rare;
        let old = match outcome {
            Some(outcome) => rare.late_outcome.replace(outcome),
            None => rare.remove(|rare| rare.late_outcome.take()),
        };
        self.count_held(late_outcome_bytes(old.as_ref()), after);
        old
    }

    /// Replaces the list of values that a controller tries.
    pub(super) fn set_controller_list(&mut self, index: NodeIndex, list: Option<Vec<Json>>) {
        let after = list.as_deref().map_or(0, list_bytes);
        let rare = &mut self.node_mut(index).rare;
        let old = match list {
            Some(list) => rare.list.replace(list),
            None => rare.remove(|rare| rare.list.take()),
        };
        self.count_held(old.as_deref().map_or(0, list_bytes), after);
    }

    /// Forgets all failures.
    pub(super) fn clear_failures(&mut self) {
        let old = std::mem::take(&mut self.failures);
        self.count_held(failures_bytes(&old), 0);
    }
}

/// The bytes of what a node holds.
fn node_bytes(node: &NodeRun) -> u64 {
    let late_outcome = late_outcome_bytes(node.rare.late_outcome.as_ref());
    let list = node.rare.list.as_deref().map_or(0, list_bytes);
    state_bytes(&node.state).saturating_add(late_outcome).saturating_add(list)
}

fn late_outcome_bytes(outcome: Option<&Outcome>) -> u64 {
    outcome.map_or(0, |outcome| outcome_bytes(outcome) as u64)
}

/// The bytes of what a state holds.
pub(super) fn state_bytes(state: &NodeState) -> u64 {
    let bytes = match state {
        NodeState::Success { provided } => values_bytes(provided.iter()),
        NodeState::Failure { failure, .. } => failure_bytes(failure),
        NodeState::RollingBack { outcome, .. } | NodeState::RollbackFailure { outcome } => outcome_bytes(outcome),
        NodeState::Pending
        | NodeState::NotInFiring
        | NodeState::Running { .. }
        | NodeState::RolledBack
        | NodeState::Retrying
        | NodeState::Ignored => 0,
    };
    bytes as u64
}

/// The bytes of a list.
pub(super) fn list_bytes(list: &[Json]) -> u64 {
    elements_bytes(list) as u64
}

/// The bytes of the failure of a node with this name.
pub(super) fn named_failure_bytes(name: &NodeName, failure: &Failure) -> u64 {
    (name.as_str().len() + failure_bytes(failure)) as u64
}

/// The bytes of failures.
pub(in crate::machine) fn failures_bytes(failures: &Failures) -> u64 {
    failures.iter().map(|(name, failure)| named_failure_bytes(name, failure)).fold(0, u64::saturating_add)
}
