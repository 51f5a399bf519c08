//! Notifications of other flows' tasks, and their way to the runs that listen.

use std::{collections::BTreeSet, sync::Arc};

use broker::Delivery;
use flow::{FlowName, RunId, Shard, TaskNotification};
use machine::{Event, NotificationCursor, NotificationPart};
use tokio::time::Instant;
use tracing::{error, warn};

use super::{Batch, Driver};
use crate::{
    forwards::{Forward, NotificationCopy},
    held_notifications::HeldNotification,
    listeners::ListenedTask,
    messages,
    runs::{ActiveRun, RunEvent, UnknownListeners},
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
        if !is_new {
            return self.add_forward(listened, &BTreeSet::new(), delivery, batch);
        }
        let noted = self.held_notifications.take_served(shard, &delivery.message.body);
        if let Some(delivery) = self.hold_notification(&listened, noted, delivery, batch) {
            let served = self.served(&listened, noted);
            self.add_forward(listened, &served, delivery, batch);
        }
    }

    /// The runs that have a notification already, given the number that was noted for it.
    fn served(&self, listened: &ListenedTask, noted: Option<u64>) -> BTreeSet<RunId> {
        noted.map(|last| self.listeners.known_until(listened, last)).unwrap_or_default()
    }

    /// Holds a notification while it is not known which runs of its shard listen; returns it if all are known. The runs that are known do
    /// not wait for the others, unless all wait for the logbook: each takes the notification at once, unless it has it already. If more
    /// notifications wait for the others than are held, the rest is put behind the other messages of the queue until these runs are known, and
    /// newer ones may reach them first.
    fn hold_notification(
        &mut self,
        listened: &ListenedTask,
        noted: Option<u64>,
        delivery: Delivery,
        batch: &mut Batch,
    ) -> Option<Delivery> {
        let (shard, ..) = listened;
        let has_room = self.held_notifications.has_room(shard, delivery.message.body.len());
        let unknown = self.unknown_listeners(shard);
        match unknown {
            UnknownListeners::None => return Some(delivery),
            UnknownListeners::Due => {}
            UnknownListeners::BeingRead if !has_room && self.context.is_durable => {
                // Neither the known runs nor the other messages of the queue wait for these runs.
                let delivery = match self.held_notifications.may_note_served(shard) {
                    true => {
                        let last = self.listeners.last_number();
                        // Most come back before another run is known: there may be thousands of runs, and many that come back.
                        let others = match noted == Some(last) {
                            true => delivery,
                            false => self.serve_known(listened, &self.served(listened, noted), delivery).1,
                        };
                        self.held_notifications.note_served(shard, &others.message.body, last);
                        others
                    }
                    false => delivery,
                };
                self.requeue_behind(None, shard, delivery, &mut batch.effects);
                return None;
            }
            UnknownListeners::Unreadable if !has_room => {
                for run in self.runs.give_up_unreadable(shard) {
                    error!(%run, "the run cannot be read, and misses notifications until it can");
                }
                // They were received before this one.
                self.return_notifications_of(shard, batch);
                return Some(delivery);
            }
            UnknownListeners::BeingRead | UnknownListeners::Unreadable => {}
        }
        let Some(term) = self.shards.term(shard) else { return Some(delivery) };
        let served = self.served(listened, noted);
        let (served, delivery) = match unknown {
            UnknownListeners::Due => (Arc::new(served), delivery),
            UnknownListeners::None | UnknownListeners::BeingRead | UnknownListeners::Unreadable => {
                self.serve_known(listened, &served, delivery)
            }
        };
        let delivery = ShardDelivery { shard: shard.clone(), term, delivery };
        self.held_notifications.push(HeldNotification { listened: listened.clone(), served, delivery });
        None
    }

    /// Forwards a notification to the runs that are known to listen, except those that have it already. Returns all that have it then, and the
    /// delivery for the others.
    fn serve_known(
        &mut self,
        listened: &ListenedTask,
        served: &BTreeSet<RunId>,
        delivery: Delivery,
    ) -> (Arc<BTreeSet<RunId>>, Delivery) {
        let Some(runs) = self.listeners.of(listened) else { return (Arc::default(), delivery) };
        let new = without(&runs, served);
        if new.is_empty() {
            return (runs, delivery);
        }
        let message = delivery.message.clone();
        let parts = <[Delivery; 2]>::try_from(delivery.split(vec![message.clone(), message]));
        let [known, others] = parts.ok().expect("a delivery is split into a part for each message");
        let pace = messages::pace_of(&known.message);
        let forward = Forward { listened: listened.clone(), runs: new, pace, delivery: known };
        if let Some(delivery) = self.forwards.add(forward) {
            self.drop_notification(&listened.1, delivery);
        }
        (runs, others)
    }

    /// Forwards the held notifications of shards whose listeners are all known.
    pub(super) fn return_held_notifications(&mut self, batch: &mut Batch) {
        let shards: Vec<Shard> = self.held_notifications.shards().cloned().collect();
        for shard in shards {
            if self.unknown_listeners(&shard) == UnknownListeners::None {
                self.return_notifications_of(&shard, batch);
            }
        }
    }

    /// Forwards the held notifications of a shard to the runs that listen and do not have them yet.
    fn return_notifications_of(&mut self, shard: &Shard, batch: &mut Batch) {
        for HeldNotification { listened, served, delivery } in self.held_notifications.take(shard) {
            // Those of an earlier term go back to the queue.
            if self.shards.is_current(shard, delivery.term) {
                self.add_forward(listened, &served, delivery.delivery, batch);
            }
        }
    }

    /// Whether runs of a shard may listen that were not read yet. A shard that ends with its process has one run mostly, and it
    /// is not known before it is submitted or resumed.
    pub(super) fn unknown_listeners(&self, shard: &Shard) -> UnknownListeners {
        let is_unused = self.shards.sharing() == Sharing::Exclusive && !self.runs.is_used();
        if is_unused { UnknownListeners::Due } else { self.runs.unknown_listeners(shard) }
    }

    /// Forwards a notification to the runs that listen, except those that have it already.
    fn add_forward(&mut self, listened: ListenedTask, served: &BTreeSet<RunId>, delivery: Delivery, batch: &mut Batch) {
        let pace = messages::pace_of(&delivery.message);
        if let Some(run) = messages::listener_of(&delivery.message) {
            let runs = Arc::new([run].into());
            return self.forwards.add_returned(Forward { listened, runs, pace, delivery });
        }
        let Some(runs) = self.listeners.of(&listened) else {
            batch.unbind.insert(listened);
            return delivery.accept();
        };
        let runs = without(&runs, served);
        if runs.is_empty() {
            return delivery.accept();
        }
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

    /// Adds a copy of a notification to the batch, like a command to its run: it is accepted once all parts of it are recorded. Returns
    /// how many firings it may cause, and at least 1.
    async fn forward(&mut self, copy: NotificationCopy, batch: &mut Batch) -> usize {
        let NotificationCopy { listened, run, pace, notification, part, delivery } = copy;
        if !self.listeners.has_run(&listened, &run) && !self.runs.is_unread(&run) {
            // The run has ended since.
            delivery.accept();
            return 1;
        }
        self.load(&run, Some(&listened.0), batch).await;
        let Some(delivery) = self.hold_for_stale(&run, delivery, &mut batch.effects) else { return 1 };
        let is_for = |active: &ActiveRun| {
            active.machine.flow().listeners.iter().filter(|listener| listener.is_for(&notification)).count()
        };
        let firings = match part {
            NotificationPart::Whole | NotificationPart::First => self.runs.get(&run).map_or(1, is_for).max(1),
            // They were counted with the first part.
            NotificationPart::From(_) => 1,
        };
        let event = Event::TaskNotification { notification: TaskNotification::clone(&notification), part };
        let copy = NotificationCopy { listened, run: run.clone(), pace, notification, part, delivery };
        batch.events.push(RunEvent { run, event, reply_to: None, copy: Some(Box::new(copy)) });
        firings
    }

    /// Lets notifications wait for their next turn of which a part is left. Returns the deliveries of the others. A run whose records were
    /// not appended, or that another engine drives now, takes a notification again from its beginning.
    pub(super) fn put_back_notifications(
        &mut self,
        decided: Vec<(NotificationCopy, Option<NotificationCursor>)>,
        gone: &BTreeSet<RunId>,
    ) -> Vec<(RunId, Delivery)> {
        let mut done = Vec::new();
        for (copy, rest) in decided {
            let location = RunLocation {
                is_active: self.runs.is_active(&copy.run),
                is_unread: self.runs.is_unread(&copy.run),
                is_gone: gone.contains(&copy.run),
            };
            match next_step(rest, location) {
                CopyStep::PutBack(rest) => {
                    let part = NotificationPart::From(rest);
                    self.forwards.put_back(NotificationCopy { part, ..copy });
                }
                CopyStep::Return => copy.delivery.requeue(),
                CopyStep::Settle => done.push((copy.run, copy.delivery)),
            }
        }
        done
    }
}

