//! Notifications that wait until each run that listens has recorded them.
//!
//! A notification may be for thousands of runs. So it is stored once, and the driver takes some copies for each batch: one
//! for each namespace in turn, and within a namespace a few for each flow that notifies. The delivery of a notification is
//! accepted once all its copies are recorded. Until then the broker redelivers it after a crash; a broker that ends with
//! the process leaves the change of the other run unpublished. A plain value.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use broker::{Delivery, DeliveryParts};
use flow::{FlowName, Namespace, RunId, Shard, TaskNotification};
use machine::NotificationPart;
use tokio::time::Instant;

use crate::{
    listeners::ListenedTask,
    messages,
    turns::{Turn, Turns},
};

/// Number of copies in one turn of a flow. The runs that listen to a task are served within few turns: each must still
/// remember the notification if a crash makes the broker redeliver it to all of them.
const TURN_COPIES: usize = 8;

/// Pause of a flow for each firing that a notification of its firings without a call causes. A back edge after a firing
/// without a call makes ten firings in a second; this makes 40, since several runs may listen.
const EMPTY_FIRING_DELAY: Duration = Duration::from_millis(25);

/// Maximum number of waiting copies of one flow whose firings make no call. Flows that listen to one another without any
/// call cause notifications faster than an engine can record them.
const MAX_EMPTY_FIRING_COPIES: usize = 128;

/// How fast the notifications of a flow are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pace {
    /// Without pauses.
    Full,
    /// With pauses: a notification triggered the firing, and the firing has made no call and has not waited.
    EmptyFirings,
}

/// A notification, and the runs that it is for.
pub(crate) struct Forward {
    pub(crate) listened: ListenedTask,
    pub(crate) runs: Arc<BTreeSet<RunId>>,
    pub(crate) pace: Pace,
    pub(crate) delivery: Delivery,
}

/// A notification for one run. Its delivery is a part of the notification's delivery.
pub(crate) struct NotificationCopy {
    pub(crate) listened: ListenedTask,
    pub(crate) run: RunId,
    pub(crate) pace: Pace,
    pub(crate) notification: Arc<TaskNotification>,
    /// The part of it that the run decides next.
    pub(crate) part: NotificationPart,
    pub(crate) delivery: Delivery,
}

/// The waiting notifications, by the namespace and the flow of the task that notifies.
#[derive(Default)]
pub(crate) struct Forwards {
    namespaces: Turns<Option<Namespace>, Turns<(FlowName, Pace), Lane>>,
    /// The number of notifications that were received.
    received: u64,
}

impl Forwards {
    /// Adds a notification. Returns its delivery if it does not wait, because too many copies of firings without a call do.
    #[must_use]
    pub(crate) fn add(&mut self, forward: Forward) -> Option<Delivery> {
        if self.is_full(&forward.listened.1, forward.pace) {
            return Some(forward.delivery);
        }
        let number = self.received;
        self.lane(&forward).waiting.push_back(WaitingNotification::new(number, forward));
        self.received += 1;
        None
    }

    /// Whether too many copies of a flow wait.
    pub(crate) fn is_full(&self, flow: &FlowName, pace: Pace) -> bool {
        let lane = || self.namespaces.get(&flow.namespace())?.get(&(flow.clone(), pace));
        pace == Pace::EmptyFirings && lane().is_some_and(|lane| lane.copies_left() >= MAX_EMPTY_FIRING_COPIES)
    }

    /// A copy has caused this number of firings.
    pub(crate) fn on_firings(&mut self, flow: &FlowName, pace: Pace, firings: usize, now: Instant) {
        if pace == Pace::EmptyFirings {
            let firings = u32::try_from(firings).unwrap_or(u32::MAX);
            let lane = self.namespaces.entry(flow.namespace()).entry((flow.clone(), pace));
            lane.not_before = Some(now + EMPTY_FIRING_DELAY.saturating_mul(firings));
        }
    }

    /// Adds a copy again that was taken before the records of its run were read.
    pub(crate) fn add_returned(&mut self, forward: Forward) {
        let number = self.received;
        self.lane(&forward).returned.push_back(WaitingNotification::new(number, forward));
        self.received += 1;
    }

    /// Adds a copy again that its run has not decided to the end: it listens in many places.
    pub(crate) fn put_back(&mut self, copy: NotificationCopy) {
        let flow = copy.listened.1.clone();
        self.namespaces.entry(flow.namespace()).entry((flow, copy.pace)).partial.push_back(copy);
    }

    fn lane(&mut self, forward: &Forward) -> &mut Lane {
        let (_, flow, _) = &forward.listened;
        self.namespaces.entry(flow.namespace()).entry((flow.clone(), forward.pace))
    }

    /// Takes the next copy that is due.
    pub(crate) fn take(&mut self, now: Instant) -> Option<NotificationCopy> {
        self.namespaces.take(|flows| {
            let copy = flows.take(|lane| lane.take(now));
            (copy, if flows.is_empty() { Turn::WasLast } else { Turn::IsOver })
        })
    }

