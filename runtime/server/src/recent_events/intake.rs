//! Receives the notifications of all engines, and adds them to the buffer. One queue of the broker serves all watchers of a server.

use std::{pin::Pin, sync::Arc, time::Duration};

use broker::{Binding, Broker, Consumer, DeclareError, Delivery, Destination, Queue, QueueKind, Renewals};
use protocol::{EngineSecret, topology};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, error::Elapsed, interval_at, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Shared,
    event::{EVERY_KEY, RecentEvent},
};

/// The maximum number of unacknowledged messages. A notification holds the values of its task, which take up to
/// [`flow::MAX_INLINE_TOTAL_BYTES`].
pub(super) const PREFETCH: u16 = 64;

/// The maximum number of notifications that wait at the broker when it is asked for it. A server that cannot follow would fill the broker,
/// and a full broker stops engines: so it gives these events up.
pub(super) const MAX_WAITING: u64 = 10_000;

/// How often the broker is asked.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The maximum number of notifications that are added before watchers are woken, and their size in bytes. Reading them does not wait, so
/// nothing else runs on the thread meanwhile.
const MAX_BATCH: usize = 512;
const MAX_BATCH_BYTES: usize = 2 << 20;

/// The time limit for declaring the queue.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The pause before the queue is declared again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// How long events are kept without a watcher: one that reconnects then misses nothing.
const KEPT_WITHOUT_WATCHERS: Duration = Duration::from_secs(300);

