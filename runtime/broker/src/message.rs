//! Messages, as they are published and delivered.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The header of a dead-lettered message with the time of its last dead-lettering, by the broker's clock, in whole seconds
/// since 1970. Only AMQP brokers set it.
pub const DEATH_TIME: &str = "x-last-death-time";

/// How to treat a message that no queue receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// The publish fails with [`PublishError::Unroutable`](crate::PublishError::Unroutable).
    Mandatory,
    /// The message is dropped without an error.
    Optional,
}

/// A message on its way to an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The exchange; the empty name routes directly to the queue that the key names.
    pub exchange: String,
    /// The routing key.
    pub key: String,
    /// How to treat the message if no queue receives it. A delivered message is always [`Routing::Optional`], since it is
    /// already routed.
    pub routing: Routing,
    /// Whether the message survives a restart of the broker (in a durable queue).
    pub persistent: bool,
    /// From 0 to 9, higher first; a hint that some queues ignore.
    pub priority: u8,
    /// Message id, reply queue, content type and headers.
    pub properties: Properties,
    /// The bytes.
    pub body: Bytes,
}

impl Message {
    /// About the bytes that the message takes in memory: its body, its texts, and the maps around them.
    pub(crate) fn size(&self) -> u64 {
        let Properties { message_id, reply_to, correlation_id, content_type, headers } = &self.properties;
        let texts = [message_id, reply_to, correlation_id, content_type].into_iter().flatten().map(String::len);
        let headers = headers.iter().map(|(name, value)| name.len() + value.len() + 2 * size_of::<String>());
        (size_of::<Self>() + self.body.len() + texts.chain(headers).sum::<usize>()) as u64
    }
}

/// Properties that are sent unencoded, so that an operator can read a queue.
///
/// A dead-lettered message also has the headers `x-first-death-queue` and `x-first-death-reason`
/// (`rejected` or `delivery_limit`), and [`DEATH_TIME`] if the broker has its own clock.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties {
    /// The sender's id of the message.
    pub message_id: Option<String>,
    /// The queue for the reply.
    pub reply_to: Option<String>,
    /// The id that the reply will carry.
    pub correlation_id: Option<String>,
    /// For example `application/json`.
    pub content_type: Option<String>,
    /// Short texts, such as ids.
    pub headers: BTreeMap<String, String>,
}
