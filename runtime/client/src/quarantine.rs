//! What no worker could take, and a person decides about: listed, handed out again, or dropped.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use broker::{Broker, ConsumeError, DeclareError, Delivery, Message, PublishError, Routing};
use protocol::topology;
use tokio::time::timeout;

/// How many messages are looked at in one go; the queue holds no more of them back than that.
const MOST: u16 = 1_000;

/// How long to wait for one more message before the queue is taken to be read to its end.
const PAUSE: Duration = Duration::from_millis(500);

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
pub struct Quarantined {
    /// The message's id: that of its call, where it is a job.
    pub id: String,
    /// The queue it came from.
    pub queue: Option<String>,
    /// Why it is here: `rejected` or `delivery_limit`.
    pub reason: Option<String>,
    /// The ids it carries in the clear: run, task, firing, attempt, call.
    pub headers: BTreeMap<String, String>,
    /// How many bytes it has.
    pub size: usize,
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Hand it out again, to the queue it came from.
    Release,
    /// Forget it.
    Drop,
}

/// Lists what is in quarantine, up to a thousand messages. They stay there.
///
/// # Errors
/// [`QuarantineError`] when the broker refuses something.
pub async fn list(broker: Arc<dyn Broker>) -> Result<Vec<Quarantined>, QuarantineError> {
    let deliveries = read(&*broker).await?;
    // Dropped unsettled, they go back.
    Ok(deliveries.iter().map(quarantined).collect())
}

/// What became of messages.
#[derive(Debug, Default)]
pub struct Decided {
    /// Those that were released or dropped.
    pub done: Vec<Quarantined>,
    /// Those that stay, though they were to be released: they do not say which queue of jobs they came from, and can only
    /// be dropped.
    pub without_origin: Vec<Quarantined>,
}

/// Decides about the messages of an id, or about all.
///
/// # Errors
/// [`QuarantineError`] when the broker refuses something; what was not decided about stays in quarantine.
pub async fn decide(broker: Arc<dyn Broker>, id: Option<&str>, decision: Decision) -> Result<Decided, QuarantineError> {
    let mut decided = Decided::default();
    for delivery in read(&*broker).await? {
        let message = quarantined(&delivery);
        if id.is_some_and(|id| id != message.id) {
            continue;
        }
        match decision {
            Decision::Drop => {}
            Decision::Release => {
                let queue = message.queue.as_deref().and_then(|queue| queue.strip_prefix("waft.jobs."));
                let Some(key) = queue.map(str::to_owned) else {
                    decided.without_origin.push(message);
                    continue;
                };
                let mut again = Message {
                    exchange: topology::JOBS.into(),
                    key,
                    routing: Routing::Mandatory,
                    persistent: true,
                    ..delivery.message.clone()
                };
                // It begins anew: what the broker added about its death goes.
                again.properties.headers.retain(|name, _| !name.starts_with("x-"));
                broker.publish(again).await?;
            }
        }
        delivery.accept();
        decided.done.push(message);
    }
    Ok(decided)
}

async fn read(broker: &dyn Broker) -> Result<Vec<Delivery>, QuarantineError> {
    broker::topology::declare_shared(broker).await?;
    let mut consumer = broker.consume(topology::QUARANTINE, MOST).await?;
    let mut deliveries = Vec::new();
    while deliveries.len() < MOST.into()
        && let Ok(Some(delivery)) = timeout(PAUSE, consumer.next()).await
    {
        deliveries.push(delivery);
    }
    Ok(deliveries)
}

fn quarantined(delivery: &Delivery) -> Quarantined {
    let properties = &delivery.message.properties;
    let header = |name: &str| properties.headers.get(name).cloned();
    let is_own = |(name, _): &(&String, &String)| !name.starts_with("x-");
    Quarantined {
        id: properties.message_id.clone().unwrap_or_default(),
        queue: header("x-first-death-queue"),
        reason: header("x-first-death-reason"),
        headers: properties.headers.iter().filter(is_own).map(|(name, value)| (name.clone(), value.clone())).collect(),
        size: delivery.message.body.len(),
    }
}

#[cfg(test)]
mod tests {
    use broker::{InProcess, Properties};

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

    fn ids(quarantined: &[Quarantined]) -> Vec<&str> {
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
        assert_eq!(ids(&decide(broker.clone(), Some("two"), Decision::Release).await.unwrap().done), ["two"]);
        assert_eq!(ids(&list(broker.clone()).await.unwrap()), ["one"]);
        let again = broker.consume("waft.jobs.ovens", 1).await.unwrap().next().await.unwrap();
        assert_eq!(again.message.properties.message_id.as_deref(), Some("two"));
        assert_eq!((again.returned, &again.message.body[..]), (0, &b"poison"[..]));
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
        let decided = decide(broker.clone(), None, Decision::Release).await.unwrap();
        assert_eq!(ids(&decided.done), ["one", "last"]);
        assert_eq!(ids(&decided.without_origin), ["stray"]);
        assert_eq!(ids(&list(broker.clone()).await.unwrap()), ["stray"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_is_gone() {
        let broker = poisoned(&["one", "two"]).await;
        assert_eq!(ids(&decide(broker.clone(), Some("nobody"), Decision::Drop).await.unwrap().done), [""; 0]);
        assert_eq!(ids(&decide(broker.clone(), None, Decision::Drop).await.unwrap().done), ["one", "two"]);
        assert_eq!(list(broker.clone()).await.unwrap(), []);
        assert_eq!(broker.waiting("waft.jobs.ovens").await.unwrap(), Some(0));
    }
}
