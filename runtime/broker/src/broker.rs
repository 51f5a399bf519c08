//! The contract every broker keeps, and how each of its operations can fail.

use async_trait::async_trait;

use crate::{Binding, Consumer, Exchange, Message, Queue};

/// Why something could not be declared.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// It is there already and not what is wanted.
    #[error("{object} is there already and differs: {reason}")]
    Mismatch {
        /// The exchange, queue or binding.
        object: String,
        /// The broker's words.
        reason: String,
    },
    /// The broker said no.
    #[error("the broker refused {what}: {reason}")]
    Refused {
        /// The exchange, queue or binding.
        what: String,
        /// The broker's words.
        reason: String,
    },
    /// The broker answers, but says nothing of this.
    #[error("the broker has said nothing of {what} for {seconds} seconds: {NO_LEADER_HINT}")]
    TimedOut {
        /// The exchange, queue or binding.
        what: String,
        /// For how long.
        seconds: u64,
    },
    /// The broker was closed from this side.
    #[error("the broker is closed")]
    Closed,
}

/// What a person can do about a queue of which a broker says nothing.
const NO_LEADER_HINT: &str = "a quorum queue without a leader does that; delete it with `rabbitmqctl delete_queue`, with what is in it, and \
    it is made anew";

/// Why a message may not have arrived.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No queue took it.
    #[error("no queue takes messages for {key:?} on exchange {exchange:?}")]
    Unroutable {
        /// The exchange.
        exchange: String,
        /// The routing key.
        key: String,
    },
    /// The broker said no (a nack, or an exchange that is not there).
    #[error("the broker refused a message for {key:?} on exchange {exchange:?}: {reason}")]
    Refused {
        /// The exchange.
        exchange: String,
        /// The routing key.
        key: String,
        /// The broker's words.
        reason: String,
    },
    /// It is larger than the broker takes. No other attempt helps.
    #[error("a message for {key:?} on exchange {exchange:?} is larger than the broker takes: {reason}")]
    TooLarge {
        /// The exchange.
        exchange: String,
        /// The routing key.
        key: String,
        /// The broker's words, with both sizes.
        reason: String,
    },
    /// The confirm did not come: the connection went before, or a queue that takes the message has no leader. The message may
    /// have arrived: publish it again.
    #[error("the broker has not confirmed a message for {key:?}: the connection was lost, or a queue has no leader")]
    Unconfirmed {
        /// The routing key.
        key: String,
    },
    /// The broker was closed from this side.
    #[error("the broker is closed")]
    Closed,
}

/// Why a queue cannot be consumed.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// There is no such queue.
    #[error("there is no queue {queue:?}")]
    NoQueue {
        /// Its name.
        queue: String,
    },
    /// The broker said no.
    #[error("the broker refused to let queue {queue:?} be consumed: {reason}")]
    Refused {
        /// The queue.
        queue: String,
        /// The broker's words.
        reason: String,
    },
    /// The broker answers, but says nothing of this queue.
    #[error("the broker has said nothing of queue {queue:?} for {seconds} seconds: {NO_LEADER_HINT}")]
    Silent {
        /// The queue.
        queue: String,
        /// For how long.
        seconds: u64,
    },
    /// The broker was closed from this side.
    #[error("the broker is closed")]
    Closed,
}

/// A message broker, as the runtime uses one. Cheap to share: all methods take `&self`.
///
/// While a connection is away, methods wait until it is back (it comes back by itself); dropping their future
/// is safe. Of a queue that says nothing while the broker does they say so after some time. What was declared through this value is declared again after a reconnect, and consumers go on.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Makes sure the exchange is there. Idempotent.
    async fn declare_exchange(&self, exchange: &Exchange) -> Result<(), DeclareError>;
    /// Makes sure the queue is there. Idempotent.
    async fn declare_queue(&self, queue: &Queue) -> Result<(), DeclareError>;
    /// Makes sure the binding is there. Idempotent.
    async fn bind(&self, binding: &Binding) -> Result<(), DeclareError>;
    /// Takes a binding back. It is no error when it is not there.
    async fn unbind(&self, binding: &Binding) -> Result<(), DeclareError>;
    /// Removes a queue and what is in it. It is no error when it is not there.
    async fn delete_queue(&self, name: &str) -> Result<(), DeclareError>;
    /// Publishes and waits for the broker's confirm. Messages published from one task are sent in the order
    /// in which their futures are first polled; many may wait for confirms at once.
    async fn publish(&self, message: Message) -> Result<(), PublishError>;
    /// Opens a consumer of its own on the queue (a channel of its own on AMQP). At most `prefetch` deliveries are
    /// out and unsettled at a time (at least one). A consumer lives through reconnects: what was out then comes
    /// again. It ends when its queue is deleted.
    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Consumer, ConsumeError>;
    /// Whether what it has taken is there when this process is not.
    fn is_durable(&self) -> bool {
        true
    }
    /// How many messages wait in a queue, or `None` when there is no such queue.
    async fn waiting(&self, queue: &str) -> Result<Option<u64>, DeclareError>;
    /// How many consumers a queue has, or `None` when there is no such queue. One that is just reconnecting is not counted.
    async fn consumers(&self, queue: &str) -> Result<Option<u64>, DeclareError>;
    /// Closes in order: consumers end, what is unsettled goes back.
    async fn close(&self);
}
