//! How many firings of a run may be open: their number, their nodes and their values are limited.

use flow::{RunState, Values};

use super::{GivenValues, PendingTrigger, QueuedFiring, TriggerState, given_values::written_size, is_active};
use crate::machine::{Machine, firing::FiringMachine};

/// The number of open firings that a flow may always have, however many nodes it has: with fewer, a firing under way could not
/// trigger the next.
const MIN_OPEN_FIRINGS: usize = 2;

/// The maximum size of the values that open firings begin with, in bytes, whatever the limit `value` allows: each snapshot of the run
/// writes them. What their nodes hold later has a maximum of its own (`held.rs`).
const MAX_BEGIN_BYTES: u64 = 32 << 20;

impl Machine {
    /// The number of firings that may open now: each waits for its turn, is under way, or needs a person. If there is none,
    /// notifications are refused, back edges are skipped, and schedule times go to the backlog or are skipped.
    pub(in crate::machine) fn free_firings(&self, trigger_state: &TriggerState) -> usize {
        if self.has_too_large_firings(trigger_state) {
            return 0;
        }
        let open = self.open_firings().count() + trigger_state.queued.len();
        self.max_open_firings().saturating_sub(open)
    }

    /// Says to people why no firing may open now, if so.
    pub(super) fn no_free_firing(&self, trigger_state: &TriggerState) -> Option<String> {
        if self.has_too_large_firings(trigger_state) {
            let limit = self.flow.limits.value;
            if limit > MAX_BEGIN_BYTES {
                let most = flow::Size(MAX_BEGIN_BYTES);
                return Some(format!("all open firings together may begin with at most {most} of values"));
            }
            let most = flow::Size(limit);
            return Some(format!("the limit `value` allows {most} of values for all open firings together"));
        }
        if self.free_firings(trigger_state) > 0 {
            return None;
        }
        let (most, limits) = (self.max_open_firings(), &self.flow.limits);
        if most == limits.firings as usize {
            return Some(format!("{most} firings are open, and the limit `firings` allows no more"));
        }
        let nodes = self.flow.nodes.len();
        Some(format!(
            "{most} firings of {nodes} nodes are open, and the limit `elements` allows {} nodes",
            limits.elements
        ))
    }

    /// The maximum number of open firings: each has all nodes of the flow, as a list has its elements.
    fn max_open_firings(&self) -> usize {
        let limits = &self.flow.limits;
        let of_nodes = limits.elements as usize / self.flow.nodes.len().max(1);
        (limits.firings as usize).min(of_nodes.max(MIN_OPEN_FIRINGS))
    }

    fn open_firings(&self) -> impl Iterator<Item = &FiringMachine> {
        self.firings.values().filter(|firing| is_active(firing) || firing.state == RunState::Failure)
    }

    /// Whether the values that open firings and waiting back edges begin with are larger than a run may have together, as a
    /// snapshot writes them: once for each firing.
    fn has_too_large_firings(&self, trigger_state: &TriggerState) -> bool {
        let mut count = 0;
        let of_open = self.open_firings().map(firing_size);
        let held = of_open.chain(waiting_sizes(trigger_state)).inspect(|_| count += 1).fold(0, u64::saturating_add);
        // One firing may always begin.
        count > 1 && held > self.flow.limits.value.min(MAX_BEGIN_BYTES)
    }

    /// The bytes of the values that all firings, ended ones too, and waiting back edges begin with, as a snapshot writes them.
    pub(in crate::machine) fn begin_bytes(&self) -> u64 {
        let of_firings = self.firings.values().map(firing_size);
        of_firings.chain(self.triggers.iter().flat_map(waiting_sizes)).fold(0, u64::saturating_add)
    }
}

/// The bytes of the values that a firing began with.
pub(super) fn firing_size(firing: &FiringMachine) -> u64 {
    size(&firing.inputs, Some(&firing.inherited))
}

/// The bytes of the values of each firing that waits for its turn, and of each back edge that waits.
fn waiting_sizes(trigger_state: &TriggerState) -> impl Iterator<Item = u64> {
    let queued = trigger_state.queued.iter();
    let queued = queued.map(|QueuedFiring { values, inherited, .. }| size(values, inherited.as_ref()));
    let mut previous: Option<&GivenValues> = None;
    let pending = trigger_state.pending_triggers.iter().filter_map(move |PendingTrigger { values, given, .. }| {
        // The back edges of a firing share its values, in a snapshot too.
        let is_shared = previous.replace(given).is_some_and(|previous| previous.is_shared_with(given));
        (!is_shared).then(|| size(values, Some(given)))
    });
    queued.chain(pending)
}

fn size(values: &Values, given: Option<&GivenValues>) -> u64 {
    written_size(values).saturating_add(given.map_or(0, GivenValues::bytes))
}
