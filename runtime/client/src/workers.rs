//! Finding the workers at a broker: one ping to all, answers for a while.

use std::{sync::Arc, time::Duration};

use broker::{Broker, ConsumeError, DeclareError, Message, Properties, PublishError, Queue, QueueKind, Routing};
use protocol::{Control, Ping, WorkerStatus, topology};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

/// Why workers could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum WorkersError {
    /// The queue for their answers could not be declared.
    #[error("could not declare a queue for the workers' answers")]
    Declare(#[from] DeclareError),
    /// The queue for their answers could not be consumed.
    #[error("could not consume the workers' answers")]
    Consume(#[from] ConsumeError),
    /// The question could not be published.
    #[error("could not ask the workers")]
    Ping(#[from] PublishError),
}

/// Asks all workers who they are and takes answers for as long as `patience`. Dropping the future is safe.
///
/// # Errors
/// [`WorkersError`] when the broker refuses something.
pub async fn workers(broker: Arc<dyn Broker>, patience: Duration) -> Result<Vec<WorkerStatus>, WorkersError> {
    broker::topology::declare_shared(&*broker).await?;
    Ok(ask_workers(broker, patience).await?.workers)
}

/// What came of a question to all workers.
#[derive(Debug, Default)]
pub struct AskedWorkers {
    /// Those that answered.
    pub workers: Vec<WorkerStatus>,
    /// How many answers could not be read: those of another version.
    pub unreadable: usize,
}

/// As [`workers`], for somebody who looks at a broker and makes nothing there that stays: where no waft has declared its
/// exchanges yet, the question cannot be asked.
///
/// # Errors
/// [`WorkersError`] when the broker refuses something.
pub async fn ask_workers(broker: Arc<dyn Broker>, patience: Duration) -> Result<AskedWorkers, WorkersError> {
    let reply_to = format!("waft.reply.{}", uuid::Uuid::now_v7());
    broker.declare_queue(&Queue { name: reply_to.clone(), kind: QueueKind::Exclusive }).await?;
    let mut answers = broker.consume(&reply_to, 256).await?;
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
    let until = Instant::now() + patience;
    let mut asked = AskedWorkers::default();
    while let Ok(Some(delivery)) = timeout_at(until, answers.next()).await {
        match WorkerStatus::decode(&delivery.message.body) {
            Ok(status) => asked.workers.push(status),
            // Another version's answer is no reason to lose the others'.
            Err(error) => {
                asked.unreadable += 1;
                warn!(%error, "a worker of another version has answered: it is not listed");
            }
        }
        delivery.accept();
    }
    drop(answers);
    broker.delete_queue(&reply_to).await?;
    Ok(asked)
}
