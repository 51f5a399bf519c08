//! One queue in memory: its waiting messages, its subscribers, and their unsettled deliveries.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, VecDeque},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use crate::{
    Delivery, Message, QueueKind, Settlement,
    delivery::{Settle, Unsettled},
};

/// A source of unique numbers: sequences, tags, consumers and connections.
#[derive(Default)]
pub(super) struct Numbers(AtomicU64);

impl Numbers {
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// The position of a message in its queue. A returned message keeps its position, which is at the front of its priority: all
/// earlier messages were delivered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct MessagePosition {
    priority: Reverse<u8>,
    sequence: u64,
}

struct ReadyMessage {
    message: Arc<Message>,
    redelivered: bool,
    returned: u32,
}

/// An unsettled delivery.
struct Outstanding {
    position: MessagePosition,
    entry: ReadyMessage,
    consumer: u64,
    connection: u64,
}

/// A consumer of the queue.
pub(super) struct Subscriber {
    pub(super) id: u64,
    pub(super) connection: u64,
    /// How many more unsettled deliveries it may have. The channel holds at least as many.
    pub(super) credit: u16,
    pub(super) deliveries: mpsc::Sender<Delivery>,
    pub(super) settle: Arc<dyn Settle>,
}

/// A message on its way to the dead-letter queue.
pub(super) struct DeadLetter {
    pub(super) message: Arc<Message>,
    /// RabbitMQ's name of the reason.
    pub(super) reason: &'static str,
}

pub(super) struct Queue {
    pub(super) kind: QueueKind,
    /// The connection that declared the queue, which matters for an exclusive queue.
    pub(super) owner: u64,
    numbers: Arc<Numbers>,
    ready: BTreeMap<MessagePosition, ReadyMessage>,
    /// About the memory that the waiting messages take, in bytes.
    ready_bytes: u64,
    /// The first is served next; with a single active consumer, only the first is served.
    subscribers: VecDeque<Subscriber>,
    outstanding: HashMap<u64, Outstanding>,
    unused_since: Option<Instant>,
}

impl Queue {
    pub(super) fn new(kind: QueueKind, owner: u64, numbers: Arc<Numbers>) -> Self {
        let mut queue = Self {
            kind,
            owner,
            numbers,
            ready: BTreeMap::new(),
            ready_bytes: 0,
            subscribers: VecDeque::new(),
            outstanding: HashMap::new(),
            unused_since: None,
        };
        queue.touch();
        queue
    }

    /// Restarts the expiry time of the unused queue.
    pub(super) fn touch(&mut self) {
        self.unused_since = self.subscribers.is_empty().then(Instant::now);
    }

    pub(super) fn is_expired(&self) -> bool {
        self.expires().zip(self.unused_since).is_some_and(|(expires, since)| since.elapsed() >= expires)
    }

    /// How long the queue stays while unused.
    fn expires(&self) -> Option<Duration> {
        match self.kind {
            QueueKind::Transient { expires } => Some(expires),
            QueueKind::Quorum { expires, .. } | QueueKind::Bounded { expires, .. } => expires,
            QueueKind::Exclusive | QueueKind::Private => None,
        }
    }

    /// Whether a connection may use the queue.
    pub(super) fn allows(&self, connection: u64) -> bool {
        match self.kind {
            QueueKind::Exclusive | QueueKind::Private => self.owner == connection,
            QueueKind::Transient { .. } | QueueKind::Quorum { .. } | QueueKind::Bounded { .. } => true,
        }
    }

    pub(super) fn dead_letter_to(&self) -> Option<&str> {
        match &self.kind {
            QueueKind::Quorum { dead_letter_to, .. } => dead_letter_to.as_deref(),
            QueueKind::Bounded { dropped_to, .. } => dropped_to.as_ref().map(|(exchange, _)| exchange.as_str()),
            QueueKind::Exclusive | QueueKind::Private | QueueKind::Transient { .. } => None,
        }
    }

    /// The routing key that a dead letter gets; `None` if it keeps its own.
    pub(super) fn dead_letter_key(&self) -> Option<&str> {
        match &self.kind {
            QueueKind::Bounded { dropped_to, .. } => dropped_to.as_ref().map(|(_, key)| key.as_str()),
            QueueKind::Quorum { .. } | QueueKind::Exclusive | QueueKind::Private | QueueKind::Transient { .. } => None,
        }
    }

    pub(super) fn waiting(&self) -> u64 {
        self.ready.len() as u64
    }

