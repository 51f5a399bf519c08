//! Finds what could go on and has no turn: nothing else would notice that a turn was forgotten. Debug builds look for it after each step, and so
//! does each simulation.

use flow::{CallId, RunId, Timestamp};
use machine::Event;

use super::Driver;
use crate::runs::{ActiveRun, is_inactive};

/// Maximum number of nodes of a run that is checked: for a larger one the check would take longer than the step.
const MAX_CHECKED_NODES: usize = 1_000;

impl Driver {
    /// A run among these that can go on now, without a turn for its events or its conditions, and without a timer that is due.
    pub(super) fn stalled<'a>(&self, now: Timestamp, runs: &'a [RunId]) -> Option<&'a RunId> {
        runs.iter().find(|run| {
            // A run that awaits answers goes on once they are decided.
            let Some(active) = self.checked(run).filter(|active| !active.awaits_answers) else { return false };
            let has_timer = active.due.is_some_and(|at| at <= now);
            let has_turn = has_timer || self.deferred.has_tick(run) || self.conditions.has(run);
            !has_turn && !active.machine.decide(now, &Event::Tick).is_empty()
        })
    }

    /// A call of these runs that may not start any more, and that nobody withdraws: nothing would end it.
    pub(super) fn forgotten_call(&self, runs: &[RunId]) -> Option<CallId> {
        runs.iter().find_map(|run| {
            let active = self.checked(run).filter(|active| !is_inactive(active.machine.state()))?;
            // One that waits for a permit is withdrawn by an event.
            let mut unwanted = active.machine.withdrawable_calls().filter(|_| !self.deferred.has(run));
            unwanted.find(|call| !self.withdrawals.has(active.machine.flow().name.namespace(), &active.shard, call))
        })
    }

    fn checked(&self, run: &RunId) -> Option<&ActiveRun> {
        self.runs.get(run).filter(|active| active.machine.node_count() <= MAX_CHECKED_NODES)
    }
}
