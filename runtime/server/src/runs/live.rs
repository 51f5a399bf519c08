//! The lines that guests of a run write, as workers publish them during the attempts.

use std::{sync::Arc, time::Duration};

use broker::{Binding, Broker, Consumer, Destination, Message, Properties, Queue, QueueKind, Routing};
use flow::RunId;
use protocol::{Control, LiveLog, topology};
use sandbox::{Owner, Permits};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, error::Elapsed, sleep_until, timeout},
};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::turns;

/// The maximum number of unacknowledged messages to a follower. Any worker may send a large one, which is in memory until it is
/// dropped.
const PREFETCH: u16 = 8;

/// The maximum number of messages that wait for a slow follower, each with at most [`protocol::MAX_LOG_BYTES`]. Later messages are dropped: their
/// lines come with the answers.
const WAITING: usize = 64;

/// The time limit for declaring a follower's queue.
const PATIENCE: Duration = Duration::from_secs(5);

/// Number of followers that begin within [`MIN_TURN`]. Each asks all workers, and makes a queue. A page of the dashboard begins one, and all
/// come again when a server has started again.
const MAX_BEGUN: usize = 16;

/// The minimum time that a turn at beginning lasts.
const MIN_TURN: Duration = Duration::from_secs(1);

/// Why live lines are not available.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The queue of the follower could not be declared.
    #[error("could not declare a queue for the lines of the run")]
    Declare(#[from] broker::DeclareError),
    /// The queue of the follower could not be consumed.
    #[error("could not consume the queue for the lines of the run")]
    Consume(#[from] broker::ConsumeError),
    /// The broker did not answer in time.
    #[error("the broker has not answered for {} seconds", PATIENCE.as_secs())]
    Silent(#[from] Elapsed),
    /// The process is about to end.
    #[error("the process is stopping")]
    Stopping,
}

/// The turns at beginning to follow a run. An owner has at most all but one. Those that wait are not counted: each has a place of an event
/// stream.
pub(crate) fn beginning() -> Permits {
    Permits::new(MAX_BEGUN, usize::MAX)
}

/// The lines of a run's running attempts: first the lines already written, then new ones. Lines may be lost and may come
/// twice; [`protocol::LogJoin`] corrects that. Dropping it deletes the queue.
pub struct LiveLines {
    logs: mpsc::Receiver<LiveLog>,
}

impl LiveLines {
    /// Starts to follow a run.
    ///
    /// # Errors
    /// [`LiveError`] when the broker refuses, or does not answer.
    pub async fn open(broker: &Arc<dyn Broker>, run: &RunId) -> Result<Self, LiveError> {
        // If this future is dropped, the queue is deleted all the same. It would stay as long as the connection.
        turns::to_its_end(begin(broker.clone(), run.clone())).await
    }

    /// Starts to follow a run for a sender, when it is its turn. The turn lasts at least [`MIN_TURN`], also if the client leaves: so clients
    /// that open and close connections do not keep workers and broker busy.
    ///
    /// # Errors
    /// As [`LiveLines::open`].
    pub(crate) async fn open_in_turn(
        broker: &Arc<dyn Broker>,
        run: &RunId,
        (turns, owner): (&Permits, Owner),
    ) -> Result<Self, LiveError> {
        let turn = turns.acquire(owner).await.expect("any number of followers may wait");
        let (broker, run) = (broker.clone(), run.clone());
        let (tx, opened) = oneshot::channel();
        TaskTracker::new().spawn(async move {
            let until = Instant::now() + MIN_TURN;
            // If the client has left, its queue is deleted.
            let _ = tx.send(begin(broker, run).await);
            sleep_until(until).await;
            drop(turn);
        });
        // The sender is gone only when the runtime ends.
        opened.await.unwrap_or_else(|_| Err(LiveError::Stopping))
    }

    /// Waits for the next lines; returns `None` when the broker has closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<LiveLog> {
        self.logs.recv().await
    }
}

/// Makes a queue for the lines of a run, and asks the workers for those that are written already.
async fn begin(broker: Arc<dyn Broker>, run: RunId) -> Result<LiveLines, LiveError> {
    let queue = topology::logs(&uuid::Uuid::now_v7().to_string());
    let consumed = timeout(PATIENCE, consume(&*broker, &queue, &run)).await;
    let consumed = consumed.map_err(LiveError::from).flatten();
    if consumed.is_err() {
        delete(&*broker, &queue).await;
    }
    let consumer = consumed?;
    let (tx, logs) = mpsc::channel(WAITING);
    // The task ends with the receiver, or with the broker.
    TaskTracker::new().spawn(pass_on(broker.clone(), consumer, queue, tx));
    // Without an answer to it, earlier lines come when the attempts end.
    match timeout(PATIENCE, broker.publish(log_request(&run))).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "could not ask the workers for earlier lines"),
        Err(_) => debug!("the broker does not take the question for earlier lines"),
    }
    Ok(LiveLines { logs })
}

/// Deletes the queue of a follower. One that stays behind is deleted with the connection.
async fn delete(broker: &dyn Broker, queue: &str) {
    let _ = timeout(PATIENCE, broker.delete_queue(queue)).await;
}

