//! Finds the workers at a broker: pings all of them and collects answers for a while.

use std::{sync::Arc, time::Duration};

use broker::{
    Binding, Broker, ConsumeError, DeclareError, Destination, Message, Properties, PublishError, Queue, QueueKind,
    Routing,
};
use protocol::{Control, MAX_STATUS_BYTES, Ping, WorkerStatus, topology};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

/// The maximum number of answers to one ping, and their maximum size together, in bytes. Anybody with a worker's user may answer, as
/// often as they want.
const MAX_ANSWERS: usize = 10_000;
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// The maximum number of answers that are fetched and not read yet.
const PREFETCH: u16 = 32;

/// Why workers could not be pinged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkersError {
    /// The reply queue could not be declared.
    #[error("could not declare a queue for the workers' answers")]
    Declare(#[from] DeclareError),
    /// The reply queue could not be consumed.
    #[error("could not consume the workers' answers")]
    Consume(#[from] ConsumeError),
    /// The ping could not be published.
    #[error("could not ping the workers")]
    Ping(#[from] PublishError),
}

/// Pings all workers and collects answers for the duration `reply_timeout`. Dropping the future is safe.
///
/// # Errors
/// [`WorkersError`] when the broker refuses something.
pub async fn workers(broker: Arc<dyn Broker>, reply_timeout: Duration) -> Result<Vec<WorkerStatus>, WorkersError> {
    broker::topology::ensure_shared(&*broker).await?;
    Ok(ask_workers(broker, reply_timeout).await?.workers)
}

/// The result of a ping to all workers.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct AskedWorkers {
    /// The workers that answered.
    pub workers: Vec<WorkerStatus>,
    /// The number of unreadable answers, which come from other versions, or are too large.
    pub unreadable: usize,
    /// Whether more workers have answered than are listed: 10,000, or fewer with 16 MiB together.
    pub is_cut: bool,
}

/// Like [`workers`], for a caller that must leave nothing behind at the broker. If no waft has declared its exchanges there
/// yet, the ping fails.
///
/// # Errors
/// [`WorkersError`] when the broker refuses something.
pub async fn ask_workers(broker: Arc<dyn Broker>, reply_timeout: Duration) -> Result<AskedWorkers, WorkersError> {
    let reply_to = topology::reply_queue(&uuid::Uuid::now_v7().to_string());
    broker.declare_queue(&Queue { name: reply_to.clone(), kind: QueueKind::Exclusive }).await?;
    let to = Destination::Queue(reply_to.clone());
    broker.bind(&Binding { exchange: topology::STATUS.into(), key: reply_to.clone(), to }).await?;
    let mut answers = broker.consume(&reply_to, PREFETCH).await?;
    let ping = Message {
        exchange: topology::CONTROL.into(),
        key: String::new(),
        routing: Routing::Optional,
        persistent: false,
        priority: 0,
        properties: Properties::default(),
        body: Control::Ping(Ping { reply_to: reply_to.clone() }).encode().into(),
    };
    broker.publish(ping).await?;
    let deadline = Instant::now() + reply_timeout;
    let mut result = AskedWorkers::default();
    let mut bytes = 0;
    while let Ok(Some(delivery)) = timeout_at(deadline, answers.next()).await {
        if delivery.message.exchange != topology::STATUS {
            delivery.accept();
            continue;
        }
        bytes += delivery.message.body.len().min(MAX_STATUS_BYTES);
        if result.workers.len() + result.unreadable >= MAX_ANSWERS || bytes > MAX_ANSWER_BYTES {
            warn!(listed = result.workers.len(), "more workers have answered than can be listed");
            result.is_cut = true;
            break;
        }
        match WorkerStatus::decode(&delivery.message.body) {
            Ok(status) => result.workers.push(status),
            // An unreadable answer of another version must not lose the other answers.
            Err(error) => {
                result.unreadable += 1;
                warn!(%error, "a worker of another version has answered: it is not listed");
            }
        }
        delivery.accept();
    }
    drop(answers);
    broker.delete_queue(&reply_to).await?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use broker::InProcess;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_arrives_through_another_exchange_is_no_worker() {
        let broker = InProcess::new();
        broker::topology::declare_shared(&broker).await.unwrap();
        let queue = "waft.control.played";
        broker.declare_queue(&Queue { name: queue.into(), kind: QueueKind::Exclusive }).await.unwrap();
        let to = Destination::Queue(queue.into());
        broker.bind(&Binding { exchange: topology::CONTROL.into(), key: String::new(), to }).await.unwrap();
        let mut pings = broker.consume(queue, 1).await.unwrap();
        let answering = async {
            let ping = pings.next().await.unwrap();
            let Ok(Control::Ping(Ping { reply_to })) = Control::decode(&ping.message.body) else { panic!("a ping") };
            for (exchange, name) in [("", "forged"), (topology::STATUS, "ovens")] {
                let status = WorkerStatus {
                    name: name.parse().unwrap(),
                    instance: "1".into(),
                    host: "here".into(),
                    process: 1,
                    slots: 1,
                    busy: 0,
                    queues: Vec::new(),
                    version: "1".into(),
                };
                let answer = Message {
                    exchange: exchange.into(),
                    key: reply_to.clone(),
                    routing: Routing::Mandatory,
                    persistent: false,
                    priority: 0,
                    properties: Properties::default(),
                    body: status.encode().into(),
                };
                broker.publish(answer).await.unwrap();
            }
        };
        let (asked, ()) = tokio::join!(ask_workers(Arc::new(broker.connect()), Duration::from_secs(1)), answering);
        let AskedWorkers { workers, unreadable, .. } = asked.unwrap();
        let names: Vec<&str> = workers.iter().map(|worker| worker.name.as_str()).collect();
        assert_eq!((names, unreadable), (vec!["ovens"], 0));
    }
}
