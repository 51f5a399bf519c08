//! Runs that listen to tasks of other flows, and the handling of those tasks' notifications.
//!
//! The queue of a shard is bound to the exchanges of the tasks that its runs listen to. The engine sends each
//! notification to each of those runs as a command through the same queue. So, like any other command, it is
//! recorded before it is accepted.

use std::collections::{BTreeMap, BTreeSet};

use broker::Message;
use flow::{FlowName, NodeName, RunId, Shard, TaskNotification};
use machine::Machine;
use protocol::{CommandRequest, EngineSecret, RunCommand};

use crate::messages;

/// A task of another flow, and the shard whose runs listen to it.
pub(crate) type ListenedTask = (Shard, FlowName, NodeName);

/// The tasks of other flows that a run of a shard listens to.
pub(crate) fn listened_tasks(shard: &Shard, machine: &Machine) -> impl Iterator<Item = ListenedTask> {
    machine.flow().listeners.iter().map(|listen| (shard.clone(), listen.flow.clone(), listen.task.clone()))
}

/// The listening runs, by the task that they listen to.
pub(crate) struct Listeners {
    /// Seals the commands to the runs.
    secret: EngineSecret,
    runs: BTreeMap<ListenedTask, BTreeSet<RunId>>,
}

impl Listeners {
    /// Nobody listens yet.
    pub(crate) fn new(secret: EngineSecret) -> Self {
        Self { secret, runs: BTreeMap::new() }
    }

    /// Records the tasks that a run listens to now, or removes an ended run.
    pub(crate) fn update(&mut self, shard: &Shard, machine: &Machine) {
        if !machine.state().is_final() {
            for task in listened_tasks(shard, machine) {
                let runs = self.runs.entry(task).or_default();
                if !runs.contains(machine.run()) {
                    runs.insert(machine.run().clone());
                }
            }
            return;
        }
        for task in listened_tasks(shard, machine) {
            if let Some(runs) = self.runs.get_mut(&task) {
                runs.remove(machine.run());
            }
        }
    }

    /// The commands that send a notification to each run of a shard that listens to its task.
    pub(crate) fn forward(&self, shard: &Shard, notification: &TaskNotification) -> Vec<Message> {
        let command = |run: &RunId| {
            let command = RunCommand::TaskNotification(notification.clone());
            messages::one_way_command(shard, CommandRequest { run: run.clone(), command }, &self.secret)
        };
        let task = (shard.clone(), notification.flow.clone(), notification.task.clone());
        self.runs.get(&task).into_iter().flatten().map(command).collect()
    }

    /// Whether a run of a shard listens to a task.
    pub(crate) fn has(&self, task: &ListenedTask) -> bool {
        self.runs.get(task).is_some_and(|runs| !runs.is_empty())
    }

    /// Removes the runs of a shard that a remote engine drives.
    pub(crate) fn drop_shard(&mut self, shard: &Shard) {
        self.runs.retain(|(of, ..), _| of != shard);
    }
}
