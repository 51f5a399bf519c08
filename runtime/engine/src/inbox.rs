//! Merges the queues of an engine's shards into one stream.

use std::{sync::Arc, time::Duration};

use broker::{Broker, ConsumeError, Consumer, DeclareError, Message, Refusals};
use flow::Shard;
use protocol::topology as names;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{
    StartError, origin,
    shards::{ShardDelivery, Sharing},
    topology,
};

/// Maximum number of deliveries that wait for the engine, over all shards: some batches' worth. Then their consumers
/// wait.
const INBOX_CAPACITY: usize = 2_048;

/// Pause after releasing a shard before its queue is consumed again, so that another engine can take it.
const RELEASE_DELAY: Duration = Duration::from_secs(2);

/// Pause before an unresponsive shard is tried again. Each try takes as long as the broker's timeout.
const UNRESPONSIVE_RETRY_DELAY: Duration = Duration::from_secs(10);

/// Opens the queues of shards.
#[derive(Clone)]
pub(crate) struct ShardQueues {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) sharing: Sharing,
    pub(crate) prefetch: u16,
    pub(crate) refusals: Arc<Refusals>,
}

impl ShardQueues {
    /// Declares the queue of a shard and consumes it.
    async fn open(&self, shard: &Shard) -> Result<Consumer, StartError> {
        topology::declare_shard(&*self.broker, shard, self.sharing).await?;
        Ok(self.consume(shard).await?)
    }

    /// Consumes the queue of a shard. A broker limits how many messages an engine has in memory, and not their size.
    async fn consume(&self, shard: &Shard) -> Result<Consumer, ConsumeError> {
        let (queue, refusals) = (names::shard_queue(shard), self.refusals.clone());
        let is_read = {
            let queue = queue.clone();
            move |message: &Message| {
                let is_right = origin::is_of_right_size(message);
                if !is_right {
                    refusals.log(&queue, origin::TOO_LARGE);
                }
                is_right
            }
        };
        self.broker.consume_filtered(&queue, self.prefetch, Arc::new(is_read)).await
    }

