//! The declarations made through one [`Amqp`](crate::Amqp), which are repeated on the next connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use lapin::{
    ExchangeKind as Kind,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::{
    channel::Channel,
    refusal::Refusal,
    session::{Failure, LOSS_GRACE, OPERATION_TIMEOUT, Session},
};
use crate::{Binding, Destination, Exchange, ExchangeKind, Queue, QueueKind};

/// The maximum number of concurrent declarations after a reconnect.
const MAX_CONCURRENT_DECLARES: usize = 16;

/// How long the lost connection may still hold an exclusive queue: the broker notices the loss after two heartbeats.
const EXCLUSIVE_RELEASE_TIMEOUT: Duration = Duration::from_secs(60);
const EXCLUSIVE_RETRY_DELAY: Duration = Duration::from_millis(500);

/// The delivery limit of a queue without one. Without this value, RabbitMQ 4 drops a message after twenty redeliveries, and
/// RabbitMQ 3 puts it behind all others. RabbitMQ 4 would accept -1, but RabbitMQ 3 would not.
const UNLIMITED: u32 = u32::MAX;

/// One declaration.
#[derive(Debug, Clone)]
pub(super) enum Declaration {
    Exchange(Exchange),
    Queue(Queue),
    Binding(Binding),
}

impl Declaration {
    /// Makes sure that the object exists.
    pub(super) async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        match self {
            Self::Exchange(exchange) => {
                let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
                let kind = match exchange.kind {
                    ExchangeKind::Direct => Kind::Direct,
                    ExchangeKind::Topic => Kind::Topic,
                    ExchangeKind::Fanout => Kind::Fanout,
                };
                let name = exchange.name.as_str().into();
                channel.exchange_declare(name, kind, options, FieldTable::default()).await
            }
            Self::Queue(queue) => {
                let (options, arguments) = queue_options(&queue.kind);
                match queue.kind {
                    QueueKind::Private => declare_private(channel, &queue.name, options, arguments).await,
                    QueueKind::Quorum { .. }
                    | QueueKind::Bounded { .. }
                    | QueueKind::Exclusive
                    | QueueKind::Transient { .. } => {
                        channel.queue_declare(queue.name.as_str().into(), options, arguments).await.map(drop)
                    }
                }
            }
            Self::Binding(Binding { exchange, key, to }) => {
                let (from, key, none) = (exchange.as_str().into(), key.as_str().into(), FieldTable::default());
                match to {
                    Destination::Queue(to) => {
                        let options = QueueBindOptions::default();
                        channel.queue_bind(channel.queue_name(to).into(), from, key, options, none).await
                    }
                    Destination::Exchange(to) => {
                        let options = ExchangeBindOptions::default();
                        channel.exchange_bind(to.as_str().into(), from, key, options, none).await
                    }
                }
            }
        }
    }

    /// The names in the declaration; AMQP limits the length of each.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Self::Exchange(exchange) => vec![&exchange.name],
            Self::Queue(queue) => vec![&queue.name],
            Self::Binding(Binding { exchange, key, to: Destination::Queue(to) | Destination::Exchange(to) }) => {
                vec![exchange, key, to]
            }
        }
    }

    fn is_exclusive(&self) -> bool {
        match self {
            Self::Queue(queue) => matches!(queue.kind, QueueKind::Exclusive),
            Self::Exchange(_) | Self::Binding(_) => false,
        }
    }

    pub(super) fn is_private(&self) -> bool {
        match self {
            Self::Queue(queue) => matches!(queue.kind, QueueKind::Private),
            Self::Exchange(_) | Self::Binding(_) => false,
        }
    }
}

impl fmt::Display for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(exchange) => write!(f, "exchange {:?}", exchange.name),
            Self::Queue(queue) => write!(f, "queue {:?}", queue.name),
            Self::Binding(Binding { exchange, key, to }) => {
                write!(f, "binding {key:?} of exchange {exchange:?} to ")?;
                match to {
                    Destination::Queue(name) => write!(f, "queue {name:?}"),
                    Destination::Exchange(name) => write!(f, "exchange {name:?}"),
                }
            }
        }
    }
}

/// Lets the broker name a private queue. If the connection has the queue, this only asks whether it still exists: if it does not, the
/// declaration fails once as not found.
async fn declare_private(
    channel: &Channel,
    name: &str,
    options: QueueDeclareOptions,
    arguments: FieldTable,
) -> lapin::Result<()> {
    let names = channel.private_names();
    match names.get(name) {
        Some(existing) => {
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let answer = channel.queue_declare(existing.into(), passive, arguments).await;
            if answer.as_ref().is_err_and(|error| Refusal::of(error).is_some_and(|refusal| refusal.is_not_found())) {
                names.remove(name);
            }
            answer.map(drop)
        }
        None => {
            let queue = channel.queue_declare("".into(), options, arguments).await?;
            names.insert(name, queue.name().to_string());
            Ok(())
        }
    }
}