/// Why the notifications cannot be received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    /// The queue could not be declared.
    #[error("could not declare a queue for the events of all runs")]
    Declare(#[from] DeclareError),
    /// The queue could not be consumed.
    #[error("could not consume the queue for the events of all runs")]
    Consume(#[from] broker::ConsumeError),
    /// The broker did not answer in time.
    #[error("the broker has not answered for {} seconds", PATIENCE.as_secs())]
    Silent(#[from] Elapsed),
}

/// A queue with all notifications. The broker deletes it with the connection.
struct Subscription {
    queue: String,
    consumer: Consumer,
    renewals: Renewals,
}

impl Subscription {
    /// Declares and consumes a queue. Let it run to its end: a queue without a consumer takes every notification until the connection ends.
    async fn open(broker: &dyn Broker) -> Result<Self, IntakeError> {
        // A queue that was deleted is not declared again under its name: the broker might still know its consumer.
        let queue = format!("waft.events.{}", uuid::Uuid::now_v7());
        let opened = match timeout(PATIENCE, Self::declare(broker, queue.clone())).await {
            Ok(opened) => opened,
            Err(elapsed) => Err(elapsed.into()),
        };
        if opened.is_err() {
            delete(broker, &queue).await;
        }
        opened
    }

    async fn declare(broker: &dyn Broker, queue: String) -> Result<Self, IntakeError> {
        broker.declare_queue(&Queue { name: queue.clone(), kind: QueueKind::Private }).await?;
        let bindings = [topology::NOTIFICATIONS, topology::RUNS].map(|exchange| Binding {
            exchange: exchange.to_owned(),
            key: EVERY_KEY.to_owned(),
            to: Destination::Queue(queue.clone()),
        });
        broker::topology::bind_or_declare(broker, &bindings).await?;
        let consumer = broker.consume(&queue, PREFETCH).await?;
        let renewals = consumer.renewals();
        Ok(Self { queue, consumer, renewals })
    }

    async fn close(self, broker: &dyn Broker) {
        drop(self.consumer);
        delete(broker, &self.queue).await;
    }
}

async fn delete(broker: &dyn Broker, queue: &str) {
    // A queue that stays behind is deleted with the connection, and is not declared on the next one.
    let _ = timeout(PATIENCE, broker.delete_queue(queue)).await;
}

/// Receives notifications as long as somebody watches, and for some time after that.
pub(super) struct Intake {
    shared: Arc<Shared>,
    broker: Arc<dyn Broker>,
    secret: EngineSecret,
    subscription: Subscription,
    stop: CancellationToken,
}

impl Intake {
    /// Declares the queue: all notifications that are published from now on are received. Let it run to its end, as
    /// [`Subscription::open`].
    ///
    /// # Errors
    /// [`IntakeError`] when the broker refuses, or does not answer.
    pub(super) async fn open(
        shared: Arc<Shared>,
        broker: Arc<dyn Broker>,
        secret: EngineSecret,
        stop: CancellationToken,
    ) -> Result<Self, IntakeError> {
        let subscription = Subscription::open(&*broker).await?;
        Ok(Self { shared, broker, secret, subscription, stop })
    }

    pub(super) async fn run(mut self) {
        let mut unwatched = self.unwatched();
        let mut checks = interval_at(Instant::now() + CHECK_INTERVAL, CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // All arms only wait. A lost connection is noted before what comes after it.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = self.subscription.renewals.next() => {
                    info!("events of all runs are lost: the connection to the broker was lost");
                    if !self.renew().await {
                        break;
                    }
                }
                () = &mut unwatched => {
                    if self.shared.end_if_unwatched().await {
                        break;
                    }
                    unwatched = self.unwatched();
                }
                _ = checks.tick() => if self.is_behind().await {
                    warn!("events of all runs are lost: more than {MAX_WAITING} wait for this server");
                    if !self.renew().await {
                        break;
                    }
                },
                delivery = self.subscription.consumer.next() => match delivery {
                    Some(delivery) => self.take(delivery),
                    None => {
                        warn!("events of all runs are lost: their queue was deleted; another one is declared");
                        if !self.renew().await {
                            break;
                        }
                    }
                }
            }
        }
        self.subscription.close(&*self.broker).await;
    }

    /// Whether too many notifications wait at the broker.
    pub(super) async fn is_behind(&self) -> bool {
        let waiting = timeout(PATIENCE, self.broker.waiting(&self.subscription.queue)).await;
        // If the broker does not answer, the next check tells.
        waiting.ok().and_then(Result::ok).flatten().is_some_and(|waiting| waiting > MAX_WAITING)
    }

    fn unwatched(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(unwatched(self.shared.watchers.subscribe()))
    }

    /// Adds a notification, and those that have arrived with it.
    fn take(&mut self, delivery: Delivery) {
        let (mut next, mut taken, mut bytes) = (Some(delivery), 0, 0);
        while let Some(delivery) = next {
            bytes += delivery.message.body.len();
            // Logbooks may share a broker: the events of another one are not shown.
            if let Some(event) = RecentEvent::of_notification(&delivery.message, &self.secret) {
                self.shared.add(event);
            }
            delivery.accept();
            taken += 1;
            let has_room = taken < MAX_BATCH && bytes < MAX_BATCH_BYTES;
            next = if has_room { self.subscription.consumer.try_next() } else { None };
        }
        self.shared.wake();
    }

    /// Receives with another queue, and then tells watchers that events were lost: whoever reads the list of runs after that misses nothing.
    /// Watchers that learned of it earlier would miss what happens until the queue is there. Returns false once nothing can be received any more.
    async fn renew(&mut self) -> bool {
        let Some(subscription) = self.reopen().await else {
            self.shared.end().await;
            return false;
        };
        let old = std::mem::replace(&mut self.subscription, subscription);
        self.shared.lose();
        old.close(&*self.broker).await;
        true
    }

    /// Declares another queue, until that succeeds; `None` once the broker is closed or the server stops.
    async fn reopen(&self) -> Option<Subscription> {
        loop {
            match self.stop.run_until_cancelled(Subscription::open(&*self.broker)).await? {
                Ok(subscription) => return Some(subscription),
                Err(
                    IntakeError::Declare(DeclareError::Closed) | IntakeError::Consume(broker::ConsumeError::Closed),
                ) => {
                    return None;
                }
                Err(error) => debug!(error = &error as &dyn std::error::Error, "the queue could not be declared yet"),
            }
            self.stop.run_until_cancelled(sleep(RETRY_DELAY)).await?;
        }
    }
}

/// Waits until nobody has watched for some time.
async fn unwatched(mut watchers: watch::Receiver<usize>) {
    // Each of them fails only if the server is gone.
    while watchers.wait_for(|count| *count == 0).await.map(drop).is_ok() {
        let watched = async { watchers.wait_for(|count| *count > 0).await.map(drop) };
        match timeout(KEPT_WITHOUT_WATCHERS, watched).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
