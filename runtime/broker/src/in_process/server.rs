//! The state behind all handles: exchanges and queues under one lock, held for a few map operations and never over an await.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{mpsc, watch};

use super::{
    queue::{DeadLetter, Numbers, Queue, Subscriber},
    route::{BindingTarget, Routes},
};
use crate::{
    Binding, ConsumeError, Consumer, DeclareError, Exchange, Message, PublishError, QueueKind, Routing, Settlement,
    delivery::Settle,
};

#[derive(Default)]
pub(super) struct Server {
    state: Mutex<State>,
    numbers: Arc<Numbers>,
}

#[derive(Default)]
struct State {
    exchanges: HashMap<Arc<str>, Routes>,
    queues: HashMap<Arc<str>, Queue>,
}

/// One connection: closing it deletes its exclusive queues and returns its unsettled deliveries.
pub(super) struct Connection {
    id: u64,
    closed: AtomicBool,
    /// The names of its private queues.
    private: Mutex<HashSet<String>>,
}

impl Connection {
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The name of a queue on the server, where those of private queues are unique.
    pub(super) fn queue_name(&self, name: &str) -> String {
        if self.private().contains(name) { format!("{name} of connection {}", self.id) } else { name.to_owned() }
    }

    /// The names of its private queues.
    pub(super) fn private(&self) -> MutexGuard<'_, HashSet<String>> {
        // Each change is a single operation, so the set is always consistent.
        self.private.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Settles the deliveries of one consumer.
struct Settler {
    server: Weak<Server>,
    connection: Arc<Connection>,
    queue: Arc<str>,
}

impl Settle for Settler {
    fn settle(&self, tag: u64, settlement: Settlement) {
        if let Some(server) = self.server.upgrade() {
            server.settle(&self.queue, tag, settlement);
        }
    }

    fn is_lost(&self) -> bool {
        self.connection.is_closed()
    }
}

impl Server {
    pub(super) fn connect(&self) -> Arc<Connection> {
        Arc::new(Connection { id: self.numbers.next(), closed: AtomicBool::new(false), private: Mutex::default() })
    }

    /// A panic in another thread cannot leave a harmful partial change: the lock protects maps, each changed by complete
    /// operations.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn declare_exchange(&self, exchange: &Exchange) -> Result<(), DeclareError> {
        let mut state = self.lock();
        match state.exchanges.get(exchange.name.as_str()) {
            Some(routes) if routes.kind() != exchange.kind => Err(DeclareError::Mismatch {
                object: format!("exchange {:?}", exchange.name),
                reason: format!("it is of kind {:?}", routes.kind()),
            }),
            Some(_) => Ok(()),
            None => {
                let name = exchange.name.as_str().into();
                state.exchanges.insert(name, Routes::new(exchange.kind));
                Ok(())
            }
        }
    }

    pub(super) fn declare_queue(&self, connection: &Connection, queue: &crate::Queue) -> Result<(), DeclareError> {
        let mut state = self.lock();
        let expired = state.expire_queues();
        let result = match state.queue(&queue.name) {
            Some(existing) if !existing.allows(connection.id) => Err(locked(&queue.name)),
            Some(existing) if existing.kind != queue.kind => Err(DeclareError::Mismatch {
                object: format!("queue {:?}", queue.name),
                reason: format!("it is {:?}", existing.kind),
            }),
            Some(existing) => {
                existing.touch();
                Ok(())
            }
            None => {
                let new = Queue::new(queue.kind.clone(), connection.id, self.numbers.clone());
                state.queues.insert(queue.name.as_str().into(), new);
                Ok(())
            }
        };
        drop(state);
        drop(expired);
        result
    }

    pub(super) fn bind(&self, connection: &Connection, binding: &Binding) -> Result<(), DeclareError> {
        let mut state = self.lock();
        let target = BindingTarget::from(&binding.to);
        match &target {
            BindingTarget::Queue(name) => match state.queue(name) {
                Some(queue) if !queue.allows(connection.id) => return Err(locked(name)),
                Some(_) => {}
                None => return Err(missing(binding, &format!("queue {name:?}"))),
            },
            BindingTarget::Exchange(name) if !state.exchanges.contains_key(name) => {
                return Err(missing(binding, &format!("exchange {name:?}")));
            }
            BindingTarget::Exchange(_) => {}
        }
        match state.exchanges.get_mut(binding.exchange.as_str()) {
            Some(routes) => {
                routes.bind(&binding.key, target);
                Ok(())
            }
            None => Err(missing(binding, &format!("exchange {:?}", binding.exchange))),
        }
    }

