//! Notifications of tasks in other flows: each place where the run listens takes the values. There may be thousands of places, so one step
//! decides some of them, and the next step continues behind these.

use crate::{Fact, NotificationCursor, NotificationPart, Record, Trigger, command::ListeningPlace};
use flow::{
    Firing, RunState, SkipReason, TaskNotification, Timestamp, Values,
    graph::{Listener, Role},
};

use super::Machine;

/// The maximum number of places that one part of a notification looks at: most of them may not wait, and add no bytes. It takes less than a
/// millisecond.
const MAX_PART_PLACES: usize = 10_000;

/// What ends a part of a notification.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartLimits {
    /// The maximum number of bytes of records; only the last record may exceed it.
    pub(super) bytes: usize,
    /// The maximum number of places that are looked at.
    pub(super) places: usize,
}

impl PartLimits {
    /// The limits of a part in a step that may have this many bytes.
    pub(super) fn of(part: NotificationPart, bytes: usize) -> Self {
        match part {
            NotificationPart::Whole => Self::NONE,
            NotificationPart::First | NotificationPart::From(_) => Self { bytes, places: MAX_PART_PLACES },
        }
    }

    /// All places belong to the part.
    pub(super) const NONE: Self = Self { bytes: usize::MAX, places: usize::MAX };
}

impl Machine {
    /// Decides a part of a notification, as far as its limits allow. Returns the places that are left.
    pub(super) fn decide_task_notification(
        &self,
        now: Timestamp,
        notification: &TaskNotification,
        part: NotificationPart,
        limits: PartLimits,
    ) -> (Vec<Record>, Option<NotificationCursor>) {
        let mut records = Vec::new();
        if !self.takes_task_notifications() {
            return (records, None);
        }
        let (start, last) = match part {
            NotificationPart::Whole | NotificationPart::First => (None, self.firings.keys().next_back().copied()),
            // An edit may have changed the listeners. What is decided already is not decided again: no task waits there any more, and
            // each firing has the key of its notification.
            NotificationPart::From(NotificationCursor { last, next, revision }) => {
                ((revision == self.revision).then_some(next), last)
            }
        };
        let (mut bytes, mut triggered) = (0, 0);
        let mut free = None;
        for (looked_at, place) in self.listening_places(notification, start, last).enumerate() {
            if bytes >= limits.bytes || looked_at >= limits.places {
                return (records, Some(NotificationCursor { last, next: place, revision: self.revision }));
            }
            let record = match place {
                ListeningPlace::Wait { firing, listener } => self.complete_wait(now, notification, firing, listener),
                ListeningPlace::Fire { listener } => {
                    let free = *free.get_or_insert_with(|| {
                        self.triggers.as_ref().map_or(0, |trigger_state| self.free_firings(trigger_state)) as u64
                    });
                    let record = self.fire_by_notification(now, notification, listener, (triggered, free));
                    let is_triggered = |record: &Record| matches!(record.fact, Fact::Triggered { .. });
                    triggered += u64::from(record.as_ref().is_some_and(is_triggered));
                    record
                }
            };
            bytes += record.as_ref().map_or(0, Record::bytes);
            records.extend(record);
        }
        (records, None)
    }

    fn takes_task_notifications(&self) -> bool {
        let is_firing_once = self.triggers.is_none() && self.state() != RunState::Pending;
        is_firing_once || matches!(self.state(), RunState::Running | RunState::Suspending | RunState::Suspended)
    }

    /// The places where the run listens to a notification, from one on: first those in each firing up to the last, then those that it
    /// fires.
    fn listening_places(
        &self,
        notification: &TaskNotification,
        start: Option<ListeningPlace>,
        last: Option<Firing>,
    ) -> impl Iterator<Item = ListeningPlace> {
        let is_for = |(_, listener): &(usize, &Listener)| listener.is_for(notification);
        let listeners: Vec<usize> =
            self.flow.listeners.iter().enumerate().filter(is_for).map(|(number, _)| number).collect();
        let first = match start {
            None => Some(Firing::FIRST),
            Some(ListeningPlace::Wait { firing, .. }) => Some(firing),
            Some(ListeningPlace::Fire { .. }) => None,
        };
        let of_firings = first.zip(last).filter(|(first, last)| first <= last);
        let firings = of_firings.into_iter().flat_map(|(first, last)| self.firings.range(first..=last));
        let in_firings = listeners.clone();
        let waits = firings.flat_map(move |(firing, _)| {
            let firing = *firing;
            in_firings.clone().into_iter().map(move |listener| ListeningPlace::Wait { firing, listener })
        });
        let fires_again = self.triggers.is_some();
        let fires =
            listeners.into_iter().filter(move |_| fires_again).map(|listener| ListeningPlace::Fire { listener });
        waits.chain(fires).filter(move |place| start.is_none_or(|start| start <= *place))
    }

    /// The record of a task that waits for the notification, if it contains its values.
    fn complete_wait(
        &self,
        now: Timestamp,
        notification: &TaskNotification,
        number: Firing,
        listener: usize,
    ) -> Option<Record> {
        let (firing, listener) = (self.firings.get(&number)?, self.flow.listeners.get(listener)?);
        let fact = firing.decide_task_notification(listener, notification)?;
        Some(Record { at: now, firing: self.triggers.is_some().then_some(number), fact })
    }

    /// The record of a firing that a notification causes, or of why it causes none. So many firings precede it in this step, and so many
    /// were free before these.
    fn fire_by_notification(
        &self,
        now: Timestamp,
        notification: &TaskNotification,
        listener: usize,
        (triggered, free): (u64, u64),
    ) -> Option<Record> {
        let (trigger_state, listener) = (self.triggers.as_ref()?, self.flow.listeners.get(listener)?);
        let node = self.flow.node(listener.to);
        let key = format!("{}>{}", notification.key, node.name);
        let is_call = matches!(node.role, Role::Task(_) | Role::ForEach(_)) && !node.retired;
        let count = trigger_state.firing_count + triggered;
        let max = self.flow.triggers.as_ref().and_then(|triggers| triggers.max_firings).unwrap_or(u64::MAX);
        if !is_call || trigger_state.ending || count >= max || self.has_received(&node.name, &key) {
            return None;
        }
        let by = Trigger::Notification { key: Some(key) };
        let fact = if free <= triggered {
            Fact::TriggerSkipped { entry: listener.to, by, reason: SkipReason::QueueFull, count: 1 }
        } else {
            let accepted = self.flow.notification_values(listener.to);
            let values: Values =
                notification.values().into_iter().filter(|(name, _)| accepted.contains_key(name)).collect();
            Fact::Triggered { firing: Firing::new(count + 1), entry: listener.to, by, values }
        };
        Some(Record { at: now, firing: None, fact })
    }
}
