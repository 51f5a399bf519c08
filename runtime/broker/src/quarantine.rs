//! Moves unreadable messages to the quarantine: a copy with the reason goes to a queue that an operator reads.
//!
//! A copy is published instead of rejecting the delivery, for three reasons. It carries the reason; its arrival is confirmed
//! before the delivery is accepted; and it works for queues without a dead-letter queue.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use protocol::topology as names;
use tracing::warn;

use crate::{Broker, Delivery, Message, PublishError, Routing, topology};

/// The pause before a refused copy is published again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The maximum length of a reason in a copy, in characters.
const MAX_REASON_CHARS: usize = 1_000;

/// The quarantine copy of a message, with the queue it came from and the reason.
#[must_use]
pub fn quarantined(message: &Message, queue: &str, reason: &str) -> Message {
    let mut properties = message.properties.clone();
    // The broker's headers about an earlier dead-lettering are obsolete.
    properties.headers.retain(|name, _| !name.starts_with("x-"));
    properties.cut_headers();
    properties.headers.insert(names::QUARANTINED_FROM.to_owned(), queue.to_owned());
    let reason = reason.chars().take(MAX_REASON_CHARS).collect();
    properties.headers.insert(names::QUARANTINE_REASON.to_owned(), reason);
    // Operators refer to a message by its id. A redelivered message gets the same id.
    properties.message_id.get_or_insert_with(|| {
        let mut hasher = DefaultHasher::new();
        message.body.hash(&mut hasher);
        format!("unnamed-{:016x}", hasher.finish())
    });
    Message {
        exchange: names::DEAD_LETTERS.to_owned(),
        key: String::new(),
        routing: Routing::Mandatory,
        persistent: true,
        priority: 0,
        properties,
        body: message.body.clone(),
    }
}

/// Moves a delivery to the quarantine: publishes the copy until the broker has confirmed it, then accepts the delivery. If
/// the future is dropped, or the broker is closed from this side, the delivery returns to its queue.
pub async fn quarantine(broker: &dyn Broker, delivery: Delivery, queue: &str, reason: &str) {
    let copy = quarantined(&delivery.message, queue, reason);
    loop {
        match broker.publish(copy.clone()).await {
            Ok(()) => return delivery.accept(),
            Err(PublishError::Closed) => return,
            // No broker takes this copy. This broker had the original, and dead-letters it unchanged if its queue has a dead-letter
            // exchange.
            Err(error @ PublishError::TooLarge { .. }) => {
                warn!(queue, %error, "a message is dead-lettered without a copy in the quarantine");
                return delivery.dead_letter();
            }
            // The queue or the exchange may be missing.
            Err(error @ (PublishError::Unroutable { .. } | PublishError::Refused { .. })) => {
                warn!(queue, %error, "a message could not be moved to the quarantine, which is declared again");
                if let Err(error) = topology::ensure_shared(broker).await {
                    warn!(%error, "the quarantine could not be declared");
                }
            }
            Err(error @ (PublishError::Unconfirmed { .. } | PublishError::Rejected { .. })) => {
                warn!(queue, %error, "a message could not be moved to the quarantine yet");
            }
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InProcess, Properties, Queue, QueueKind};

    async fn next(broker: &InProcess, queue: &str) -> Delivery {
        broker.consume(queue, 1).await.unwrap().next().await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_quarantined_message_has_its_queue_and_reason() {
        let broker = InProcess::new();
        broker.declare_queue(&Queue { name: "q".into(), kind: QueueKind::Exclusive }).await.unwrap();
        let message = Message {
            exchange: String::new(),
            key: "q".into(),
            routing: Routing::Mandatory,
            persistent: false,
            priority: 0,
            properties: Properties { headers: [("run".into(), "r".into())].into(), ..Properties::default() },
            body: "?".into(),
        };
        broker.publish(message).await.unwrap();
        quarantine(&broker, next(&broker, "q").await, "q", "it is unreadable").await;
        assert_eq!(broker.waiting("q").await.unwrap(), Some(0));
        let copy = next(&broker, names::QUARANTINE).await.message.clone();
        let headers = [("run", "r"), (names::QUARANTINED_FROM, "q"), (names::QUARANTINE_REASON, "it is unreadable")];
        let headers = headers.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!((copy.properties.headers, &copy.body[..]), (headers.into(), &b"?"[..]));
        assert!(copy.persistent);
        assert!(copy.properties.message_id.is_some_and(|id| id.starts_with("unnamed-")));
    }
}
