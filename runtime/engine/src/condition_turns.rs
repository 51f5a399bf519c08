//! The runs whose next decision evaluates conditions, in turns: a namespace, and in it a run, waits for one turn of each other, however many
//! runs those have, and however much their conditions cost.

use std::collections::{BTreeSet, VecDeque};

use flow::{EvaluationBudget, Namespace, RunId};

use crate::turns::{Turn, Turns};

/// The maximum cost of the conditions of all runs of one batch: about 25 ms, so that a request waits no longer. The conditions of the last
/// node may cost more, and then those of the next batches less.
const MAX_BATCH_COST: u64 = EvaluationBudget::MAX_COST / 4;

/// Number of turns of a batch whose conditions cost as much as those of one turn may.
pub(crate) const MAX_FULL_TURNS: usize = 8;

/// The maximum cost of the conditions of one turn: a batch has turns of several namespaces.
const MAX_TURN_COST: u64 = MAX_BATCH_COST / MAX_FULL_TURNS as u64;

/// What a turn costs beside its conditions.
const TURN_COST: u64 = 200;

/// The runs that wait for a turn. A plain value.
#[derive(Default)]
pub(crate) struct ConditionTurns {
    namespaces: Turns<Option<Namespace>, VecDeque<RunId>>,
    waiting: BTreeSet<RunId>,
    /// What is left of the cost of this batch.
    left: u64,
    /// What conditions have cost beyond the maximum of past batches.
    debt: u64,
}

impl ConditionTurns {
    /// Lets a run wait for a turn.
    pub(crate) fn push(&mut self, run: &RunId, namespace: Option<Namespace>) {
        if self.waiting.insert(run.clone()) {
            self.namespaces.entry(namespace).push_back(run.clone());
        }
    }

    /// Whether a run waits.
    pub(crate) fn has(&self, run: &RunId) -> bool {
        self.waiting.contains(run)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The number of runs that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Begins a batch. Batches without turns pay what an earlier one has cost too much.
    pub(crate) fn begin_batch(&mut self) {
        self.left = MAX_BATCH_COST.saturating_sub(self.debt);
        self.debt = self.debt.saturating_sub(MAX_BATCH_COST);
    }

    /// The run that has the next turn of this batch, and the maximum cost of its conditions.
    pub(crate) fn next(&mut self) -> Option<(RunId, u64)> {
        if self.left == 0 {
            return None;
        }
        let run = self.namespaces.take(|runs| {
            let run = runs.pop_front();
            (run, if runs.is_empty() { Turn::WasLast } else { Turn::IsOver })
        })?;
        self.waiting.remove(&run);
        let max_cost = self.left.min(MAX_TURN_COST);
        self.charge(TURN_COST);
        Some((run, max_cost))
    }

    /// Notes what conditions have cost.
    pub(crate) fn charge(&mut self, cost: u64) {
        self.debt = self.debt.saturating_add(cost.saturating_sub(self.left));
        self.left = self.left.saturating_sub(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> Option<Namespace> {
        Some(Namespace::new(name).unwrap())
    }

    fn run(name: impl AsRef<str>) -> RunId {
        RunId::new(name).unwrap()
    }

    /// The runs that have a turn in one batch, each of which costs the same.
    fn batch(turns: &mut ConditionTurns, cost: u64) -> Vec<String> {
        turns.begin_batch();
        let mut taken = Vec::new();
        while let Some((run, max_cost)) = turns.next() {
            assert!((1..=MAX_TURN_COST).contains(&max_cost));
            turns.charge(cost);
            taken.push(run.to_string());
        }
        taken
    }

    #[test]
    fn namespaces_take_turns_however_many_runs_they_have() {
        let mut turns = ConditionTurns::default();
        for index in 0..100 {
            turns.push(&run(format!("a{index}")), namespace("a"));
        }
        turns.push(&run("b0"), namespace("b"));
        turns.push(&run("c0"), None);
        turns.push(&run("b0"), namespace("b"));
        assert_eq!(turns.len(), 102, "a run waits once");
        assert!(turns.has(&run("b0")) && !turns.has(&run("b1")));
        turns.begin_batch();
        let first: Vec<String> = (0..5).map(|_| turns.next().unwrap().0.to_string()).collect();
        assert_eq!(first, ["a0", "b0", "c0", "a1", "a2"]);
        // A run that waits again comes after the others of its namespace.
        turns.push(&run("a0"), namespace("a"));
        assert_eq!(batch(&mut turns, 0).last().map(String::as_str), Some("a0"));
        assert!(turns.is_empty());
    }

    #[test]
    fn the_conditions_of_a_batch_have_a_maximum_cost() {
        let mut turns = ConditionTurns::default();
        for index in 0..10_000 {
            turns.push(&run(format!("a{index}")), None);
        }
        let cost = MAX_TURN_COST - TURN_COST;
        assert_eq!(batch(&mut turns, cost).len(), 8);
        assert_eq!(batch(&mut turns, cost).len(), 8);
        let many = batch(&mut turns, 0).len() as u64;
        assert_eq!(many, MAX_BATCH_COST / TURN_COST, "turns without conditions have a maximum number, too");
    }

    #[test]
    fn a_batch_that_cost_too_much_is_paid_by_the_next_ones() {
        let mut turns = ConditionTurns::default();
        for index in 0..100 {
            turns.push(&run(format!("a{index}")), None);
        }
        // The conditions of one node.
        let lengths: Vec<usize> = (0..9).map(|_| batch(&mut turns, EvaluationBudget::MAX_COST).len()).collect();
        assert_eq!(lengths, [1, 0, 0, 0, 1, 0, 0, 0, 1]);
    }
}
