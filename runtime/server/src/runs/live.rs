//! The lines that guests of a run write, as workers publish them while the attempts run.

use std::{sync::Arc, time::Duration};

use broker::{Binding, Broker, Consumer, Destination, Message, Properties, Queue, QueueKind, Routing};
use flow::RunId;
use protocol::{Control, LiveLog, topology};
use tokio::{
    sync::mpsc,
    time::{error::Elapsed, timeout},
};
use tokio_util::task::TaskTracker;
use tracing::debug;

/// Messages on their way to a follower at once.
const PREFETCH: u16 = 64;

/// Messages that wait for a slow follower, of some kilobytes each. What comes then is dropped: its lines come with the answers.
const WAITING: usize = 64;

/// How long the broker may take to make the queue of a follower.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why live lines cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The queue of the follower could not be declared.
    #[error("could not declare a queue for the lines of the run")]
    Declare(#[from] broker::DeclareError),
    /// The queue of the follower could not be consumed.
    #[error("could not consume the queue for the lines of the run")]
    Consume(#[from] broker::ConsumeError),
    /// The broker is away.
    #[error("the broker has not answered for {} seconds", PATIENCE.as_secs())]
    Silent(#[from] Elapsed),
}

/// The lines of the attempts of a run that are running now: those that were written already, then those that are written.
/// Lines may be lost and may come twice; [`protocol::LogJoin`] sorts that out. Dropped, the queue goes.
pub struct LiveLines {
    logs: mpsc::Receiver<LiveLog>,
}

impl LiveLines {
    /// Begins to follow a run.
    ///
    /// # Errors
    /// [`LiveError`] when the broker refuses, or does not answer.
    pub async fn open(broker: &Arc<dyn Broker>, run: &RunId) -> Result<Self, LiveError> {
        let queue = topology::logs(&uuid::Uuid::now_v7().to_string());
        let consumer = timeout(PATIENCE, consume(&**broker, &queue, run)).await??;
        let (tx, logs) = mpsc::channel(WAITING);
        let tasks = TaskTracker::new();
        // It ends with the receiver, or with the broker.
        tasks.spawn(pass_on(broker.clone(), consumer, queue, tx));
        if let Err(error) = broker.publish(tell_logs(run)).await {
            // What was written before is then told when the attempts end.
            debug!(%error, "workers were not asked for the lines that they have");
        }
        Ok(Self { logs })
    }

    /// The next lines; `None` when the broker has closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<LiveLog> {
        self.logs.recv().await
    }
}

/// Makes a queue that goes with the connection, and that takes the lines of one run.
async fn consume(broker: &dyn Broker, queue: &str, run: &RunId) -> Result<Consumer, LiveError> {
    broker.declare_queue(&Queue { name: queue.into(), kind: QueueKind::Exclusive }).await?;
    let to = Destination::Queue(queue.into());
    broker.bind(&Binding { exchange: topology::LOGS.into(), key: run.to_string(), to }).await?;
    Ok(broker.consume(queue, PREFETCH).await?)
}

/// Passes on what workers publish. Whatever the follower does, no delivery waits for it.
async fn pass_on(broker: Arc<dyn Broker>, mut consumer: Consumer, queue: String, tx: mpsc::Sender<LiveLog>) {
    loop {
        // Both arms only wait.
        let delivery = tokio::select! {
            () = tx.closed() => break,
            delivery = consumer.next() => delivery,
        };
        let Some(delivery) = delivery else { break };
        match LiveLog::decode(&delivery.message.body) {
            // The numbers of the lines tell that some were left out.
            Ok(log) => drop(tx.try_send(log)),
            Err(error) => debug!(%error, "lines of a guest cannot be read"),
        }
        delivery.accept();
    }
    drop(consumer);
    // Left behind, it goes with the connection.
    let _ = timeout(PATIENCE, broker.delete_queue(&queue)).await;
}

/// Asks the workers for the lines that running attempts have written already.
fn tell_logs(run: &RunId) -> Message {
    Message {
        exchange: topology::CONTROL.into(),
        key: String::new(),
        routing: Routing::Optional,
        persistent: false,
        priority: 0,
        properties: Properties::default(),
        body: Control::TellLogs { run: run.clone() }.encode().into(),
    }
}
