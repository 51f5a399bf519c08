//! Finds runs that could go on and have no turn: nothing else would notice that a turn was forgotten. Debug builds look for them after each
//! step, and so does each simulation.

use flow::{RunId, Timestamp};
use machine::Event;

use super::Driver;

/// Maximum number of nodes of a run that is checked: for a larger one the check would take longer than the step.
const MAX_CHECKED_NODES: usize = 10_000;

impl Driver {
    /// A run among these that can go on now, without a turn for its events or its conditions, and without a timer that is due.
    pub(super) fn stalled<'a>(&self, now: Timestamp, runs: &'a [RunId]) -> Option<&'a RunId> {
        runs.iter().find(|run| {
            let Some(active) = self.runs.get(run) else { return false };
            let has_timer = active.due.is_some_and(|at| at <= now);
            let has_turn = has_timer || self.deferred.has_tick(run) || self.conditions.has(run);
            !has_turn
                && active.machine.node_count() <= MAX_CHECKED_NODES
                && !active.machine.decide(now, &Event::Tick).is_empty()
        })
    }
}
