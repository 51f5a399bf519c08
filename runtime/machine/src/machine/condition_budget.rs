//! What the conditions of one step may cost, and whether calls expire in it.

use std::cell::Cell;

use flow::EvaluationBudget;

use super::{CallExpiry, StepLimits};

/// What the conditions of a step may still cost. Decisions take from it what they have cost; once nothing is left, nodes with conditions
/// wait for another step. It never changes a decision, only its time.
#[derive(Debug)]
pub(super) struct ConditionBudget {
    max: u64,
    /// Decisions of many nodes share it while they iterate.
    spent: Cell<u64>,
    held: Cell<u64>,
    expiry: CallExpiry,
}

impl ConditionBudget {
    /// The budget of a step with these limits.
    pub(super) fn of(StepLimits { conditions, expiry, .. }: StepLimits) -> Self {
        Self { max: conditions, spent: Cell::new(0), held: Cell::new(0), expiry }
    }

    /// Whether calls expire now that no worker has started in time.
    pub(super) fn lets_calls_expire(&self) -> bool {
        self.expiry == CallExpiry::Due
    }

    /// Whether a decision may be made now, which evaluates conditions or not. If it may not, it counts as held.
    pub(super) fn admits(&self, evaluates_conditions: bool) -> bool {
        let is_admitted = !evaluates_conditions || self.spent.get() < self.max;
        if !is_admitted {
            self.held.set(self.held.get() + 1);
        }
        is_admitted
    }

    /// Takes what conditions have cost, which may be more than is left: a node is decided as a whole.
    pub(super) fn charge(&self, cost: &EvaluationBudget) {
        self.spent.set(self.spent.get().saturating_add(cost.spent()));
    }

    /// What conditions have cost so far.
    pub(super) fn spent(&self) -> u64 {
        self.spent.get()
    }

    /// The number of decisions that were held so far.
    pub(super) fn held(&self) -> u64 {
        self.held.get()
    }
}

impl Default for ConditionBudget {
    fn default() -> Self {
        Self::of(StepLimits::default())
    }
}