fn queue_options(kind: &QueueKind) -> (QueueDeclareOptions, FieldTable) {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    match kind {
        QueueKind::Quorum { delivery_limit, dead_letter_to, single_active_consumer, expires } => {
            arguments.insert("x-queue-type".into(), text("quorum"));
            let limit = delivery_limit.unwrap_or(UNLIMITED);
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(limit.into()));
            if let Some(exchange) = dead_letter_to {
                arguments.insert("x-dead-letter-exchange".into(), text(exchange));
                // The message stays until another queue has it. RabbitMQ requires for this that a full queue rejects new
                // messages instead of dropping old ones; these queues have no limit and are never full.
                arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
                arguments.insert("x-overflow".into(), text("reject-publish"));
            }
            if *single_active_consumer {
                arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
            }
            if let Some(expires) = expires {
                arguments.insert("x-expires".into(), milliseconds(*expires));
            }
            (durable, arguments)
        }
        QueueKind::Bounded { max_messages, max_bytes, dropped_to, single_active_consumer, expires } => {
            arguments.insert("x-queue-type".into(), text("quorum"));
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(UNLIMITED.into()));
            if *single_active_consumer {
                arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
            }
            arguments.insert("x-overflow".into(), text("drop-head"));
            arguments.insert("x-max-length".into(), AMQPValue::LongLongInt((*max_messages).into()));
            let max_bytes = i64::try_from(*max_bytes).unwrap_or(i64::MAX);
            arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(max_bytes));
            if let Some((exchange, key)) = dropped_to {
                arguments.insert("x-dead-letter-exchange".into(), text(exchange));
                arguments.insert("x-dead-letter-routing-key".into(), text(key));
            }
            if let Some(expires) = expires {
                arguments.insert("x-expires".into(), milliseconds(*expires));
            }
            (durable, arguments)
        }
        QueueKind::Exclusive | QueueKind::Private => {
            (QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() }, arguments)
        }
        QueueKind::Transient { expires } => {
            arguments.insert("x-expires".into(), milliseconds(*expires));
            // RabbitMQ 4 deprecates queues that are neither durable nor exclusive. A durable queue survives a restart, but
            // still expires as long after its last consumer.
            (durable, arguments)
        }
    }
}

/// The expiry time of a queue, within RabbitMQ's limits: from 1 to 2^32 - 1 milliseconds.
fn milliseconds(time: Duration) -> AMQPValue {
    let time = time.as_millis().clamp(1, u32::MAX.into());
    AMQPValue::LongLongInt(i64::try_from(time).unwrap_or(i64::MAX))
}

/// All declarations so far.
#[derive(Default)]
pub(super) struct RecordedTopology(Mutex<Topology>);

#[derive(Default)]
struct Topology {
    exchanges: BTreeMap<String, Exchange>,
    queues: BTreeMap<String, Queue>,
    bindings: BTreeSet<Binding>,
}

impl RecordedTopology {
    fn lock(&self) -> MutexGuard<'_, Topology> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self, declaration: &Declaration) {
        let mut topology = self.lock();
        match declaration.clone() {
            Declaration::Exchange(exchange) => {
                topology.exchanges.insert(exchange.name.clone(), exchange);
            }
            Declaration::Queue(queue) => {
                topology.queues.insert(queue.name.clone(), queue);
            }
            Declaration::Binding(binding) => {
                topology.bindings.insert(binding);
            }
        }
    }

    pub(super) fn remove_binding(&self, binding: &Binding) {
        self.lock().bindings.remove(binding);
    }

    /// Removing a queue also removes the bindings to it.
    pub(super) fn remove_queue(&self, name: &str) {
        let mut topology = self.lock();
        topology.queues.remove(name);
        topology.bindings.retain(|binding| !matches!(&binding.to, Destination::Queue(to) if to == name));
    }

    /// The declarations in order; within a stage any order works.
    fn stages(&self) -> [Vec<Declaration>; 3] {
        let topology = self.lock();
        [
            topology.exchanges.values().cloned().map(Declaration::Exchange).collect(),
            topology.queues.values().cloned().map(Declaration::Queue).collect(),
            topology.bindings.iter().cloned().map(Declaration::Binding).collect(),
        ]
    }

    /// Repeats all declarations on a new session. A declaration that the broker now refuses is skipped and logged.
    pub(super) async fn restore(&self, session: &Session) {
        for stage in self.stages() {
            stream::iter(&stage)
                .for_each_concurrent(MAX_CONCURRENT_DECLARES, |declaration| restore(session, declaration))
                .await;
        }
    }
}

async fn restore(session: &Session, declaration: &Declaration) {
    let mut elapsed = Duration::ZERO;
    while !session.is_lost() {
        let result = session.operate(|channel| async move { declaration.declare(&channel).await });
        let Err(failure) = result.await else { return };
        if matches!(failure, Failure::Silent) && !session.is_lost() {
            // The consumer of the queue retries, and logs that.
            let seconds = OPERATION_TIMEOUT.as_secs();
            tracing::warn!(what = %declaration, seconds, "the broker did not answer to a repeated declaration");
            return;
        }
        match failure.refusal() {
            None => session.wait_for_loss(LOSS_GRACE).await,
            Some(_) if declaration.is_exclusive() && elapsed < EXCLUSIVE_RELEASE_TIMEOUT => {
                session.wait_for_loss(EXCLUSIVE_RETRY_DELAY).await;
                elapsed += EXCLUSIVE_RETRY_DELAY;
            }
            Some(Refusal { reason, .. }) => {
                tracing::warn!(%reason, what = %declaration, "could not repeat a declaration after a reconnect");
                return;
            }
        }
    }
}
