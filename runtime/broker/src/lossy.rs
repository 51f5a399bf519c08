//! A connection to a broker in memory that can be lost and comes back: for tests of connection loss.
//!
//! It behaves like a connection over AMQP: unsettled deliveries return, consumers rejoin their queue after all other consumers, and
//! queues that belong to the connection are declared again. It can also stop answering about a queue, as RabbitMQ does with a
//! quorum queue without a leader, and answer slowly about an exchange.

mod intercepted;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use protocol::topology as names;
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Binding, Broker, ConsumeError, Consumer, DeclareError, Delivery, Destination, Exchange, InProcess, Message,
    MessageFilter, PublishError, Queue, QueueKind, TakeLimits,
};

pub use intercepted::{InterceptedBroker, PublishInterceptor};

/// A connection that can be lost. Cheap to clone: all clones share it.
#[derive(Clone)]
pub struct LossyConnection {
    state: Arc<Mutex<State>>,
    /// Counts the losses.
    lost: Arc<watch::Sender<u64>>,
    closed: CancellationToken,
    tasks: TaskTracker,
}

struct State {
    connection: InProcess,
    /// The queues that end with the connection, and the bindings to them.
    queues: Vec<Queue>,
    bindings: Vec<Binding>,
    /// The queues that get no answer.
    unresponsive: BTreeSet<String>,
    /// How long an operation on an exchange takes.
    slow: BTreeMap<String, Duration>,
    is_durable: bool,
}

/// The time limit for an operation on a queue that gets no answer, in seconds.
const DECLARE_TIMEOUT_SECONDS: u64 = 20;

/// How long an unconfirmed message waits.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(60);

