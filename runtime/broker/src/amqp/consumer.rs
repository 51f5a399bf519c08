//! One consumer: a channel of its own at a time, and a task that hands on what comes.
//!
//! A delivery is settled straight on its channel, from wherever it is settled: nothing waits, and the channel
//! lasts until the last of its deliveries is settled.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use lapin::{
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::sync::{mpsc, watch};

use super::{
    channel::Channel,
    properties::{self, check_name},
    refusal::Refusal,
    session::{Failure, OPERATION_TIMEOUT, Session},
    sessions::{LOSS_GRACE, Sessions},
};
use crate::{
    ConsumeError, Consumer, Delivery, Settlement,
    delivery::{Settle, Unsettled},
};

/// The consumer's tag: it has its channel for itself.
const TAG: &str = "waft";

/// How long to wait before a queue is consumed again that could not be for a reason of its own.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Opens a consumer.
pub(super) async fn consume(sessions: &Arc<Sessions>, queue: &str, prefetch: u16) -> Result<Consumer, ConsumeError> {
    check_name(queue).map_err(|reason| ConsumeError::Refused { queue: queue.to_owned(), reason })?;
    let subscription = Arc::new(Subscription {
        queue: queue.to_owned(),
        prefetch: prefetch.max(1),
        state: Mutex::new(ConsumeState::None),
    });
    let incoming = subscription.open(sessions).await?;
    // As many as may be unsettled; what came over a lost connection may hold the room of others until it is seen.
    let (tx, deliveries) = mpsc::channel(usize::from(subscription.prefetch));
    let (renewals, renewed) = watch::channel(0);
    let outgoing = Outgoing { deliveries: tx, renewals };
    sessions.tasks.spawn(forward(sessions.clone(), subscription.clone(), incoming, outgoing));
    Ok(Consumer::new(deliveries, renewed, move || subscription.cancel()))
}

/// What is asked for, over all connections.
struct Subscription {
    queue: String,
    prefetch: u16,
    state: Mutex<ConsumeState>,
}

/// Where it is consumed now.
enum ConsumeState {
    None,
    On(Arc<Channel>),
    Cancelled,
}

/// Where what comes goes.
struct Outgoing {
    deliveries: mpsc::Sender<Delivery>,
    /// Counts how often the queue is consumed again.
    renewals: watch::Sender<u64>,
}

/// What comes over one channel.
struct Incoming {
    stream: lapin::Consumer,
    settler: Arc<ChannelSettler>,
}

impl Subscription {
    fn lock(&self) -> MutexGuard<'_, ConsumeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Consumes on the session there is, or the next.
    async fn open(&self, sessions: &Sessions) -> Result<Incoming, ConsumeError> {
        let queue = || self.queue.clone();
        loop {
            let session = sessions.current().await.ok_or(ConsumeError::Closed)?;
            let error = match self.open_on(&session).await {
                Ok(incoming) => return Ok(incoming),
                Err(error) => error,
            };
            if matches!(error, Failure::Silent) && !session.is_lost() {
                return Err(ConsumeError::Silent { queue: queue(), seconds: OPERATION_TIMEOUT.as_secs() });
            }
            match error.refusal() {
                Some(refusal) if refusal.is_not_found() => {
                    return Err(ConsumeError::NoQueue { queue: queue() });
                }
                Some(Refusal { reason, .. }) => {
                    return Err(ConsumeError::Refused { queue: queue(), reason });
                }
                None => session.wait_for_loss(LOSS_GRACE).await,
            }
        }
    }

    async fn open_on(&self, session: &Session) -> Result<Incoming, Failure> {
        let opening = async {
            let channel = session.open_channel().await?;
            channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
            let (queue, options) = (self.queue.as_str().into(), BasicConsumeOptions::default());
            let stream = channel.basic_consume(queue, TAG.into(), options, FieldTable::default()).await?;
            Ok((channel, stream))
        };
        let (channel, stream) = session.with_timeout(opening).await?;
        self.settle_on(&channel);
        Ok(Incoming { stream, settler: Arc::new(ChannelSettler { channel }) })
    }

    /// From here on a cancellation finds the channel. One that came before is done now.
    fn settle_on(&self, channel: &Arc<Channel>) {
        let mut place = self.lock();
        match *place {
            ConsumeState::None | ConsumeState::On(_) => *place = ConsumeState::On(channel.clone()),
            ConsumeState::Cancelled => cancel(channel),
        }
    }

    /// The broker hears this before it hears that what was fetched goes back, so that nothing comes here again.
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

/// The first poll sends it. The stream ends once the broker has answered.
fn cancel(channel: &Channel) {
    let _ = channel.basic_cancel(TAG.into(), BasicCancelOptions::default()).now_or_never();
}

/// Hands on what comes, from one channel after another.
async fn forward(sessions: Arc<Sessions>, subscription: Arc<Subscription>, mut incoming: Incoming, outgoing: Outgoing) {
    loop {
        if sessions.stop.run_until_cancelled(forward_all(&mut incoming, &outgoing.deliveries)).await.is_none() {
            // Or else lapin would, when it is too late.
            return subscription.cancel();
        }
        // It was cancelled, or its queue, its channel or its connection is gone.
        if subscription.is_cancelled() {
            return;
        }
        // Before anything can come again.
        outgoing.renewals.send_modify(|renewals| *renewals += 1);
        incoming = loop {
            match subscription.open(&sessions).await {
                Ok(incoming) => break incoming,
                Err(ConsumeError::NoQueue { .. } | ConsumeError::Closed) => return,
                Err(error @ (ConsumeError::Refused { .. } | ConsumeError::Silent { .. })) => {
                    tracing::warn!(%error, "could not go on consuming yet");
                    let pause = sessions.stop.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await;
                    if pause.is_none() || subscription.is_cancelled() {
                        return;
                    }
                }
            }
        };
    }
}

/// Hands on what comes over one channel, until nothing more will come.
async fn forward_all(incoming: &mut Incoming, deliveries: &mpsc::Sender<Delivery>) {
    while let Some(Ok(delivery)) = incoming.stream.next().await {
        // When nobody listens any more the delivery goes back by being dropped.
        let _ = deliveries.send(incoming.settler.take(delivery)).await;
    }
}

/// Settles what came over one channel.
struct ChannelSettler {
    channel: Arc<Channel>,
}

impl ChannelSettler {
    fn take(self: &Arc<Self>, delivery: lapin::message::Delivery) -> Delivery {
        let unsettled = Unsettled { at: self.clone(), tag: delivery.delivery_tag };
        let redelivered = delivery.redelivered;
        let (message, returned) = properties::incoming(delivery);
        Delivery::new(message, redelivered, returned, unsettled)
    }
}

impl Settle for ChannelSettler {
    fn settle(&self, tag: u64, settlement: Settlement) {
        // The first poll queues the frame; what the rest would wait for is only that it was written. An error is
        // that of a channel that has gone, and its deliveries with it.
        let _ = match settlement {
            Settlement::Accept => self.channel.basic_ack(tag, BasicAckOptions::default()).now_or_never(),
            Settlement::Requeue => {
                let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                self.channel.basic_nack(tag, options).now_or_never()
            }
            Settlement::DeadLetter => {
                let options = BasicNackOptions { requeue: false, ..BasicNackOptions::default() };
                self.channel.basic_nack(tag, options).now_or_never()
            }
        };
    }

    fn is_lost(&self) -> bool {
        !self.channel.status().connected()
    }
}
