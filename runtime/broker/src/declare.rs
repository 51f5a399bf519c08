//! The objects to declare: exchanges, queues, and the bindings between them.

use std::time::Duration;

/// How an exchange chooses queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By the exact routing key.
    Direct,
    /// By a pattern over the key's words: `*` is one word, `#` is none or more.
    Topic,
    /// To every bound queue.
    Fanout,
}

/// An exchange to declare. Every exchange is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// How it chooses.
    pub kind: ExchangeKind,
}

/// The durability and lifetime of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueKind {
    /// Durable and replicated (a quorum queue). A message that was redelivered more than `delivery_limit` times without
    /// being accepted goes to the exchange `dead_letter_to`, if any, else it is dropped.
    Quorum {
        /// The maximum number of redeliveries; unlimited if `None`.
        delivery_limit: Option<u32>,
        /// The exchange for messages that were rejected or redelivered too often. They keep their routing key. Declaring the
        /// queue needs the permission to write to this exchange, and to read the queue.
        dead_letter_to: Option<String>,
        /// Whether only one consumer at a time receives messages, and another takes over when it ends.
        single_active_consumer: bool,
        /// How long the queue stays without a consumer; forever if `None`.
        expires: Option<Duration>,
    },
    /// Durable and replicated (a quorum queue), with a maximum size: then the oldest waiting messages are dropped for new ones, so that no
    /// sender ever waits or learns of it. Deliveries are not counted.
    Bounded {
        /// The maximum number of waiting messages.
        max_messages: u32,
        /// The maximum size of the bodies of waiting messages, in bytes.
        max_bytes: u64,
        /// The exchange that gets dropped messages, and the routing key that they get; otherwise they are gone. Declaring the queue needs the
        /// permission to write to this exchange, and to read the queue.
        dropped_to: Option<(String, String)>,
        /// Whether only one of the consumers receives messages; another takes over when it leaves.
        single_active_consumer: bool,
        /// How long the queue stays without a consumer; forever if `None`.
        expires: Option<Duration>,
    },
    /// Deleted with the connection that declared it; no other connection may use it, or declare a queue of its name.
    Exclusive,
    /// Like an exclusive queue, but its name is known to its connection only: others may have private queues of the same name. The broker
    /// gives it a name of its own, which no exchange can have, so its user needs no permission that would let it declare exchanges.
    Private,
    /// Not replicated; deleted once unused for this long. Other connections may use it.
    Transient {
        /// How long the queue stays without a consumer.
        expires: Duration,
    },
}

/// A queue to declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its durability and lifetime.
    pub kind: QueueKind,
}

/// A rule by which an exchange passes on messages.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// The source exchange.
    pub exchange: String,
    /// The key to match: equal (direct) or a pattern (topic). Fanout ignores it.
    pub key: String,
    /// The destination.
    pub to: Destination,
}

/// The end of a binding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// A queue.
    Queue(String),
    /// Another exchange.
    Exchange(String),
}
