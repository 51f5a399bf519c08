//! Lists, releases or drops messages that no worker or engine could handle.

use std::{collections::BTreeMap, sync::Arc};

use broker::{Broker, ConsumeError, DeclareError, Delivery, Message, PublishError, Routing, TakeLimits};
use protocol::topology;

/// How much a person reads at once. Whoever may publish to the quarantine chooses the sizes of the messages.
const LIMITS: TakeLimits = TakeLimits { messages: 1_000, bytes: 64 << 20 };

/// How much a server reads at once for a person. It works for others meanwhile, so it has less memory for this.
pub const SERVER_LIMITS: TakeLimits = TakeLimits { messages: 1_000, bytes: 16 << 20 };

/// How much [`peek`] reads, which a server does as often as somebody asks for its health.
const PEEK_BYTES: usize = 16 << 20;

/// Why the quarantine could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuarantineError {
    /// Its queue could not be declared.
    #[error("could not declare the quarantine")]
    Declare(#[from] DeclareError),
    /// Its queue could not be consumed.
    #[error("could not read the quarantine")]
    Consume(#[from] ConsumeError),
    /// A message could not be released; it is still in quarantine.
    #[error("could not send the message again: it stays in quarantine")]
    Release(#[from] PublishError),
}

/// A message in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuarantinedMessage {
    /// The message's id: the id of its call, if it is a job.
    pub id: String,
    /// The queue it came from.
    pub queue: Option<String>,
    /// Why it is in quarantine, in a sentence; `delivery_limit` if the broker dead-lettered it.
    pub reason: Option<String>,
    /// The ids in its headers: run, task, firing, attempt, call.
    pub headers: BTreeMap<String, String>,
    /// Its size in bytes.
    pub size: usize,
}

impl QuarantinedMessage {
    /// Whether it is a job whose workers were lost too often.
    #[must_use]
    pub fn is_poison(&self) -> bool {
        let is_job = self.queue.as_deref().is_some_and(|queue| queue.starts_with(topology::JOBS_PREFIX));
        let reason = self.reason.as_deref().unwrap_or_default();
        // The broker sets the second reason.
        is_job && (reason.starts_with(topology::POISON) || reason == "delivery_limit")
    }
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuarantineAction {
    /// Send it again to the queue it came from.
    Release,
    /// Delete it.
    Drop,
}

/// The messages that were read.
#[derive(Debug)]
#[non_exhaustive]
pub struct QuarantineContent {
    /// The first messages, in the order of the queue.
    pub messages: Vec<QuarantinedMessage>,
    /// The number of messages behind them that were not read.
    pub unread: u64,
}

/// Lists at most a thousand messages in quarantine, and no further ones once they have 64 MiB together. They stay there.
///
/// # Errors
/// [`QuarantineError`] when the broker refuses something, or does not deliver a message in time.
pub async fn list(broker: Arc<dyn Broker>) -> Result<QuarantineContent, QuarantineError> {
    list_within(broker, LIMITS).await
}

/// Like [`list`], with other limits.
///
/// # Errors
/// As [`list`].
pub async fn list_within(broker: Arc<dyn Broker>, limits: TakeLimits) -> Result<QuarantineContent, QuarantineError> {
    let (deliveries, unread) = read(&*broker, limits).await?;
    // Dropped without acknowledgement, they return to the queue.
    Ok(QuarantineContent { messages: deliveries.iter().map(quarantined).collect(), unread })
}

/// Like [`list`], for a caller who knows how many messages wait, and without declaring anything. It reads at most `waiting`
/// messages, and no further ones once they have 16 MiB together; they return to the queue.
///
/// # Errors
/// [`QuarantineError`] when the broker refuses something, or there is no quarantine.
pub async fn peek(broker: &dyn Broker, waiting: u64) -> Result<Vec<QuarantinedMessage>, QuarantineError> {
    let messages = usize::try_from(waiting).unwrap_or(usize::MAX).min(LIMITS.messages);
    let deliveries = broker.take(topology::QUARANTINE, TakeLimits { messages, bytes: PEEK_BYTES }).await?;
    Ok(deliveries.iter().map(quarantined).collect())
}

/// The result of an action on messages.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct QuarantineResult {
    /// The released or dropped messages.
    pub done: Vec<QuarantinedMessage>,
    /// The messages that could not be released: they do not name the queue they came from, or that queue no longer exists.
    pub without_origin: Vec<QuarantinedMessage>,
    /// The number of messages that were not read, since they are behind too many or too large ones.
    pub unread: u64,
}

/// Applies an action to the messages with an id, or to all, among those that [`list`] lists.
///
/// # Errors
/// [`QuarantineError`] when the broker refuses something; messages without an action so far stay in quarantine.
pub async fn apply(
    broker: Arc<dyn Broker>,
    id: Option<&str>,
    action: QuarantineAction,
) -> Result<QuarantineResult, QuarantineError> {
    apply_within(broker, id, action, LIMITS).await
}

/// Like [`apply`], with other limits: among the messages that [`list_within`] lists.
///
/// # Errors
/// As [`apply`].
pub async fn apply_within(
    broker: Arc<dyn Broker>,
    id: Option<&str>,
    action: QuarantineAction,
    limits: TakeLimits,
) -> Result<QuarantineResult, QuarantineError> {
    let (deliveries, unread) = read(&*broker, limits).await?;
    let mut result = QuarantineResult { unread, ..QuarantineResult::default() };
    for delivery in deliveries {
        let message = quarantined(&delivery);
        if id.is_some_and(|id| id != message.id) {
            continue;
        }
        match action {
            QuarantineAction::Drop => {}
            QuarantineAction::Release => {
                let Some(key) = message.queue.clone() else {
                    result.without_origin.push(message);
                    continue;
                };
                let (exchange, routing) = (topology::RELEASED.to_owned(), Routing::Mandatory);
                let mut released = Message { exchange, key, routing, persistent: true, ..delivery.message.clone() };
                // It starts again, so the headers that the quarantine added are removed.
                released.properties.headers.retain(|name, _| is_own(name));
                // The broker itself put the message here, with all headers of its sender.
                released.properties.cut_headers();
                match broker.publish(released).await {
                    Ok(()) => {}
                    Err(PublishError::Unroutable { .. }) => {
                        result.without_origin.push(message);
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        delivery.accept();
        result.done.push(message);
    }
    Ok(result)
}

/// The first messages, and the number of those behind them.
async fn read(broker: &dyn Broker, limits: TakeLimits) -> Result<(Vec<Delivery>, u64), QuarantineError> {
    broker::topology::ensure_shared(broker).await?;
    let deliveries = broker.take(topology::QUARANTINE, limits).await?;
    // Those that were read do not wait in the queue at this moment.
    let unread = broker.waiting(topology::QUARANTINE).await?.unwrap_or_default();
    Ok((deliveries, unread))
}

/// Whether a header is the message's own, and not one that the quarantine added.
fn is_own(name: &str) -> bool {
    !name.starts_with("x-") && ![topology::QUARANTINED_FROM, topology::QUARANTINE_REASON].contains(&name)
}

fn quarantined(delivery: &Delivery) -> QuarantinedMessage {
    let properties = &delivery.message.properties;
    let header = |name: &str| properties.headers.get(name).cloned();
    QuarantinedMessage {
        id: properties.message_id.clone().unwrap_or_default(),
        queue: header(topology::QUARANTINED_FROM).or_else(|| header("x-first-death-queue")),
        reason: header(topology::QUARANTINE_REASON).or_else(|| header("x-first-death-reason")),
        headers: properties.headers.clone().into_iter().filter(|(name, _)| is_own(name)).collect(),
        size: delivery.message.body.len(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use broker::{InProcess, Properties, Queue, QueueKind};

    use super::*;

    /// Puts a message into the quarantine that does not say where it was before.
    async fn publish_without_origin(broker: &dyn Broker, id: &str, body: bytes::Bytes) {
        let message = Message {
            exchange: topology::DEAD_LETTERS.into(),
            key: String::new(),
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties: Properties { message_id: Some(id.into()), ..Properties::default() },
            body,
        };
        broker.publish(message).await.unwrap();
    }

    async fn poisoned(ids: &[&str]) -> Arc<dyn Broker> {
        let broker: Arc<dyn Broker> = Arc::new(InProcess::new());
        broker::topology::declare_shared(&*broker).await.unwrap();
        broker::topology::declare_jobs(&*broker, &"ovens".parse().unwrap()).await.unwrap();
        for id in ids {
            poison(&*broker, id).await;
        }
        broker
    }

    async fn poison(broker: &dyn Broker, id: &str) {
        let mut consumer = broker.consume("waft.jobs.ovens", 10).await.unwrap();
        let message = Message {
            exchange: topology::JOBS.into(),
            key: "ovens".into(),
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties: Properties {
                message_id: Some(id.into()),
                headers: [("run".into(), "r".into())].into(),
                ..Properties::default()
            },
            body: "poison".into(),
        };
        broker.publish(message).await.unwrap();
        consumer.next().await.unwrap().dead_letter();
    }

    fn ids(quarantined: &[QuarantinedMessage]) -> Vec<&str> {
        quarantined.iter().map(|message| message.id.as_str()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn listing_keeps_messages_in_quarantine() {
        let broker = poisoned(&["one", "two"]).await;
        for _ in 0..2 {
            let listed = list(broker.clone()).await.unwrap().messages;
            assert_eq!(ids(&listed), ["one", "two"]);
            assert_eq!(listed[0].queue.as_deref(), Some("waft.jobs.ovens"));
            assert_eq!(listed[0].reason.as_deref(), Some("rejected"));
            assert_eq!(listed[0].headers, [("run".to_owned(), "r".to_owned())].into());
            assert_eq!(listed[0].size, 6);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_released_message_returns_to_its_queue() {
        let broker = poisoned(&["one", "two"]).await;
        assert_eq!(ids(&apply(broker.clone(), Some("two"), QuarantineAction::Release).await.unwrap().done), ["two"]);
        assert_eq!(ids(&list(broker.clone()).await.unwrap().messages), ["one"]);
        let released = broker.consume("waft.jobs.ovens", 1).await.unwrap().next().await.unwrap();
        assert_eq!(released.message.properties.message_id.as_deref(), Some("two"));
        assert_eq!((released.returned, &released.message.body[..]), (0, &b"poison"[..]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreadable_message_has_a_reason_and_is_released_to_its_queue() {
        let broker = poisoned(&[]).await;
        let queue = topology::shard_queue(&"3".parse().unwrap());
        for name in [queue.as_str(), "gone"] {
            let kind = QueueKind::Transient { expires: Duration::from_secs(60) };
            let queue = Queue { name: name.to_owned(), kind };
            broker::topology::declare_bound(&*broker, &queue, &[topology::REPORTS, topology::RELEASED]).await.unwrap();
            let message = Message {
                exchange: topology::REPORTS.into(),
                key: name.to_owned(),
                routing: Routing::Mandatory,
                persistent: true,
                priority: 0,
                properties: Properties { message_id: Some(name.to_owned()), ..Properties::default() },
                body: "newer".into(),
            };
            broker.publish(message).await.unwrap();
            let delivery = broker.consume(name, 1).await.unwrap().next().await.unwrap();
            broker::quarantine(&*broker, delivery, name, "it is of format version 9").await;
        }
        broker.delete_queue("gone").await.unwrap();
        let listed = list(broker.clone()).await.unwrap().messages;
        assert_eq!((ids(&listed), listed[0].queue.as_deref()), (vec![queue.as_str(), "gone"], Some(queue.as_str())));
        assert_eq!(listed[0].reason.as_deref(), Some("it is of format version 9"));
        let result = apply(broker.clone(), None, QuarantineAction::Release).await.unwrap();
        assert_eq!((ids(&result.done), ids(&result.without_origin)), (vec![queue.as_str()], vec!["gone"]));
        let released = broker.consume(&queue, 1).await.unwrap().next().await.unwrap();
        assert_eq!((released.message.properties.headers.len(), &released.message.body[..]), (0, &b"newer"[..]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_without_origin_does_not_block_a_release() {
        let broker = poisoned(&["one"]).await;
        publish_without_origin(&*broker, "no-origin", "?".into()).await;
        poison(&*broker, "last").await;
        let result = apply(broker.clone(), None, QuarantineAction::Release).await.unwrap();
        assert_eq!(ids(&result.done), ["one", "last"]);
        assert_eq!(ids(&result.without_origin), ["no-origin"]);
        assert_eq!(ids(&list(broker.clone()).await.unwrap().messages), ["no-origin"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_message_is_removed() {
        let broker = poisoned(&["one", "two"]).await;
        assert_eq!(ids(&apply(broker.clone(), Some("nobody"), QuarantineAction::Drop).await.unwrap().done), [""; 0]);
        assert_eq!(ids(&apply(broker.clone(), None, QuarantineAction::Drop).await.unwrap().done), ["one", "two"]);
        assert_eq!(list(broker.clone()).await.unwrap().messages, []);
        assert_eq!(broker.waiting("waft.jobs.ovens").await.unwrap(), Some(0));
    }

    #[tokio::test]
    async fn messages_behind_large_ones_are_counted() {
        let broker = poisoned(&[]).await;
        for number in 0..4 {
            publish_without_origin(&*broker, &format!("large-{number}"), vec![0; LIMITS.bytes / 2].into()).await;
        }
        let listed = list(broker.clone()).await.unwrap();
        assert_eq!((ids(&listed.messages), listed.unread), (vec!["large-0", "large-1"], 2));
        assert_eq!(ids(&peek(&*broker, 4).await.unwrap()), ["large-0"], "a server holds less");
        let result = apply(broker.clone(), Some("large-3"), QuarantineAction::Drop).await.unwrap();
        assert_eq!((result.done, result.unread), (Vec::new(), 2), "it is not read");
        let result = apply(broker.clone(), None, QuarantineAction::Drop).await.unwrap();
        assert_eq!((ids(&result.done), result.unread), (vec!["large-0", "large-1"], 2));
        let listed = list(broker).await.unwrap();
        assert_eq!((ids(&listed.messages), listed.unread), (vec!["large-2", "large-3"], 0));
    }

    #[test]
    fn a_job_that_lost_its_workers_is_poison() {
        let is_poison = |queue: &str, reason: &str| {
            let (queue, reason) = (Some(queue.into()), Some(reason.into()));
            QuarantinedMessage { id: "m".into(), queue, reason, headers: BTreeMap::new(), size: 1 }.is_poison()
        };
        let poison = format!("{} 5 times without an answer", topology::POISON);
        assert!(is_poison("waft.jobs.default", &poison));
        assert!(is_poison("waft.jobs.default", "delivery_limit"), "the broker gave it up");
        assert!(!is_poison("waft.jobs.default", "it is of format version 9"));
        assert!(!is_poison("waft.engine.3", &poison));
    }
}
