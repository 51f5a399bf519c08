//! Calls whose jobs are about to be made. A job has all inputs of its call, and a run may dispatch thousands of calls at once: so each batch
//! makes some of the jobs, one for each namespace in turn, and in it for each run.
//!
//! A plain value. It has the ids of calls only: their inputs are read from the machine when it is their turn. What it forgets when the
//! process ends is sent again from the records.

use std::collections::{BTreeMap, VecDeque};

use flow::{CallId, Namespace, RunId};

use crate::turns::{Turn, Turns};

/// What follows for a call, for which its inputs are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueuedStep {
    /// Its remembered result is looked up.
    LookUp,
    /// Its job is sent. It has a permit if it needs one.
    Send,
}

/// The calls that wait for their turn.
#[derive(Default)]
pub(crate) struct CallQueue {
    namespaces: Turns<Option<Namespace>, Turns<RunId, VecDeque<CallId>>>,
    /// What follows for each call that waits, by its run. Each is in the turns once.
    waiting: BTreeMap<RunId, BTreeMap<CallId, QueuedStep>>,
    /// Calls that their runs no longer want, and that are about to be withdrawn.
    unwanted: BTreeMap<RunId, BTreeMap<CallId, (QueuedStep, Option<Namespace>)>>,
}

impl CallQueue {
    /// Adds a call. If it waits already, only what follows for it changes.
    pub(crate) fn add(&mut self, call: CallId, step: QueuedStep, namespace: Option<Namespace>) {
        // It has one turn.
        if let Some(unwanted) = self.unwanted.get_mut(&call.run) {
            unwanted.remove(&call);
        }
        let waiting = self.waiting.entry(call.run.clone()).or_default();
        if waiting.insert(call.clone(), step).is_none() {
            self.namespaces.entry(namespace).entry(call.run.clone()).push_back(call);
        }
    }

    /// Keeps a call until the next tick that its run no longer wants. Mostly it is withdrawn by then.
    pub(crate) fn set_aside(&mut self, call: CallId, step: QueuedStep, namespace: Option<Namespace>) {
        self.unwanted.entry(call.run.clone()).or_default().insert(call, (step, namespace));
    }

    /// A tick: the calls that were not wanted have another turn.
    pub(crate) fn tick(&mut self) {
        for (call, (step, namespace)) in std::mem::take(&mut self.unwanted).into_values().flatten() {
            self.add(call, step, namespace);
        }
    }

    /// Whether a call waits for its turn, or for the next tick.
    pub(crate) fn has(&self, call: &CallId) -> bool {
        let is_waiting = self.waiting.get(&call.run).is_some_and(|waiting| waiting.contains_key(call));
        is_waiting || self.unwanted.get(&call.run).is_some_and(|unwanted| unwanted.contains_key(call))
    }

    /// Whether no call waits for its turn.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the call that has the next turn.
    pub(crate) fn take(&mut self) -> Option<(CallId, QueuedStep)> {
        let waiting = &mut self.waiting;
        self.namespaces.take(|runs| {
            let taken = runs.take(|calls| {
                let taken = calls.pop_front().and_then(|call| Some((remove(waiting, &call)?, call)));
                (taken.map(|(step, call)| (call, step)), if calls.is_empty() { Turn::WasLast } else { Turn::IsOver })
            });
            (taken, if runs.is_empty() { Turn::WasLast } else { Turn::IsOver })
        })
    }

    /// Removes the calls of a run that is loaded: it adds those that are to be sent again.
    pub(crate) fn remove_run(&mut self, run: &RunId) {
        self.unwanted.remove(run);
        if self.waiting.remove(run).is_some() {
            self.namespaces.values_mut().for_each(|runs| runs.remove(run));
        }
    }
}

fn remove(waiting: &mut BTreeMap<RunId, BTreeMap<CallId, QueuedStep>>, call: &CallId) -> Option<QueuedStep> {
    let of_run = waiting.get_mut(&call.run)?;
    let step = of_run.remove(call);
    if of_run.is_empty() {
        waiting.remove(&call.run);
    }
    step
}

#[cfg(test)]
mod tests {
    use flow::{Action, Attempt, Firing};

    use super::*;

    fn call(run: &str, task: &str) -> CallId {
        let (run, task) = (run.parse().unwrap(), task.parse().unwrap());
        CallId { run, task, firing: Firing::FIRST, attempt: Attempt::FIRST, action: Action::Apply }
    }

    fn namespace(name: &str) -> Option<Namespace> {
        Some(Namespace::new(name).unwrap())
    }

    fn taken(queue: &mut CallQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.take()).map(|(call, _)| format!("{} {}", call.run, call.task)).collect()
    }

    #[test]
    fn namespaces_and_then_their_runs_take_turns() {
        let mut queue = CallQueue::default();
        for (of, run, task) in
            [("one", "r", "a"), ("one", "r", "b"), ("one", "r", "c"), ("one", "s", "a"), ("two", "t", "a")]
        {
            queue.add(call(run, task), QueuedStep::Send, namespace(of));
        }
        assert_eq!(taken(&mut queue), ["r a", "t a", "s a", "r b", "r c"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_call_waits_once() {
        let mut queue = CallQueue::default();
        queue.add(call("r", "a"), QueuedStep::LookUp, None);
        queue.add(call("r", "a"), QueuedStep::Send, None);
        assert_eq!(queue.take(), Some((call("r", "a"), QueuedStep::Send)));
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn a_run_that_is_loaded_adds_its_calls_again() {
        let mut queue = CallQueue::default();
        for task in ["a", "b"] {
            queue.add(call("r", task), QueuedStep::Send, None);
        }
        queue.set_aside(call("r", "c"), QueuedStep::Send, None);
        queue.remove_run(&"r".parse().unwrap());
        assert!(queue.is_empty() && !queue.has(&call("r", "a")));
        queue.add(call("r", "b"), QueuedStep::Send, None);
        queue.tick();
        assert_eq!(taken(&mut queue), ["r b"]);
    }

    #[test]
    fn a_run_that_is_loaded_again_and_again_leaves_nothing_behind() {
        let mut queue = CallQueue::default();
        queue.add(call("other", "a"), QueuedStep::Send, None);
        for _ in 0..100 {
            queue.add(call("r", "a"), QueuedStep::Send, None);
            queue.add(call("r", "b"), QueuedStep::Send, None);
            queue.remove_run(&"r".parse().unwrap());
        }
        let entries: usize = queue.namespaces.values().flat_map(Turns::values).map(VecDeque::len).sum();
        assert_eq!(entries, 1, "that of the other run");
        assert_eq!(taken(&mut queue), ["other a"]);
    }

    #[test]
    fn a_call_that_is_added_while_it_is_set_aside_has_one_turn() {
        let mut queue = CallQueue::default();
        queue.set_aside(call("r", "a"), QueuedStep::LookUp, None);
        queue.add(call("r", "a"), QueuedStep::Send, None);
        assert_eq!(queue.take(), Some((call("r", "a"), QueuedStep::Send)));
        queue.tick();
        assert_eq!(queue.take(), None, "its job is sent once");
    }

    #[test]
    fn an_unwanted_call_has_another_turn_with_the_next_tick() {
        let mut queue = CallQueue::default();
        queue.set_aside(call("r", "a"), QueuedStep::Send, None);
        assert!(queue.is_empty() && queue.has(&call("r", "a")));
        queue.tick();
        assert_eq!(taken(&mut queue), ["r a"]);
    }
}