/// The runs that do not have a notification yet.
fn without(runs: &Arc<BTreeSet<RunId>>, served: &BTreeSet<RunId>) -> Arc<BTreeSet<RunId>> {
    if served.is_empty() { runs.clone() } else { Arc::new(runs.difference(served).cloned().collect()) }
}

/// What is known of the run of a notification after its records were appended.
#[derive(Debug, Clone, Copy)]
struct RunLocation {
    is_active: bool,
    is_unread: bool,
    /// Whether its records were not appended, or its shard was released before the step.
    is_gone: bool,
}

/// What becomes of a copy of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyStep {
    /// The run decides the rest of it in its next turn.
    PutBack(NotificationCursor),
    /// It goes back to its queue, for the next driver of the run.
    Return,
    /// Its delivery is settled like that of any message for the run.
    Settle,
}

fn next_step(rest: Option<NotificationCursor>, run: RunLocation) -> CopyStep {
    match rest.filter(|_| !run.is_gone && !run.is_unread) {
        Some(rest) if run.is_active => CopyStep::PutBack(rest),
        // The shard was lost while the batch was appended.
        Some(_) => CopyStep::Return,
        None => CopyStep::Settle,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flow::{NotificationOutcome, Timestamp, Values};
    use machine::{Machine, StepLimits};

    use super::*;

    /// What is left of a notification when a step has room for nothing.
    fn rest() -> Option<NotificationCursor> {
        let text = "name = \"f\"\n[[task]]\nname = \"a\"\nwait = \"x\"\n\
            [[listen]]\nflow = \"g\"\ntask = \"b\"\nto = \"a\"\n";
        let draft = flow::file::parse(text).expect("a valid flow");
        let (flow, _) = flow::wire(&draft, &BTreeMap::new(), &Values::new()).expect("a flow that can run");
        let mut machine = Machine::new("r".parse().expect("a valid name"), flow.into());
        machine.step(Timestamp::default(), &Event::Start);
        let notification = TaskNotification {
            flow: "g".parse().expect("a valid name"),
            task: "b".parse().expect("a valid name"),
            outcome: NotificationOutcome::Success(Values::new()),
            key: "k".into(),
        };
        let event = Event::TaskNotification { notification, part: NotificationPart::First };
        machine.step_within(Timestamp::default(), &event, StepLimits { bytes: 0, ..StepLimits::default() }).rest
    }

    #[test]
    fn a_notification_of_which_a_part_is_left_is_never_accepted() {
        let rest = rest();
        assert!(rest.is_some());
        let active = RunLocation { is_active: true, is_unread: false, is_gone: false };
        let lost = RunLocation { is_active: false, ..active };
        assert!(matches!(next_step(rest, active), CopyStep::PutBack(_)));
        assert_eq!(next_step(rest, lost), CopyStep::Return, "its shard was lost meanwhile");
        // Held, or returned to the queue with the other messages for the run.
        assert_eq!(next_step(rest, RunLocation { is_gone: true, ..lost }), CopyStep::Settle);
        assert_eq!(next_step(rest, RunLocation { is_unread: true, ..lost }), CopyStep::Settle);
        assert_eq!(next_step(None, lost), CopyStep::Settle, "its records are durable");
    }
}
