//! Runs that listen to tasks of other flows, and the handling of those tasks' notifications.
//!
//! The queue of a shard is bound to the exchanges of the tasks that its runs listen to. The engine sends each
//! notification to each of those runs as a command through the same queue. So, like any other command, it is
//! recorded before it is accepted.

use std::collections::{BTreeMap, BTreeSet};

use broker::Delivery;
use flow::{FlowName, Machine, NodeName, RunId, Shard, TaskNotification};
use protocol::{CommandRequest, RunCommand, topology as names};
use tracing::debug;

use super::{Batch, Driver};
use crate::messages;

/// The listening runs, by the task that they listen to.
#[derive(Default)]
pub(super) struct Listeners {
    runs: BTreeMap<(Shard, FlowName, NodeName), BTreeSet<RunId>>,
}

impl Listeners {
    /// Records the tasks that a run listens to now, or removes an ended run.
    pub(super) fn note(&mut self, shard: &Shard, machine: &Machine) {
        if !machine.state().is_final() {
            for listen in &machine.flow().listeners {
                let key = (shard.clone(), listen.flow.clone(), listen.task.clone());
                let runs = self.runs.entry(key).or_default();
                if !runs.contains(machine.run()) {
                    runs.insert(machine.run().clone());
                }
            }
            return;
        }
        for listen in &machine.flow().listeners {
            let key = (shard.clone(), listen.flow.clone(), listen.task.clone());
            if let Some(runs) = self.runs.get_mut(&key) {
                runs.remove(machine.run());
            }
        }
    }

    fn of(&self, shard: &Shard, heard: &TaskNotification) -> Option<&BTreeSet<RunId>> {
        self.runs.get(&(shard.clone(), heard.flow.clone(), heard.task.clone())).filter(|runs| !runs.is_empty())
    }

    /// Removes the runs of a shard that a remote engine drives.
    pub(super) fn drop_shard(&mut self, shard: &Shard) {
        self.runs.retain(|(of, ..), _| of != shard);
    }
}

impl Driver {
    /// Handles a notification of another flow's task.
    pub(super) async fn on_notification(&mut self, shard: &Shard, delivery: Delivery, round: &mut Batch) {
        let heard = match protocol::json::parse_notification(&delivery.message.body) {
            Ok(Some(heard)) => heard,
            Ok(None) => return delivery.accept(),
            Err(error) => {
                let reason = format!("the engine could not read a notification: {error}");
                return self.quarantine(shard, delivery, &reason, round);
            }
        };
        let Some(runs) = self.listeners.of(shard, &heard) else {
            debug!(flow = %heard.flow, task = %heard.task, "nobody listens to the task any more");
            let exchange = names::task_exchange(&heard.flow, &heard.task);
            if let Err(error) = self.tools.declared.unbind_listener(&exchange, shard).await {
                debug!(%error, "it is heard once more");
            }
            return delivery.accept();
        };
        round.messages.extend(runs.iter().map(|run| {
            let request = CommandRequest { run: run.clone(), command: RunCommand::TaskNotification(heard.clone()) };
            messages::one_way_command(shard, request)
        }));
        round.to_accept.push(delivery);
    }
}