    /// Opens the queue of a shard; `None` if it does not respond and other shards can be driven meanwhile.
    ///
    /// # Errors
    /// [`StartError`] when the broker refuses it, or when it does not respond and the engine has only this shard.
    pub(crate) async fn open_if_responsive(&self, shard: &Shard) -> Result<(Shard, Option<Consumer>), StartError> {
        match self.open(shard).await {
            Ok(consumer) => Ok((shard.clone(), Some(consumer))),
            Err(error) if self.sharing == Sharing::Shared && is_timeout(&error) => {
                warn!(%shard, error = &error as &dyn std::error::Error, "the shard cannot be driven: it is tried again");
                Ok((shard.clone(), None))
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether the error is a timeout of the broker for one queue.
fn is_timeout(error: &StartError) -> bool {
    matches!(
        error,
        StartError::Declare(DeclareError::TimedOut { .. }) | StartError::Consume(ConsumeError::Silent { .. })
    )
}

/// An item of the merged stream.
#[expect(clippy::large_enum_variant, reason = "nearly all are deliveries, and a box for each costs more than the room")]
pub(crate) enum Incoming {
    /// A delivery.
    Delivery(ShardDelivery),
    /// A new term: the queue of the shard is consumed again, after a lost connection or a release. Another engine may
    /// have driven the shard in between.
    Term { shard: Shard, term: u64 },
}

impl Incoming {
    /// The bytes of its message.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Delivery(ShardDelivery { delivery, .. }) => delivery.message.body.len(),
            Self::Term { .. } => 0,
        }
    }
}

/// The queues of all shards of an engine.
pub(crate) struct Inbox {
    incoming: mpsc::Receiver<Incoming>,
    shards: Vec<ShardHandle>,
    stop: CancellationToken,
    closed: CancellationToken,
}

struct ShardHandle {
    shard: Shard,
    release: mpsc::Sender<()>,
}

impl Inbox {
    /// Merges the consumers of all shards.
    pub(crate) fn new(
        queues: &ShardQueues,
        consumers: Vec<(Shard, Option<Consumer>)>,
        tasks: &TaskTracker,
        aborted: &CancellationToken,
    ) -> Self {
        let (tx, incoming) = mpsc::channel(INBOX_CAPACITY);
        let (stop, closed) = (CancellationToken::new(), CancellationToken::new());
        let open = |(shard, consumer): (Shard, Option<Consumer>)| {
            // One pending release request is enough: more would mean the same.
            let (release, release_requests) = mpsc::channel(1);
            let (broker, bindings) = (queues.broker.clone(), topology::shard_bindings(&shard));
            let (queues, shard_of, tx, stop) = (queues.clone(), shard.clone(), tx.clone(), stop.clone());
            let receiver = ShardReceiver { queues, shard: shard_of, tx, release_requests, stop };
            // Without one of its queues an engine would seem to work, but that shard's runs would wait for ever.
            let closed = closed.clone().drop_guard();
            tasks.spawn(aborted.clone().run_until_cancelled_owned(async move {
                let _gone = closed;
                broker::topology::keep_bound(&*broker, &bindings, receiver.run(consumer)).await;
            }));
            ShardHandle { shard, release }
        };
        let shards = consumers.into_iter().map(open).collect();
        Self { incoming, shards, stop, closed }
    }

    /// Returns the next item; `None` once a queue is gone, or the broker closed. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        self.closed.run_until_cancelled(self.incoming.recv()).await?
    }

    /// Returns an item that has already arrived.
    pub(crate) fn try_next(&mut self) -> Option<Incoming> {
        self.incoming.try_recv().ok()
    }

    /// Releases a shard, so that another engine that waits for it can take it.
    pub(crate) fn release(&self, shard: &Shard) {
        for opened in self.shards.iter().filter(|opened| opened.shard == *shard) {
            // A release request that is already pending means the same.
            let _ = opened.release.try_send(());
        }
    }

    /// Stops all consumers; unhandled deliveries go back to their queues.
    pub(crate) fn close(mut self) {
        self.stop.cancel();
        self.incoming.close();
        while self.incoming.try_recv().is_ok() {}
    }
}

/// Forwards the deliveries of one shard.
struct ShardReceiver {
    queues: ShardQueues,
    shard: Shard,
    tx: mpsc::Sender<Incoming>,
    release_requests: mpsc::Receiver<()>,
    stop: CancellationToken,
}

impl ShardReceiver {
    async fn run(mut self, consumer: Option<Consumer>) {
        let opened = match consumer {
            Some(consumer) => Some(consumer),
            None => self.open_again().await,
        };
        let Some(mut consumer) = opened else { return };
        let mut renewals = consumer.renewals();
        let mut term = 0;
        loop {
            // All arms are cancel-safe: each only receives. Renewals are polled first, so a delivery after a renewal
            // always follows its new term.
            let incoming = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = renewals.next() => {
                    term += 1;
                    Incoming::Term { shard: self.shard.clone(), term }
                }
                release_requests = self.release_requests.recv() => {
                    if release_requests.is_none() {
                        return;
                    }
                    consumer.cancel();
                    match self.reconsume().await {
                        Some(renewed) => (renewals, consumer) = (renewed.renewals(), renewed),
                        None => return,
                    }
                    term += 1;
                    Incoming::Term { shard: self.shard.clone(), term }
                }
                delivery = consumer.next() => {
                    let Some(delivery) = delivery else {
                        return warn!(shard = %self.shard, "the queue of the shard was deleted, or the broker closed");
                    };
                    Incoming::Delivery(ShardDelivery { shard: self.shard.clone(), term, delivery })
                }
            };
            if self.tx.send(incoming).await.is_err() {
                return;
            }
        }
    }

    /// Opens a queue that did not respond when the engine started.
    async fn open_again(&self) -> Option<Consumer> {
        loop {
            self.stop.run_until_cancelled(tokio::time::sleep(UNRESPONSIVE_RETRY_DELAY)).await?;
            match self.stop.run_until_cancelled(self.queues.open_if_responsive(&self.shard)).await? {
                Ok((_, Some(consumer))) => return Some(consumer),
                // `open_if_responsive` has already logged it.
                Ok((_, None)) => {}
                Err(StartError::Declare(DeclareError::Closed) | StartError::Consume(ConsumeError::Closed)) => {
                    return None;
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    warn!(shard = %self.shard, error, "the queue of a shard cannot be opened yet");
                }
            }
        }
    }

    /// Consumes the queue again after a pause, behind all engines that already wait for the shard.
    async fn reconsume(&self) -> Option<Consumer> {
        loop {
            self.stop.run_until_cancelled(tokio::time::sleep(RELEASE_DELAY)).await?;
            let consuming = self.queues.consume(&self.shard);
            match self.stop.run_until_cancelled(consuming).await? {
                Ok(consumer) => return Some(consumer),
                Err(broker::ConsumeError::Closed) => return None,
                Err(error @ broker::ConsumeError::NoQueue { .. }) => {
                    warn!(shard = %self.shard, %error, "the queue of the shard was deleted");
                    return None;
                }
                Err(error) => warn!(shard = %self.shard, %error, "the queue of a shard cannot be consumed yet"),
            }
        }
    }
}
