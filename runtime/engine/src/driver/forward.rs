//! Notifications of other flows' tasks, and their way to the runs that listen.

use std::sync::Arc;

use broker::Delivery;
use flow::{FlowName, Shard, TaskNotification};
use machine::Event;
use tokio::time::Instant;
use tracing::warn;

use super::{Batch, Driver};
use crate::{
    forwards::{Forward, NotificationCopy},
    listeners::ListenedTask,
    messages,
    runs::{ActiveRun, RunEvent},
    shards::{ShardDelivery, Sharing},
};

/// Maximum number of firings that the notifications of one batch may cause, so that a batch takes some tens of
/// milliseconds. The last notification may cause more.
const MAX_BATCH_FIRINGS: usize = 32;

impl Driver {
    /// Receives a notification of another flow's task: it waits until each run that listens has recorded its copy.
    pub(super) fn on_notification(&mut self, shard: &Shard, delivery: Delivery, batch: &mut Batch) {
        // Before it is read: a ring of flows without any call sends many.
        let (pace, is_new) = (messages::pace_of(&delivery.message), messages::listener_of(&delivery.message).is_none());
        if is_new
            && let Some(flow) =
                messages::notifying_flow(&delivery.message).filter(|flow| self.forwards.is_full(flow, pace))
        {
            return self.drop_notification(&flow, delivery);
        }
        let is_sealed = messages::is_sealed(&delivery.message, &self.context.secret);
        let notification = match protocol::events::parse_notification(&delivery.message.body) {
            Ok(Some(notification)) => notification,
            Ok(None) => return delivery.accept(),
            Err(error) if is_sealed => {
                let reason = format!("the engine could not read a notification: {error}");
                return self.quarantine(shard, delivery, &reason, batch);
            }
            Err(_) => {
                self.refuse_forged(shard, delivery, "a notification that is not readable");
                return;
            }
        };
        let listened = (shard.clone(), notification.flow.clone(), notification.task.clone());
        if !is_sealed {
            // Engines of another logbook publish here too. Unbinds the queue from the task, but once per logged
            // refusal, not per message.
            let reason = "a notification that no engine of this logbook published";
            if self.refuse_forged(shard, delivery, reason) {
                batch.unbind.insert(listened);
            }
            return;
        }
        if is_new
            && self.may_have_unknown_listeners(shard)
            && let Some(term) = self.shards.term(shard)
        {
            return self.held_notifications.push(ShardDelivery { shard: shard.clone(), term, delivery });
        }
        self.add_forward(listened, delivery, batch);
    }

    /// Whether runs of a shard may listen that were not read yet. A shard that ends with its process has one run mostly, and it
    /// is not known before it is submitted or resumed.
    pub(super) fn may_have_unknown_listeners(&self, shard: &Shard) -> bool {
        let is_unused = self.shards.sharing() == Sharing::Exclusive && !self.runs.is_used();
        is_unused || self.runs.has_unknown_listeners(shard)
    }

    fn add_forward(&mut self, listened: ListenedTask, delivery: Delivery, batch: &mut Batch) {
        let pace = messages::pace_of(&delivery.message);
        if let Some(run) = messages::listener_of(&delivery.message) {
            let runs = Arc::new([run].into());
            return self.forwards.add_returned(Forward { listened, runs, pace, delivery });
        }
        let Some(runs) = self.listeners.of(&listened) else {
            batch.unbind.insert(listened);
            return delivery.accept();
        };
        let flow = listened.1.clone();
        if let Some(delivery) = self.forwards.add(Forward { listened, runs, pace, delivery }) {
            self.drop_notification(&flow, delivery);
        }
    }

    /// Drops a notification of a firing without a call. It logs the first, and then each time their number has doubled.
    fn drop_notification(&mut self, flow: &FlowName, delivery: Delivery) {
        delivery.accept();
        self.dropped_notifications += 1;
        if self.dropped_notifications.is_power_of_two() {
            let all = self.dropped_notifications;
            warn!(%flow, all, "a notification fired nothing: flows notify one another without any call, see docs/listeners.md");
        }
    }

    /// Adds copies of the waiting notifications to the batch.
    pub(super) async fn forward_notifications(&mut self, batch: &mut Batch) {
        let (now, mut firings) = (Instant::now(), 0);
        while firings < MAX_BATCH_FIRINGS
            && let Some(copy) = self.forwards.take(now)
        {
            let (flow, pace) = (copy.listened.1.clone(), copy.pace);
            let caused = self.forward(copy, batch).await;
            self.forwards.on_firings(&flow, pace, caused, now);
            firings += caused;
        }
    }

    /// Adds a copy of a notification to the batch, like a command to its run: it is accepted once it is recorded. Returns
    /// how many firings it may cause, and at least 1.
    async fn forward(&mut self, copy: NotificationCopy, batch: &mut Batch) -> usize {
        let NotificationCopy { listened, run, pace: _, notification, delivery } = copy;
        if !self.listeners.has_run(&listened, &run) {
            // The run has ended since.
            delivery.accept();
            return 1;
        }
        self.load(&run, Some(&listened.0), batch).await;
        let Some(delivery) = self.runs.hold_for_stale(&run, delivery) else { return 1 };
        let is_for = |active: &ActiveRun| {
            active.machine.flow().listeners.iter().filter(|listener| listener.is_for(&notification)).count()
        };
        let firings = self.runs.get(&run).map_or(1, is_for).max(1);
        let event = Event::TaskNotification(TaskNotification::clone(&notification));
        batch.events.push(RunEvent::new(run.clone(), event));
        batch.signals.push((run, delivery));
        firings
    }
}