/// Declares a queue for the lines of one run. It is deleted with the connection.
async fn consume(broker: &dyn Broker, queue: &str, run: &RunId) -> Result<Consumer, LiveError> {
    broker.declare_queue(&Queue { name: queue.into(), kind: QueueKind::Private }).await?;
    let to = Destination::Queue(queue.into());
    broker.bind(&Binding { exchange: topology::LOGS.into(), key: run.to_string(), to }).await?;
    Ok(broker.consume(queue, PREFETCH).await?)
}

/// Forwards the messages of workers. A slow follower never delays a delivery.
async fn pass_on(broker: Arc<dyn Broker>, mut consumer: Consumer, queue: String, tx: mpsc::Sender<LiveLog>) {
    loop {
        // Both arms only wait.
        let delivery = tokio::select! {
            () = tx.closed() => break,
            delivery = consumer.next() => delivery,
        };
        let Some(delivery) = delivery else { break };
        if delivery.message.exchange != topology::LOGS {
            delivery.accept();
            continue;
        }
        match LiveLog::decode(&delivery.message.body) {
            // The line numbers show that some lines are missing.
            Ok(log) => drop(tx.try_send(log)),
            Err(error) => debug!(%error, "lines of a guest cannot be read"),
        }
        delivery.accept();
    }
    drop(consumer);
    delete(&*broker, &queue).await;
}

/// The request to workers for the lines that running attempts have already written.
fn log_request(run: &RunId) -> Message {
    Message {
        exchange: topology::CONTROL.into(),
        key: String::new(),
        routing: Routing::Optional,
        persistent: false,
        priority: 0,
        properties: Properties::default(),
        body: Control::FollowLogs { run: run.clone() }.encode().into(),
    }
}

#[cfg(test)]
mod tests {
    use broker::{Exchange, ExchangeKind, InProcess};
    use flow::{Action, Attempt, CallId, Firing};
    use futures::FutureExt as _;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clients_that_leave_have_the_workers_asked_no_more_often_than_others() {
        const ASKED: &str = "waft.control.played";
        let server = InProcess::new();
        broker::topology::declare_shared(&server).await.unwrap();
        server.declare_queue(&Queue { name: ASKED.into(), kind: QueueKind::Private }).await.unwrap();
        let to = Destination::Queue(ASKED.into());
        server.bind(&Binding { exchange: topology::CONTROL.into(), key: String::new(), to }).await.unwrap();
        let broker: Arc<dyn Broker> = Arc::new(server.connect());
        let (run, turns): (RunId, Permits) = ("r".parse().unwrap(), beginning());
        for _ in 0..100 {
            let opening = LiveLines::open_in_turn(&broker, &run, (&turns, None));
            assert!(opening.now_or_never().is_none(), "its client leaves at once");
            sleep(MIN_TURN / 200).await;
        }
        assert_eq!(server.waiting(ASKED).await.unwrap(), Some(MAX_BEGUN as u64 - 1));
        let other = Some(flow::Namespace::new("shop").unwrap());
        assert!(LiveLines::open_in_turn(&broker, &run, (&turns, other)).await.is_ok(), "one turn is left");
        assert!(LiveLines::open_in_turn(&broker, &run, (&turns, None)).await.is_ok(), "a second has passed");
    }

    #[tokio::test]
    async fn lines_that_arrive_through_another_exchange_are_dropped() {
        const QUEUE: &str = "waft.logs.follower";
        let server = InProcess::new();
        broker::topology::declare_shared(&server).await.unwrap();
        let broker: Arc<dyn Broker> = Arc::new(server.connect());
        let run: RunId = "r".parse().unwrap();
        let consumer = consume(&*broker, QUEUE, &run).await.unwrap();
        let (tx, mut logs) = mpsc::channel(WAITING);
        let tasks = TaskTracker::new();
        tasks.spawn(pass_on(broker, consumer, QUEUE.into(), tx));
        // A message keeps the exchange that it was published to.
        let around = Exchange { name: "around".into(), kind: ExchangeKind::Topic };
        server.declare_exchange(&around).await.unwrap();
        let to = Destination::Exchange(topology::LOGS.into());
        server.bind(&Binding { exchange: around.name.clone(), key: run.to_string(), to }).await.unwrap();
        for (exchange, worker) in [(&*around.name, "forged"), (topology::LOGS, "ovens")] {
            let call = CallId {
                run: run.clone(),
                task: "t".parse().unwrap(),
                firing: Firing::FIRST,
                attempt: Attempt::FIRST,
                action: Action::Apply,
            };
            let log = LiveLog { call, worker: worker.parse().unwrap(), lines: Vec::new(), cut: false };
            let message = Message {
                exchange: exchange.into(),
                key: run.to_string(),
                routing: Routing::Mandatory,
                body: log.encode().into(),
                ..log_request(&run)
            };
            server.publish(message).await.unwrap();
        }
        let first = logs.recv().await.expect("the follower gets lines");
        assert_eq!(first.worker.as_str(), "ovens");
    }
}
