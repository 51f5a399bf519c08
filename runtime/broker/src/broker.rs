//! The contract of every broker, and how each of its operations can fail.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Binding, Consumer, Delivery, Exchange, Message, Queue};

/// Why something could not be declared.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// The object exists with other properties.
    #[error("{object} exists with other properties: {reason}")]
    Mismatch {
        /// The exchange, queue or binding.
        object: String,
        /// The broker's message.
        reason: String,
    },
    /// The broker refused.
    #[error("the broker refused {what}: {reason}")]
    Refused {
        /// The exchange, queue or binding.
        what: String,
        /// The broker's message.
        reason: String,
    },
    /// The user lacks a permission. The broker's message names the permission and the object.
    #[error("this user of the broker has no permission to declare {what}: {reason}")]
    AccessRefused {
        /// The exchange, queue or binding.
        what: String,
        /// The broker's message.
        reason: String,
    },
    /// The broker did not answer this declaration in time, but answers others.
    #[error("the broker has not answered about {what} for {seconds} seconds: {NO_LEADER_HINT}")]
    TimedOut {
        /// The exchange, queue or binding.
        what: String,
        /// The waiting time.
        seconds: u64,
    },
    /// The broker was closed from this side.
    #[error("the broker is closed")]
    Closed,
}

/// The remedy when a broker does not answer about a queue.
const NO_LEADER_HINT: &str = "the quorum queue may have no leader; delete it and its messages with `rabbitmqctl delete_queue`, and it is \
    created again";

/// Why a message may not have arrived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No queue received the message.
    #[error("no queue receives messages for {key:?} on exchange {exchange:?}")]
    Unroutable {
        /// The exchange.
        exchange: String,
        /// The routing key.
        key: String,
    },
    /// At least one queue has rejected the message, for example because it is full (a nack). Other queues have it.
    #[error("a queue rejected a message for {key:?} on exchange {exchange:?}")]
    Rejected {
        /// The exchange.
        exchange: String,
        /// The routing key.
        key: String,
    },
    /// The broker refused: the exchange is missing, or the user may not publish to it.
    #[error("the broker refused a message for {key:?} on exchange {exchange:?}: {reason}")]
    Refused {
        /// The exchange.
        exchange: String,
        /// The routing key.
        key: String,
        /// The broker's message.
        reason: String,
    },
    /// The message can never be sent: its body is larger than the broker allows, or its key, an id or its headers are larger than AMQP
    /// allows. A retry does not help.
    #[error("a message for {key:?} on exchange {exchange:?} is larger than the broker allows: {reason}")]
    TooLarge {
        /// The exchange.
        exchange: String,
        /// The routing key.
        key: String,
        /// What is too large, with the size and the maximum.
        reason: String,
    },
    /// The confirm did not arrive: the connection was lost, or a target queue has no leader. The message may have arrived:
    /// publish it again.
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
    /// The queue does not exist.
    #[error("there is no queue {queue:?}")]
    NoQueue {
        /// The queue's name.
        queue: String,
    },
    /// The broker refused.
    #[error("the broker refused a consumer of queue {queue:?}: {reason}")]
    Refused {
        /// The queue.
        queue: String,
        /// The broker's message.
        reason: String,
    },
    /// The broker did not answer about this queue in time, but answers others.
    #[error("the broker has not answered about queue {queue:?} for {seconds} seconds: {NO_LEADER_HINT}")]
    Silent {
        /// The queue.
        queue: String,
        /// The waiting time.
        seconds: u64,
    },
    /// The broker was closed from this side.
    #[error("the broker is closed")]
    Closed,
}

/// How much [`Broker::take`] reads at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakeLimits {
    /// The maximum number of messages.
    pub messages: usize,
    /// The size of all messages together, in bytes, at which no further one is taken. The last message may exceed it.
    pub bytes: usize,
}

/// Whether a consumer wants a message. It is called once for each delivery, and must not block.
pub type MessageFilter = Arc<dyn Fn(&Message) -> bool + Send + Sync>;

/// A message broker, as the runtime uses one. Cheap to share: all methods take `&self`.
///
/// While the connection is lost, methods wait until it is back (reconnects are automatic); dropping their future is safe. If
/// the broker answers but not about one queue, they fail after a time limit. After a reconnect, all declarations made
/// through this value are repeated, and consumers continue.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Makes sure that the exchange exists. Idempotent.
    async fn declare_exchange(&self, exchange: &Exchange) -> Result<(), DeclareError>;
    /// Makes sure that the queue exists. Idempotent.
    async fn declare_queue(&self, queue: &Queue) -> Result<(), DeclareError>;
    /// Makes sure that the binding exists. Idempotent.
    async fn bind(&self, binding: &Binding) -> Result<(), DeclareError>;
    /// Removes a binding. A missing binding is no error.
    async fn unbind(&self, binding: &Binding) -> Result<(), DeclareError>;
    /// Deletes a queue and its messages. A missing queue is no error.
    async fn delete_queue(&self, name: &str) -> Result<(), DeclareError>;
    /// Publishes and waits for the broker's confirm. Messages published from one task are sent in the order in which their
    /// futures are first polled, except those of more than 16 MiB; many may wait for confirms at once.
    async fn publish(&self, message: Message) -> Result<(), PublishError>;
    /// Opens a separate consumer on the queue (with its own channel on AMQP). At most `prefetch` deliveries are unsettled at
    /// a time (at least one). A consumer survives reconnects: its unsettled deliveries are then redelivered. It ends when
    /// its queue is deleted.
    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Consumer, ConsumeError> {
        self.consume_filtered(queue, prefetch, Arc::new(|_| true)).await
    }
    /// Opens a consumer as [`Broker::consume`] does, for the messages that the filter lets through. The others are dead-lettered as
    /// soon as they arrive, or dropped if they are not persistent, even while the consumer takes nothing: so they take no memory.
    async fn consume_filtered(
        &self,
        queue: &str,
        prefetch: u16,
        filter: MessageFilter,
    ) -> Result<Consumer, ConsumeError>;
    /// Takes the messages of a queue one after the other, until a limit is reached or no message waits. Only they are in memory.
    /// They are unsettled: dropped without settlement, they return to the queue.
    async fn take(&self, queue: &str, limits: TakeLimits) -> Result<Vec<Delivery>, ConsumeError>;
    /// The number of connections so far, with the current one. A connection counts once the declarations were repeated on it,
    /// and before anything is delivered over it. So who has seen the same number twice has missed nothing in between that was
    /// sent to queues of its own.
    fn connections(&self) -> u64 {
        1
    }
    /// Whether accepted messages survive the end of this process.
    fn is_durable(&self) -> bool {
        true
    }
    /// The number of messages that wait in a queue; `None` if the queue does not exist.
    async fn waiting(&self, queue: &str) -> Result<Option<u64>, DeclareError>;
    /// The number of consumers of a queue; `None` if the queue does not exist. A reconnecting consumer is not counted.
    async fn consumers(&self, queue: &str) -> Result<Option<u64>, DeclareError>;
    /// Closes in order: consumers end, and unsettled deliveries return to their queues.
    async fn close(&self);
}