impl LossyConnection {
    /// One more connection to the broker of `broker`.
    #[must_use]
    pub fn to(broker: &InProcess) -> Self {
        let state = State {
            connection: broker.connect(),
            queues: Vec::new(),
            bindings: Vec::new(),
            unresponsive: BTreeSet::new(),
            slow: BTreeMap::new(),
            is_durable: false,
        };
        let (lost, _) = watch::channel(0);
        Self {
            state: Arc::new(Mutex::new(state)),
            lost: Arc::new(lost),
            closed: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Loses the connection; the next one is available at once.
    pub async fn drop_connection(&self) {
        if self.closed.is_cancelled() {
            return;
        }
        let (old, new) = {
            let connection = &self.lock().connection;
            (connection.clone(), connection.connect())
        };
        old.close().await;
        let (queues, bindings) = {
            let mut state = self.lock();
            state.connection = new.clone();
            (state.queues.clone(), state.bindings.clone())
        };
        for queue in &queues {
            new.declare_queue(queue).await.expect("it ended with the lost connection");
        }
        for binding in &bindings {
            // The exchange may not exist any more.
            let _ = new.bind(binding).await;
        }
        self.lost.send_modify(|count| *count += 1);
    }

    /// Stops answering about a queue, or resumes.
    pub fn set_unresponsive(&self, queue: &str, is_unresponsive: bool) {
        let queues = &mut self.lock().unresponsive;
        if is_unresponsive {
            queues.insert(queue.to_owned());
        } else {
            queues.remove(queue);
        }
    }

    /// From now on, the connection says that messages outlive it, as one over AMQP does.
    pub fn set_durable(&self) {
        self.lock().is_durable = true;
    }

    /// Lets each declaration of an exchange, and each binding to it, take this long from now on.
    pub fn set_slow(&self, exchange: &str, delay: Duration) {
        self.lock().slow.insert(exchange.to_owned(), delay);
    }

    /// Waits as long as an operation on an exchange takes.
    async fn wait_if_slow(&self, exchange: &str) {
        let delay = self.lock().slow.get(exchange).copied();
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
    }

    /// Waits for the time limit if the queue gets no answer.
    async fn wait_if_unresponsive(&self, queue: &str) -> bool {
        let is_unresponsive = self.lock().unresponsive.contains(queue);
        if is_unresponsive {
            tokio::time::sleep(Duration::from_secs(DECLARE_TIMEOUT_SECONDS)).await;
        }
        is_unresponsive
    }

    /// Whether [`Broker::close`] was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    fn connection(&self) -> InProcess {
        self.lock().connection.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The receiver of one consumer's deliveries.
struct Outgoing {
    queue: String,
    prefetch: u16,
    filter: MessageFilter,
    deliveries: mpsc::Sender<Delivery>,
    renewals: watch::Sender<u64>,
    cancelled: CancellationToken,
}

/// Forwards deliveries over one connection after another, until the queue is deleted or the consumer is cancelled.
async fn forward(broker: LossyConnection, mut consumer: Consumer, outgoing: Outgoing) {
    let mut lost = broker.lost.subscribe();
    let mut losses = *lost.borrow_and_update();
    loop {
        let delivery = tokio::select! {
            biased;
            () = outgoing.cancelled.cancelled() => return consumer.cancel(),
            () = broker.closed.cancelled() => return,
            _ = lost.changed() => None,
            delivery = consumer.next() => delivery,
        };
        if let Some(delivery) = delivery {
            tokio::select! {
                biased;
                () = broker.closed.cancelled() => return,
                () = outgoing.cancelled.cancelled() => {}
                // If the consumer was dropped, the delivery is dropped too and returns to the queue.
                _ = outgoing.deliveries.send(delivery) => {}
            }
            continue;
        }
        if *lost.borrow() == losses {
            // The queue was deleted, and the connection was not lost.
            return;
        }
        losses = *lost.borrow_and_update();
        // Counted before the next delivery can arrive.
        outgoing.renewals.send_modify(|renewals| *renewals += 1);
        match broker.connection().consume_filtered(&outgoing.queue, outgoing.prefetch, outgoing.filter.clone()).await {
            Ok(next) => consumer = next,
            Err(_) => return,
        }
    }
}

#[async_trait]
impl Broker for LossyConnection {
    async fn declare_exchange(&self, exchange: &Exchange) -> Result<(), DeclareError> {
        self.wait_if_slow(&exchange.name).await;
        self.connection().declare_exchange(exchange).await
    }

    async fn declare_queue(&self, queue: &Queue) -> Result<(), DeclareError> {
        if self.wait_if_unresponsive(&queue.name).await {
            return Err(DeclareError::TimedOut {
                what: format!("queue {:?}", queue.name),
                seconds: DECLARE_TIMEOUT_SECONDS,
            });
        }
        self.connection().declare_queue(queue).await?;
        let mut state = self.lock();
        if matches!(queue.kind, QueueKind::Exclusive | QueueKind::Private) && !state.queues.contains(queue) {
            state.queues.push(queue.clone());
        }
        Ok(())
    }

    async fn bind(&self, binding: &Binding) -> Result<(), DeclareError> {
        self.wait_if_slow(&binding.exchange).await;
        self.connection().bind(binding).await?;
        let mut state = self.lock();
        let is_own = |queue: &Queue| binding.to == Destination::Queue(queue.name.clone());
        if state.queues.iter().any(is_own) && !state.bindings.contains(binding) {
            state.bindings.push(binding.clone());
        }
        Ok(())
    }

    async fn unbind(&self, binding: &Binding) -> Result<(), DeclareError> {
        self.wait_if_slow(&binding.exchange).await;
        self.lock().bindings.retain(|recorded| recorded != binding);
        self.connection().unbind(binding).await
    }

    async fn delete_queue(&self, name: &str) -> Result<(), DeclareError> {
        {
            let mut state = self.lock();
            state.queues.retain(|queue| queue.name != name);
            state.bindings.retain(|recorded| recorded.to != Destination::Queue(name.to_owned()));
        }
        self.connection().delete_queue(name).await
    }

    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let queue = names::queue_of(&message.exchange, &message.key);
        if self.lock().unresponsive.contains(&queue) {
            tokio::time::sleep(CONFIRM_TIMEOUT).await;
            return Err(PublishError::Unconfirmed { key: message.key });
        }
        self.connection().publish(message).await
    }

    async fn consume_filtered(
        &self,
        queue: &str,
        prefetch: u16,
        filter: MessageFilter,
    ) -> Result<Consumer, ConsumeError> {
        if self.wait_if_unresponsive(queue).await {
            return Err(ConsumeError::Silent { queue: queue.to_owned(), seconds: DECLARE_TIMEOUT_SECONDS });
        }
        let consumer = self.connection().consume_filtered(queue, prefetch, filter.clone()).await?;
        let (deliveries, incoming) = mpsc::channel(usize::from(prefetch.max(1)));
        let (renewals, renewals_rx) = watch::channel(0);
        let cancelled = CancellationToken::new();
        let outgoing =
            Outgoing { queue: queue.to_owned(), prefetch, filter, deliveries, renewals, cancelled: cancelled.clone() };
        self.tasks.spawn(forward(self.clone(), consumer, outgoing));
        Ok(Consumer::new(incoming, renewals_rx, move || cancelled.cancel()))
    }

    async fn take(&self, queue: &str, limits: TakeLimits) -> Result<Vec<Delivery>, ConsumeError> {
        if self.wait_if_unresponsive(queue).await {
            return Err(ConsumeError::Silent { queue: queue.to_owned(), seconds: DECLARE_TIMEOUT_SECONDS });
        }
        self.connection().take(queue, limits).await
    }

    fn connections(&self) -> u64 {
        *self.lost.borrow() + 1
    }

    fn is_durable(&self) -> bool {
        self.lock().is_durable
    }

    async fn waiting(&self, queue: &str) -> Result<Option<u64>, DeclareError> {
        if self.wait_if_unresponsive(queue).await {
            return Err(DeclareError::TimedOut { what: format!("queue {queue:?}"), seconds: DECLARE_TIMEOUT_SECONDS });
        }
        self.connection().waiting(queue).await
    }

    async fn consumers(&self, queue: &str) -> Result<Option<u64>, DeclareError> {
        if self.wait_if_unresponsive(queue).await {
            return Err(DeclareError::TimedOut { what: format!("queue {queue:?}"), seconds: DECLARE_TIMEOUT_SECONDS });
        }
        self.connection().consumers(queue).await
    }

    async fn close(&self) {
        self.closed.cancel();
        self.connection().close().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Properties, Routing};

    fn message(body: &'static str) -> Message {
        Message {
            exchange: String::new(),
            key: "q".into(),
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties: Properties::default(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[tokio::test]
    async fn unsettled_messages_are_redelivered_after_a_renewal() {
        let broker = LossyConnection::to(&InProcess::new());
        broker.declare_queue(&Queue { name: "q".into(), kind: QueueKind::Exclusive }).await.unwrap();
        let mut consumer = broker.consume("q", 2).await.unwrap();
        let mut renewals = consumer.renewals();
        broker.publish(message("old")).await.unwrap();
        let old = consumer.next().await.unwrap();
        broker.drop_connection().await;
        renewals.next().await;
        old.accept();
        broker.publish(message("new")).await.unwrap();
        let next = consumer.next().await.unwrap();
        // The exclusive queue was created anew, and has only later messages.
        assert_eq!(next.message.body, "new");
        next.accept();
        broker.close().await;
        assert!(consumer.next().await.is_none());
    }

    #[tokio::test]
    async fn another_consumer_becomes_active_after_a_loss() {
        let memory = InProcess::new();
        let (one, other) = (LossyConnection::to(&memory), LossyConnection::to(&memory));
        let kind = QueueKind::Quorum {
            delivery_limit: None,
            dead_letter_to: None,
            single_active_consumer: true,
            expires: None,
        };
        one.declare_queue(&Queue { name: "q".into(), kind }).await.unwrap();
        let (mut first, mut second) = (one.consume("q", 2).await.unwrap(), other.consume("q", 2).await.unwrap());
        one.publish(message("once")).await.unwrap();
        let delivery = first.next().await.unwrap();
        one.drop_connection().await;
        delivery.accept();
        assert!(second.next().await.unwrap().redelivered, "it was accepted too late");
    }
}
