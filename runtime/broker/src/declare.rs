//! What can be declared: exchanges, queues, and the bindings between them.

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

/// An exchange to be there. Every exchange is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// How it chooses.
    pub kind: ExchangeKind,
}

/// How a queue is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueKind {
    /// Durable and replicated (a quorum queue). A message that was delivered more than `delivery_limit` times
    /// without being accepted goes to the queue `dead_letter_to`, if any, else it is dropped.
    Quorum {
        /// How often a message may come back; any number of times when not given.
        delivery_limit: Option<u32>,
        /// The queue that keeps what was refused or came back too often.
        dead_letter_to: Option<String>,
        /// Whether one consumer at a time gets everything, and another takes over when it goes.
        single_active_consumer: bool,
        /// How long it stays without a consumer; for ever when not given.
        expires: Option<Duration>,
    },
    /// Gone with the connection that declared it; nobody else may use it.
    Exclusive,
    /// On one node alone; gone once unused for this long. Others may use it.
    Transient {
        /// How long it stays without a consumer.
        expires: Duration,
    },
}

/// A queue to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// How it is kept.
    pub kind: QueueKind,
}

/// What an exchange passes on, and where to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// From this exchange.
    pub exchange: String,
    /// What has this key (direct), or fits this pattern (topic). Fanout does not look.
    pub key: String,
    /// To here.
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