    pub(super) fn unbind(&self, binding: &Binding) {
        if let Some(routes) = self.lock().exchanges.get_mut(binding.exchange.as_str()) {
            routes.unbind(&binding.key, &BindingTarget::from(&binding.to));
        }
    }

    pub(super) fn delete_queue(&self, connection: &Connection, name: &str) -> Result<(), DeclareError> {
        let mut state = self.lock();
        if state.queue(name).is_some_and(|queue| !queue.allows(connection.id)) {
            return Err(locked(name));
        }
        let queue = state.remove_queue(name);
        drop(state);
        drop(queue);
        Ok(())
    }

    pub(super) fn waiting(&self, connection: &Connection, name: &str) -> Result<Option<u64>, DeclareError> {
        match self.lock().queue(name) {
            Some(queue) if !queue.allows(connection.id) => Err(locked(name)),
            Some(queue) => Ok(Some(queue.waiting())),
            None => Ok(None),
        }
    }

    pub(super) fn messages(&self) -> Vec<(String, Message)> {
        let state = self.lock();
        let queue_messages = |(name, queue): (&Arc<str>, &Queue)| {
            queue.messages().map(|message| (name.to_string(), message.clone())).collect::<Vec<_>>()
        };
        state.queues.iter().flat_map(queue_messages).collect()
    }

    pub(super) fn consumers(&self, connection: &Connection, name: &str) -> Result<Option<u64>, DeclareError> {
        match self.lock().queue(name) {
            Some(queue) if !queue.allows(connection.id) => Err(locked(name)),
            Some(queue) => Ok(Some(queue.consumers())),
            None => Ok(None),
        }
    }

    pub(super) fn publish(&self, mut message: Message) -> Result<(), PublishError> {
        let mut state = self.lock();
        let Some(queues) = state.route(&message.exchange, &message.key) else {
            let Message { exchange, key, .. } = message;
            let reason = format!("there is no exchange {exchange:?}");
            return Err(PublishError::Refused { exchange, key, reason });
        };
        match message.routing {
            Routing::Mandatory if queues.is_empty() => {
                let Message { exchange, key, .. } = message;
                return Err(PublishError::Unroutable { exchange, key });
            }
            Routing::Mandatory | Routing::Optional => message.routing = Routing::Optional,
        }
        let message = Arc::new(message);
        for name in &queues {
            let dropped = state.queues.get_mut(name).map(|queue| queue.push(message.clone())).unwrap_or_default();
            dropped.into_iter().for_each(|dropped| state.dead_letter(name, dropped));
        }
        Ok(())
    }

    pub(super) fn consume(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        name: &str,
        prefetch: u16,
    ) -> Result<Consumer, ConsumeError> {
        let mut state = self.lock();
        let Some((queue_name, queue)) = state.named_queue(name) else {
            return Err(ConsumeError::NoQueue { queue: name.to_owned() });
        };
        if !queue.allows(connection.id) {
            let reason = LOCKED.to_owned();
            return Err(ConsumeError::Refused { queue: name.to_owned(), reason });
        }
        let credit = prefetch.max(1);
        let (deliveries, receiver) = mpsc::channel(usize::from(credit));
        let id = self.numbers.next();
        let settle = Arc::new(Settler {
            server: Arc::downgrade(self),
            connection: connection.clone(),
            queue: queue_name.clone(),
        });
        queue.subscribe(Subscriber { id, connection: connection.id, credit, deliveries, settle });
        let server = Arc::downgrade(self);
        // This connection is never lost.
        let (_, renewals) = watch::channel(0);
        Ok(Consumer::new(receiver, renewals, move || {
            if let Some(server) = server.upgrade() {
                server.cancel(&queue_name, id);
            }
        }))
    }

    fn cancel(&self, queue: &str, consumer: u64) {
        let subscriber = self.lock().queues.get_mut(queue).and_then(|queue| queue.unsubscribe(consumer));
        drop(subscriber);
    }

    fn settle(&self, queue: &str, tag: u64, settlement: Settlement) {
        let mut state = self.lock();
        let Some(source) = state.queues.get_mut(queue) else { return };
        if let Some(dead_letter) = source.settle(tag, settlement) {
            state.dead_letter(queue, dead_letter);
        }
    }

    pub(super) fn close(&self, connection: &Connection) {
        let mut state = self.lock();
        if connection.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut names: Vec<Arc<str>> = state.queues.keys().cloned().collect();
        // Queues are processed in this order, so that equal histories give equal results.
        names.sort();
        let mut deleted = Vec::new();
        let mut subscribers = Vec::new();
        for name in names {
            let Some(queue) = state.queues.get_mut(&name) else { continue };
            if matches!(queue.kind, QueueKind::Exclusive | QueueKind::Private) && queue.owner == connection.id {
                deleted.extend(state.remove_queue(&name));
                continue;
            }
            let (removed, dead_letters) = queue.remove_connection(connection.id);
            subscribers.extend(removed);
            for dead_letter in dead_letters {
                state.dead_letter(&name, dead_letter);
            }
        }
        drop(state);
        drop((deleted, subscribers));
    }
}

