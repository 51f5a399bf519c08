//! One consumer: one channel at a time, and a task that forwards its deliveries.
//!
//! A delivery is settled on its channel, from any thread (`settler.rs`): no call waits, and the channel lasts until its
//! last delivery is settled.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use lapin::{
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::sync::{mpsc, watch};

use super::{
    channel::Channel,
    properties::check_name,
    refusal::Refusal,
    session::{Failure, LOSS_GRACE, OPERATION_TIMEOUT, Session},
    sessions::Sessions,
    settler::ChannelSettler,
};
use crate::{ConsumeError, Consumer, Delivery, MessageFilter};

/// The consumer's tag: each consumer has its own channel, so the tag is unique there.
const TAG: &str = "waft";

/// How long to wait before a failed consume is retried, if the cause was the queue and not the connection.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Opens a consumer.
pub(super) async fn consume(
    sessions: &Arc<Sessions>,
    queue: &str,
    prefetch: u16,
    filter: MessageFilter,
) -> Result<Consumer, ConsumeError> {
    check_name(queue).map_err(|reason| ConsumeError::Refused { queue: queue.to_owned(), reason })?;
    let subscription = Arc::new(Subscription {
        queue: queue.to_owned(),
        prefetch: prefetch.max(1),
        state: Mutex::new(ConsumeState::None),
    });
    let incoming = subscription.open(sessions).await?;
    // The capacity is the prefetch. Deliveries of a lost connection may use the capacity until they are discarded.
    let (tx, deliveries) = mpsc::channel(usize::from(subscription.prefetch));
    let (renewals_tx, renewals_rx) = watch::channel(0);
    let outgoing = Outgoing { deliveries: tx, renewals: renewals_tx, filter };
    sessions.tasks.spawn(forward(sessions.clone(), subscription.clone(), incoming, outgoing));
    Ok(Consumer::new(deliveries, renewals_rx, move || subscription.cancel()))
}

/// The consumed queue and its options, which stay the same over all connections.
struct Subscription {
    queue: String,
    prefetch: u16,
    state: Mutex<ConsumeState>,
}

/// The channel that the queue is consumed on now.
enum ConsumeState {
    None,
    On(Arc<Channel>),
    Cancelled,
}

/// The receiver of the deliveries.
struct Outgoing {
    deliveries: mpsc::Sender<Delivery>,
    /// Counts how often the queue was consumed again.
    renewals: watch::Sender<u64>,
    /// What the receiver wants.
    filter: MessageFilter,
}

/// The deliveries of one channel.
struct Incoming {
    stream: lapin::Consumer,
    settler: Arc<ChannelSettler>,
}

impl Subscription {
    fn lock(&self) -> MutexGuard<'_, ConsumeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Consumes on the current session, or on the next.
    async fn open(&self, sessions: &Sessions) -> Result<Incoming, ConsumeError> {
        loop {
            let session = sessions.current().await.ok_or(ConsumeError::Closed)?;
            match self.open_on(&session).await {
                Ok(incoming) => return Ok(incoming),
                Err(error) => retry_or_fail(&self.queue, &session, &error).await?,
            }
        }
    }

    async fn open_on(&self, session: &Session) -> Result<Incoming, Failure> {
        let channel = session.open_consumer_channel().await?;
        let open = async {
            channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
            let (queue, options) = (channel.queue_name(&self.queue).into(), BasicConsumeOptions::default());
            channel.basic_consume(queue, TAG.into(), options, FieldTable::default()).await
        };
        let stream = session.with_timeout(open).await?;
        self.set_channel(&channel);
        let settler = ChannelSettler::new(channel);
        session.flush_on_close(&settler);
        Ok(Incoming { stream, settler })
    }

    /// Sets the channel that a cancellation cancels. An earlier cancellation takes effect now.
    fn set_channel(&self, channel: &Arc<Channel>) {
        let mut state = self.lock();
        match *state {
            ConsumeState::None | ConsumeState::On(_) => *state = ConsumeState::On(channel.clone()),
            ConsumeState::Cancelled => cancel(channel),
        }
    }

    /// The broker receives this before the fetched deliveries are returned, so that they do not come here again.
    fn cancel(&self) {
        match std::mem::replace(&mut *self.lock(), ConsumeState::Cancelled) {
            ConsumeState::On(channel) => cancel(&channel),
            ConsumeState::None | ConsumeState::Cancelled => {}
        }
    }

    fn is_cancelled(&self) -> bool {
        match *self.lock() {
            ConsumeState::Cancelled => true,
            ConsumeState::None | ConsumeState::On(_) => false,
        }
    }
}

/// Waits until the next session may be tried, or returns the error of a queue that cannot be read.
pub(super) async fn retry_or_fail(queue: &str, session: &Session, error: &Failure) -> Result<(), ConsumeError> {
    let queue = queue.to_owned();
    if matches!(error, Failure::Silent) && !session.is_lost() {
        return Err(ConsumeError::Silent { queue, seconds: OPERATION_TIMEOUT.as_secs() });
    }
    match error.refusal() {
        Some(refusal) if refusal.is_not_found() => Err(ConsumeError::NoQueue { queue }),
        Some(Refusal { reason, .. }) => Err(ConsumeError::Refused { queue, reason }),
        None => {
            session.wait_for_loss(LOSS_GRACE).await;
            Ok(())
        }
    }
}

/// The first poll sends the frame. The stream ends once the broker has answered.
fn cancel(channel: &Channel) {
    let _ = channel.basic_cancel(TAG.into(), BasicCancelOptions::default()).now_or_never();
}

/// Forwards deliveries, from one channel after another.
async fn forward(sessions: Arc<Sessions>, subscription: Arc<Subscription>, mut incoming: Incoming, outgoing: Outgoing) {
    loop {
        if sessions.stop.run_until_cancelled(forward_all(&mut incoming, &outgoing)).await.is_none() {
            // Otherwise lapin would cancel, but too late.
            return subscription.cancel();
        }
        // The consumer was cancelled, or its queue was deleted, or its channel or connection was lost.
        if subscription.is_cancelled() {
            return;
        }
        // Counted before the next delivery can arrive.
        outgoing.renewals.send_modify(|renewals| *renewals += 1);
        incoming = loop {
            match subscription.open(&sessions).await {
                Ok(incoming) => break incoming,
                Err(ConsumeError::NoQueue { .. } | ConsumeError::Closed) => return,
                Err(error @ (ConsumeError::Refused { .. } | ConsumeError::Silent { .. })) => {
                    tracing::warn!(%error, "could not resume consuming yet");
                    let slept = sessions.stop.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await;
                    if slept.is_none() || subscription.is_cancelled() {
                        return;
                    }
                }
            }
        };
    }
}

/// Forwards the deliveries of one channel, until no more will arrive.
async fn forward_all(incoming: &mut Incoming, outgoing: &Outgoing) {
    while let Some(Ok(delivery)) = incoming.stream.next().await {
        let Some(delivery) = incoming.settler.take(delivery).through(&outgoing.filter) else { continue };
        // If the receiver was dropped, the delivery is dropped too and returns to the queue.
        let _ = outgoing.deliveries.send(delivery).await;
    }
}
