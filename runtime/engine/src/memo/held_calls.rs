//! The calls whose jobs are held back while their results are looked up, by run: a run may have a million of them, and others
//! are loaded meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use flow::{CallId, RunId};

#[derive(Default)]
pub(super) struct HeldCalls(BTreeMap<RunId, BTreeSet<CallId>>);

impl HeldCalls {
    /// Adds a call. Returns whether it is new.
    pub(super) fn add(&mut self, call: CallId) -> bool {
        self.0.entry(call.run.clone()).or_default().insert(call)
    }

    pub(super) fn contains(&self, call: &CallId) -> bool {
        self.0.get(&call.run).is_some_and(|calls| calls.contains(call))
    }

    /// Removes a call. Returns whether it was held.
    pub(super) fn remove(&mut self, call: &CallId) -> bool {
        let Some(calls) = self.0.get_mut(&call.run) else { return false };
        let was_held = calls.remove(call);
        if calls.is_empty() {
            self.0.remove(&call.run);
        }
        was_held
    }

    /// Removes all calls of a run.
    pub(super) fn remove_run(&mut self, run: &RunId) {
        self.0.remove(run);
    }
}
