//! Runs that listen to tasks of other flows.
//!
//! The queue of a shard is bound to the exchanges of the tasks that its runs listen to. `forwards.rs` hands each
//! notification to each of those runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flow::{FlowName, NodeName, RunId, Shard};
use machine::Machine;

/// A task of another flow, and the shard whose runs listen to it.
pub(crate) type ListenedTask = (Shard, FlowName, NodeName);

/// The tasks of other flows that a run of a shard listens to.
pub(crate) fn listened_tasks(shard: &Shard, machine: &Machine) -> impl Iterator<Item = ListenedTask> {
    machine.flow().listeners.iter().map(|listen| (shard.clone(), listen.flow.clone(), listen.task.clone()))
}

/// The listening runs, by the task that they listen to.
#[derive(Default)]
pub(crate) struct Listeners {
    /// Shared with the notifications that wait for their turn. No set is empty.
    runs: BTreeMap<ListenedTask, Arc<BTreeSet<RunId>>>,
    /// Each listening run with its number: runs are numbered in the order in which they become known.
    numbers: BTreeMap<RunId, (Shard, u64)>,
    /// The last number.
    last: u64,
}

impl Listeners {
    /// Records the tasks that a run listens to now, or removes an ended run.
    pub(crate) fn update(&mut self, shard: &Shard, machine: &Machine) {
        let has_ended = machine.state().is_final();
        if has_ended {
            self.numbers.remove(machine.run());
        } else if !machine.flow().listeners.is_empty() && !self.numbers.contains_key(machine.run()) {
            self.last += 1;
            self.numbers.insert(machine.run().clone(), (shard.clone(), self.last));
        }
        if !has_ended {
            for task in listened_tasks(shard, machine) {
                let runs = self.runs.entry(task).or_default();
                if !runs.contains(machine.run()) {
                    Arc::make_mut(runs).insert(machine.run().clone());
                }
            }
            return;
        }
        for task in listened_tasks(shard, machine) {
            let Some(runs) = self.runs.get_mut(&task).filter(|runs| runs.contains(machine.run())) else { continue };
            Arc::make_mut(runs).remove(machine.run());
            if runs.is_empty() {
                self.runs.remove(&task);
            }
        }
    }

    /// The runs of a shard that listen to a task; `None` if there are none.
    pub(crate) fn of(&self, task: &ListenedTask) -> Option<Arc<BTreeSet<RunId>>> {
        self.runs.get(task).cloned()
    }

    /// The number of the run that became known last.
    pub(crate) fn last_number(&self) -> u64 {
        self.last
    }

    /// The runs of a shard that listen to a task, and were known when the last run had this number.
    pub(crate) fn known_until(&self, task: &ListenedTask, number: u64) -> BTreeSet<RunId> {
        let is_known = |run: &RunId| self.numbers.get(run).is_some_and(|(_, of_run)| *of_run <= number);
        let runs = self.runs.get(task).into_iter().flat_map(|runs| runs.iter());
        runs.filter(|run| is_known(run)).cloned().collect()
    }

    /// Whether a run of a shard listens to a task.
    pub(crate) fn has(&self, task: &ListenedTask) -> bool {
        self.runs.contains_key(task)
    }

    /// Whether this run listens to a task.
    pub(crate) fn has_run(&self, task: &ListenedTask, run: &RunId) -> bool {
        self.runs.get(task).is_some_and(|runs| runs.contains(run))
    }

    /// Removes the runs of a shard that a remote engine drives.
    pub(crate) fn drop_shard(&mut self, shard: &Shard) {
        self.runs.retain(|(of, ..), _| of != shard);
        self.numbers.retain(|_, (of, _)| of != shard);
    }
}
