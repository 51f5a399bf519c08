//! What no worker or engine could take, and a person decides about: listed, handed out again, or dropped.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use broker::{Broker, ConsumeError, DeclareError, Delivery, Message, PublishError, Routing};
use protocol::topology;
use tokio::time::timeout;

/// How many messages are looked at in one go; the queue holds no more of them back than that.
const MAX_MESSAGES: u16 = 1_000;

/// How long to wait for one more message before the queue is taken to be read to its end.
const END_OF_QUEUE_WAIT: Duration = Duration::from_millis(500);

/// Why the quarantine could not be used.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// Its queue could not be declared.
    #[error("could not declare the quarantine")]
    Declare(#[from] DeclareError),
    /// Its queue could not be consumed.
    #[error("could not read the quarantine")]
    Consume(#[from] ConsumeError),
    /// A message could not be handed out again; it is still in quarantine.
    #[error("could not hand the message out again: it stays in quarantine")]
    Release(#[from] PublishError),
}

/// A message in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedMessage {
    /// The message's id: that of its call, where it is a job.
    pub id: String,
    /// The queue it came from.
    pub queue: Option<String>,
    /// Why it is here, in a sentence; `delivery_limit` where the broker gave it up.
    pub reason: Option<String>,
    /// The ids it carries in the clear: run, task, firing, attempt, call.
    pub headers: BTreeMap<String, String>,
    /// How many bytes it has.
    pub size: usize,
}

impl QuarantinedMessage {
    /// Whether it is a job that was lost with its workers too often.
    #[must_use]
    pub fn is_poison(&self) -> bool {
        let is_job = self.queue.as_deref().is_some_and(|queue| queue.starts_with(topology::JOBS_PREFIX));
        let reason = self.reason.as_deref().unwrap_or_default();
        // The second one is the broker's word.
        is_job && (reason.starts_with(topology::POISON) || reason == "delivery_limit")
    }
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuarantineAction {
    /// Hand it out again, to the queue it came from.
    Release,
    /// Forget it.
    Drop,
}

/// Lists what is in quarantine, up to a thousand messages. They stay there.
///
/// # Errors
/// [`QuarantineError`] when the broker refuses something.
pub async fn list(broker: Arc<dyn Broker>) -> Result<Vec<QuarantinedMessage>, QuarantineError> {
    let deliveries = read(&*broker).await?;
    // Dropped unsettled, they go back.
    Ok(deliveries.iter().map(quarantined).collect())
}

/// As [`list`], for somebody who knows how many messages wait there and makes nothing: at most `waiting` are read, and they go
/// back.
///
/// # Errors
/// [`QuarantineError`] when the broker refuses something, or there is no quarantine.
pub async fn peek(broker: &dyn Broker, waiting: u64) -> Result<Vec<QuarantinedMessage>, QuarantineError> {
    let most = usize::try_from(waiting).unwrap_or(usize::MAX).min(MAX_MESSAGES.into());
    Ok(consume(broker, most).await?.iter().map(quarantined).collect())
}

/// What became of messages.
#[derive(Debug, Default)]
pub struct QuarantineResult {
    /// Those that were released or dropped.
    pub done: Vec<QuarantinedMessage>,
    /// Those that stay, though they were to be released: they do not say which queue they came from, or that queue is gone.
    pub without_origin: Vec<QuarantinedMessage>,
}

/// Decides about the messages of an id, or about all.
///
/// # Errors
/// [`QuarantineError`] when the broker refuses something; what was not decided about stays in quarantine.
pub async fn apply(
    broker: Arc<dyn Broker>,
    id: Option<&str>,
    decision: QuarantineAction,
) -> Result<QuarantineResult, QuarantineError> {
    let mut decided = QuarantineResult::default();
    for delivery in read(&*broker).await? {
        let message = quarantined(&delivery);
        if id.is_some_and(|id| id != message.id) {
            continue;
        }
        match decision {
            QuarantineAction::Drop => {}
            QuarantineAction::Release => {
                let Some((exchange, key)) = message.queue.as_deref().map(route_to) else {
                    decided.without_origin.push(message);
                    continue;
                };
                let routing = Routing::Mandatory;
                let mut again = Message { exchange, key, routing, persistent: true, ..delivery.message.clone() };
                // It begins anew: what was added when it came here goes.
                again.properties.headers.retain(|name, _| is_own(name));
                match broker.publish(again).await {
                    Ok(()) => {}
                    Err(PublishError::Unroutable { .. }) => {
                        decided.without_origin.push(message);
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        delivery.accept();
        decided.done.push(message);
    }
    Ok(decided)
}

async fn read(broker: &dyn Broker) -> Result<Vec<Delivery>, QuarantineError> {
    broker::topology::declare_shared(broker).await?;
    consume(broker, MAX_MESSAGES.into()).await
}

async fn consume(broker: &dyn Broker, most: usize) -> Result<Vec<Delivery>, QuarantineError> {
    let mut consumer = broker.consume(topology::QUARANTINE, MAX_MESSAGES).await?;
    let mut deliveries = Vec::new();
    while deliveries.len() < most
        && let Ok(Some(delivery)) = timeout(END_OF_QUEUE_WAIT, consumer.next()).await
    {
        deliveries.push(delivery);
    }
    Ok(deliveries)
}

/// The exchange and the routing key that lead to a queue.
fn route_to(queue: &str) -> (String, String) {
    match queue.strip_prefix(topology::JOBS_PREFIX) {
        Some(key) => (topology::JOBS.to_owned(), key.to_owned()),
        None => (String::new(), queue.to_owned()),
    }
}

/// Whether a header is the message's own, and not one that was added when it came to the quarantine.
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
    use broker::{InProcess, Properties, Queue, QueueKind};

    use super::*;

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
    async fn what_is_listed_stays_in_quarantine() {
        let broker = poisoned(&["one", "two"]).await;
        for _ in 0..2 {
            let listed = list(broker.clone()).await.unwrap();
            assert_eq!(ids(&listed), ["one", "two"]);
            assert_eq!(listed[0].queue.as_deref(), Some("waft.jobs.ovens"));
            assert_eq!(listed[0].reason.as_deref(), Some("rejected"));
            assert_eq!(listed[0].headers, [("run".to_owned(), "r".to_owned())].into());
            assert_eq!(listed[0].size, 6);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_released_goes_back_to_where_it_came_from() {
        let broker = poisoned(&["one", "two"]).await;
        assert_eq!(ids(&apply(broker.clone(), Some("two"), QuarantineAction::Release).await.unwrap().done), ["two"]);
        assert_eq!(ids(&list(broker.clone()).await.unwrap()), ["one"]);
        let again = broker.consume("waft.jobs.ovens", 1).await.unwrap().next().await.unwrap();
        assert_eq!(again.message.properties.message_id.as_deref(), Some("two"));
        assert_eq!((again.returned, &again.message.body[..]), (0, &b"poison"[..]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_read_is_listed_with_the_reason_and_released_to_its_own_queue() {
        let broker = poisoned(&[]).await;
        let queue = topology::shard_queue(&"3".parse().unwrap());
        for name in [queue.as_str(), "gone"] {
            let kind = QueueKind::Transient { expires: Duration::from_secs(60) };
            broker.declare_queue(&Queue { name: name.to_owned(), kind }).await.unwrap();
            let message = Message {
                exchange: String::new(),
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
        let listed = list(broker.clone()).await.unwrap();
        assert_eq!((ids(&listed), listed[0].queue.as_deref()), (vec![queue.as_str(), "gone"], Some(queue.as_str())));
        assert_eq!(listed[0].reason.as_deref(), Some("it is of format version 9"));
        let decided = apply(broker.clone(), None, QuarantineAction::Release).await.unwrap();
        assert_eq!((ids(&decided.done), ids(&decided.without_origin)), (vec![queue.as_str()], vec!["gone"]));
        let again = broker.consume(&queue, 1).await.unwrap().next().await.unwrap();
        assert_eq!((again.message.properties.headers.len(), &again.message.body[..]), (0, &b"newer"[..]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_from_nowhere_keeps_nothing_else_from_being_released() {
        let broker = poisoned(&["one"]).await;
        let stray = Message {
            exchange: String::new(),
            key: topology::QUARANTINE.into(),
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties: Properties { message_id: Some("stray".into()), ..Properties::default() },
            body: "?".into(),
        };
        broker.publish(stray).await.unwrap();
        poison(&*broker, "last").await;
        let decided = apply(broker.clone(), None, QuarantineAction::Release).await.unwrap();
        assert_eq!(ids(&decided.done), ["one", "last"]);
        assert_eq!(ids(&decided.without_origin), ["stray"]);
        assert_eq!(ids(&list(broker.clone()).await.unwrap()), ["stray"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_is_gone() {
        let broker = poisoned(&["one", "two"]).await;
        assert_eq!(ids(&apply(broker.clone(), Some("nobody"), QuarantineAction::Drop).await.unwrap().done), [""; 0]);
        assert_eq!(ids(&apply(broker.clone(), None, QuarantineAction::Drop).await.unwrap().done), ["one", "two"]);
        assert_eq!(list(broker.clone()).await.unwrap(), []);
        assert_eq!(broker.waiting("waft.jobs.ovens").await.unwrap(), Some(0));
    }
}