impl State {
    fn queue(&mut self, name: &str) -> Option<&mut Queue> {
        self.named_queue(name).map(|(_, queue)| queue)
    }

    /// The queue, unless it does not exist or has expired.
    fn named_queue(&mut self, name: &str) -> Option<(Arc<str>, &mut Queue)> {
        if self.queues.get(name)?.is_expired() {
            self.remove_queue(name);
            return None;
        }
        let name = self.queues.get_key_value(name)?.0.clone();
        let queue = self.queues.get_mut(&name)?;
        Some((name, queue))
    }

    /// Removes a queue and the bindings to it. The caller drops it outside of the lock.
    fn remove_queue(&mut self, name: &str) -> Option<Queue> {
        let (name, queue) = self.queues.remove_entry(name)?;
        let target = BindingTarget::Queue(name);
        self.exchanges.values_mut().for_each(|routes| routes.remove_target(&target));
        Some(queue)
    }

    /// Removes expired transient queues. The time of removal cannot be observed, so it happens when another queue is declared.
    fn expire_queues(&mut self) -> Vec<Queue> {
        let expired: Vec<Arc<str>> =
            self.queues.iter().filter(|(_, queue)| queue.is_expired()).map(|(name, _)| name.clone()).collect();
        expired.iter().filter_map(|name| self.remove_queue(name)).collect()
    }

    /// The queues that receive a message, each once; `None` if the exchange does not exist.
    fn route(&mut self, exchange: &str, key: &str) -> Option<Vec<Arc<str>>> {
        if exchange.is_empty() {
            return Some(self.named_queue(key).map(|(name, _)| name).into_iter().collect());
        }
        let mut targets = Vec::new();
        self.exchanges.get(exchange)?.each(key, |target| targets.push(target.clone()));
        // Most messages have one target.
        if let [BindingTarget::Queue(name)] = &targets[..] {
            let exists = self.queues.get(name).is_some_and(|queue| !queue.is_expired());
            return Some(if exists { vec![name.clone()] } else { Vec::new() });
        }
        let mut queues: Vec<Arc<str>> = Vec::with_capacity(targets.len());
        let mut visited: HashSet<BindingTarget> = HashSet::new();
        while let Some(target) = targets.pop() {
            if !visited.insert(target.clone()) {
                continue;
            }
            match target {
                BindingTarget::Queue(name) => {
                    if self.queues.get(&name).is_some_and(|queue| !queue.is_expired()) {
                        queues.push(name);
                    }
                }
                BindingTarget::Exchange(name) => {
                    if let Some(routes) = self.exchanges.get(&name) {
                        routes.each(key, |target| targets.push(target.clone()));
                    }
                }
            }
        }
        Some(queues)
    }

    /// Publishes a message that left `from` to its dead-letter exchange, with the headers that RabbitMQ adds.
    fn dead_letter(&mut self, from: &str, dead_letter: DeadLetter) {
        let Some(queue) = self.queues.get(from) else { return };
        let Some(exchange) = queue.dead_letter_to().map(str::to_owned) else { return };
        let key = queue.dead_letter_key().map(str::to_owned);
        let mut message = Message::clone(&dead_letter.message);
        let headers = &mut message.properties.headers;
        if !headers.contains_key("x-first-death-queue") {
            headers.insert("x-first-death-exchange".to_owned(), message.exchange);
            headers.insert("x-first-death-queue".to_owned(), from.to_owned());
            headers.insert("x-first-death-reason".to_owned(), dead_letter.reason.to_owned());
        }
        message.key = key.unwrap_or(message.key);
        let queues = self.route(&exchange, &message.key).unwrap_or_default();
        message.exchange = exchange;
        let message = Arc::new(message);
        for name in queues {
            if let Some(queue) = self.queues.get_mut(&name) {
                // What this drops is gone: no queue gets the dead letters of dead letters.
                drop(queue.push(message.clone()));
            }
        }
    }
}

const LOCKED: &str = "it is exclusive to another connection";

fn locked(queue: &str) -> DeclareError {
    DeclareError::Refused { what: format!("queue {queue:?}"), reason: LOCKED.to_owned() }
}

fn missing(binding: &Binding, what: &str) -> DeclareError {
    DeclareError::Refused {
        what: format!("binding {:?} of exchange {:?}", binding.key, binding.exchange),
        reason: format!("there is no {what}"),
    }
}