    /// The waiting messages and the unsettled deliveries.
    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        let unsettled = self.outstanding.values().map(|outstanding| &outstanding.entry);
        self.ready.values().chain(unsettled).map(|entry| &*entry.message)
    }

    pub(super) fn consumers(&self) -> u64 {
        self.subscribers.len() as u64
    }

    /// Adds a message. Returns the oldest waiting ones if there are too many now.
    pub(super) fn push(&mut self, message: Arc<Message>) -> Vec<DeadLetter> {
        let position = MessagePosition { priority: Reverse(message.priority), sequence: self.numbers.next() };
        self.ready_bytes += message.size();
        self.ready.insert(position, ReadyMessage { message, redelivered: false, returned: 0 });
        self.dispatch();
        self.drop_oldest()
    }

    /// Removes the oldest waiting messages that are too many.
    fn drop_oldest(&mut self) -> Vec<DeadLetter> {
        let mut dropped = Vec::new();
        let QueueKind::Bounded { max_messages, max_bytes, .. } = self.kind else { return dropped };
        while self.waiting() > u64::from(max_messages) || self.ready_bytes > max_bytes {
            let Some((_, ReadyMessage { message, .. })) = self.ready.pop_first() else { break };
            self.ready_bytes -= message.size();
            dropped.push(DeadLetter { message, reason: "maxlen" });
        }
        dropped
    }

    pub(super) fn subscribe(&mut self, subscriber: Subscriber) {
        self.subscribers.push_back(subscriber);
        self.touch();
        self.dispatch();
    }

    /// Removes a subscriber. The caller drops it outside of the lock.
    pub(super) fn unsubscribe(&mut self, consumer: u64) -> Option<Subscriber> {
        let at = self.subscribers.iter().position(|subscriber| subscriber.id == consumer)?;
        let subscriber = self.subscribers.remove(at);
        self.touch();
        self.dispatch();
        subscriber
    }

    /// Settles the delivery with this tag, unless it is already settled.
    pub(super) fn settle(&mut self, tag: u64, settlement: Settlement) -> Option<DeadLetter> {
        let outstanding = self.outstanding.remove(&tag)?;
        if let Some(subscriber) = self.subscribers.iter_mut().find(|subscriber| subscriber.id == outstanding.consumer) {
            subscriber.credit += 1;
        }
        let dead_letter = match settlement {
            Settlement::Accept => None,
            Settlement::Requeue => self.requeue(outstanding),
            Settlement::DeadLetter => Some(DeadLetter { message: outstanding.entry.message, reason: "rejected" }),
        };
        self.dispatch();
        dead_letter
    }

    /// Requeues all deliveries of a closed connection. The caller drops the subscribers.
    pub(super) fn remove_connection(&mut self, connection: u64) -> (Vec<Subscriber>, Vec<DeadLetter>) {
        let (removed, remaining) = mem::take(&mut self.subscribers)
            .into_iter()
            .partition::<Vec<_>, _>(|subscriber| subscriber.connection == connection);
        self.subscribers = remaining.into();
        let returned: Vec<Outstanding> = self
            .outstanding
            .extract_if(|_, delivery| delivery.connection == connection)
            .map(|(_, delivery)| delivery)
            .collect();
        let dead_letters = returned.into_iter().filter_map(|delivery| self.requeue(delivery)).collect();
        if !removed.is_empty() {
            self.touch();
        }
        self.dispatch();
        (removed, dead_letters)
    }

    fn requeue(&mut self, delivery: Outstanding) -> Option<DeadLetter> {
        let Outstanding { position, mut entry, .. } = delivery;
        entry.redelivered = true;
        match self.kind {
            QueueKind::Quorum { delivery_limit, .. } => {
                entry.returned += 1;
                if delivery_limit.is_some_and(|limit| entry.returned > limit) {
                    return Some(DeadLetter { message: entry.message, reason: "delivery_limit" });
                }
            }
            QueueKind::Bounded { .. } => entry.returned += 1,
            QueueKind::Exclusive | QueueKind::Private | QueueKind::Transient { .. } => {}
        }
        self.ready_bytes += entry.message.size();
        self.ready.insert(position, entry);
        None
    }

    /// Dispatches waiting messages, as far as subscribers have credit.
    fn dispatch(&mut self) {
        while !self.ready.is_empty() && self.rotate_to_next() {
            let subscriber = &mut self.subscribers[0];
            let Ok(permit) = subscriber.deliveries.try_reserve() else {
                // Its receiver was dropped, or its credit is wrong: in both cases it cannot receive more.
                self.subscribers.pop_front();
                continue;
            };
            let Some((position, entry)) = self.ready.pop_first() else { return };
            self.ready_bytes -= entry.message.size();
            let tag = self.numbers.next();
            permit.send(Delivery::new(
                Message::clone(&entry.message),
                entry.redelivered,
                entry.returned,
                Unsettled { at: subscriber.settle.clone(), tag },
            ));
            subscriber.credit -= 1;
            let (consumer, connection) = (subscriber.id, subscriber.connection);
            self.outstanding.insert(tag, Outstanding { position, entry, consumer, connection });
            if !self.is_single_active() {
                self.subscribers.rotate_left(1);
            }
        }
    }

    /// Moves the next subscriber with credit to the front; false if none has credit.
    fn rotate_to_next(&mut self) -> bool {
        let candidates = if self.is_single_active() { 1 } else { self.subscribers.len() };
        let next = self.subscribers.iter().take(candidates).position(|subscriber| subscriber.credit > 0);
        if let Some(next) = next {
            self.subscribers.rotate_left(next);
        }
        next.is_some()
    }

    fn is_single_active(&self) -> bool {
        match self.kind {
            QueueKind::Quorum { single_active_consumer, .. } => single_active_consumer,
            QueueKind::Bounded { single_active_consumer, .. } => single_active_consumer,
            QueueKind::Exclusive | QueueKind::Private | QueueKind::Transient { .. } => false,
        }
    }
}