    /// How long no copy is due; `None` if none waits.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Duration> {
        let waiting = self.lanes().filter(|lane| !lane.is_empty());
        waiting.map(|lane| lane.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))).min()
    }

    /// The number of notifications that were received.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether all copies of the first notifications, up to this number, were taken.
    pub(crate) fn are_taken(&self, received: u64) -> bool {
        // A returned copy is older than its number.
        self.lanes().all(|lane| {
            let has_older = !lane.returned.is_empty() || !lane.partial.is_empty();
            !has_older && lane.waiting.front().is_none_or(|waiting| waiting.number >= received)
        })
    }

    /// Drops the notifications of a shard that is no longer driven here: they go back to its queue.
    pub(crate) fn drop_shard(&mut self, shard: &Shard) {
        for lane in self.namespaces.values_mut().flat_map(Turns::values_mut) {
            lane.partial.retain(|copy| copy.listened.0 != *shard);
            lane.returned.retain(|waiting| waiting.listened.0 != *shard);
            lane.waiting.retain(|waiting| waiting.listened.0 != *shard);
        }
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.namespaces.values().flat_map(Turns::values)
    }
}

/// The waiting notifications of one flow.
#[derive(Default)]
struct Lane {
    /// Copies of which a part is left. They precede newer copies for the same runs.
    partial: VecDeque<NotificationCopy>,
    /// Copies that were taken before the records of their runs were read. They precede newer copies for the same runs.
    returned: VecDeque<WaitingNotification>,
    waiting: VecDeque<WaitingNotification>,
    /// The number of copies taken in this turn.
    taken: usize,
    not_before: Option<Instant>,
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.partial.is_empty() && self.returned.is_empty() && self.waiting.is_empty()
    }

    fn copies_left(&self) -> usize {
        self.partial.len() + self.waiting.iter().map(|waiting| waiting.left).sum::<usize>()
    }

    fn take(&mut self, now: Instant) -> (Option<NotificationCopy>, Turn) {
        if self.not_before.is_some_and(|at| at > now) {
            return (None, Turn::IsOver);
        }
        if let Some(copy) = self.partial.pop_front() {
            return (Some(copy), self.turn());
        }
        while let Some(waiting) = self.returned.front_mut().or(self.waiting.front_mut()) {
            let copy = waiting.take();
            if waiting.left == 0 {
                let done = self.returned.pop_front().or_else(|| self.waiting.pop_front());
                done.into_iter().for_each(WaitingNotification::finish);
            }
            if copy.is_some() {
                return (copy, self.turn());
            }
        }
        (None, Turn::WasLast)
    }

    /// Counts a copy that is taken. Returns whether the turn goes on.
    fn turn(&mut self) -> Turn {
        self.taken = (self.taken + 1) % TURN_COPIES;
        if self.taken == 0 { Turn::IsOver } else { Turn::GoesOn }
    }
}

/// A notification of which some runs have no copy yet.
struct WaitingNotification {
    number: u64,
    listened: ListenedTask,
    pace: Pace,
    /// The runs that it is for, which are served in their order.
    runs: Arc<BTreeSet<RunId>>,
    /// The last run with a copy.
    last: Option<RunId>,
    /// The number of runs without a copy.
    left: usize,
    parts: DeliveryParts,
    /// Read with the first copy, so that of a flow's waiting notifications only one has its values in memory twice.
    notification: Option<Arc<TaskNotification>>,
}

impl WaitingNotification {
    fn new(number: u64, Forward { listened, runs, pace, delivery }: Forward) -> Self {
        let (left, parts) = (runs.len(), delivery.into_parts());
        Self { number, listened, pace, runs, last: None, left, parts, notification: None }
    }

    /// Takes the copy of the next run; `None` if there is none, or the broker redelivers the notification.
    fn take(&mut self) -> Option<NotificationCopy> {
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.runs.range::<RunId, _>((after, Bound::Unbounded)).next().filter(|_| !self.parts.is_lost());
        let (Some(run), Some(notification)) = (next.cloned(), self.notification()) else {
            self.left = 0;
            return None;
        };
        self.left -= 1;
        self.last = Some(run.clone());
        let delivery = self.parts.part(messages::for_listener(self.parts.message(), &run));
        let (listened, part) = (self.listened.clone(), NotificationPart::First);
        Some(NotificationCopy { listened, run, pace: self.pace, notification, part, delivery })
    }

    fn notification(&mut self) -> Option<Arc<TaskNotification>> {
        if self.notification.is_none() {
            // It was read when it arrived.
            let read = protocol::events::parse_notification(&self.parts.message().body).ok().flatten();
            self.notification = read.map(Arc::new);
        }
        self.notification.clone()
    }

    /// No run is without a copy. If the broker redelivers the notification, nothing is to be settled.
    fn finish(self) {
        if !self.parts.is_lost() {
            self.parts.finish();
        }
    }
}

#[cfg(test)]
mod tests;
