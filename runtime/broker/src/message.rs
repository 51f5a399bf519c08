//! What is published and delivered.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The header of a dead-lettered message that says when the broker dead-lettered it last, by the broker's clock, in whole
/// seconds since 1970. Only AMQP brokers set it.
pub const DEATH_TIME: &str = "x-last-death-time";

/// What becomes of a message that no queue takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// The publish fails with [`PublishError::Unroutable`](crate::PublishError::Unroutable).
    Mandatory,
    /// Nobody listens, and that is fine.
    Optional,
}

/// A message on its way to an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The exchange; the empty name leads straight to the queue named by the key.
    pub exchange: String,
    /// The routing key.
    pub key: String,
    /// What becomes of it when no queue takes it. A delivered message is always [`Routing::Optional`]: the
    /// question was answered when it was published.
    pub routing: Routing,
    /// Survives a restart of the broker (in a durable queue).
    pub persistent: bool,
    /// From 0 to 9, higher first; a hint that not every queue knows.
    pub priority: u8,
    /// Message id, reply queue, content type and headers.
    pub properties: Properties,
    /// The bytes.
    pub body: Bytes,
}

/// What a message carries in the clear, so that an operator can read a queue.
///
/// A dead-lettered message also has the headers `x-first-death-queue` and `x-first-death-reason`
/// (`rejected` or `delivery_limit`), and [`DEATH_TIME`] where the broker has a clock of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties {
    /// The sender's id of the message.
    pub message_id: Option<String>,
    /// The queue an answer is wanted on.
    pub reply_to: Option<String>,
    /// What the answer will name.
    pub correlation_id: Option<String>,
    /// For example `application/json`.
    pub content_type: Option<String>,
    /// Ids and the like, short texts.
    pub headers: BTreeMap<String, String>,
}
