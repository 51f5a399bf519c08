//! What comes out of a queue, and how it is settled: exactly once, or else it goes back.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::Message;

/// A consumer of one queue. Dropped, it is cancelled and what was fetched and not yet taken goes back.
pub struct Consumer {
    deliveries: mpsc::Receiver<Delivery>,
    renewals: Renewals,
    cancel: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Consumer {
    /// A consumer of whatever a broker sends to `deliveries`. `renewed` counts how often the consumer had to consume its
    /// queue again: it counts before the first delivery that comes then. `cancel` is called once, before the receiver
    /// closes: after it, the broker sends nothing more.
    pub fn new(
        deliveries: mpsc::Receiver<Delivery>,
        renewed: watch::Receiver<u64>,
        cancel: impl FnOnce() + Send + Sync + 'static,
    ) -> Self {
        Self { deliveries, renewals: Renewals(renewed), cancel: Some(Box::new(cancel)) }
    }

    /// Tells each time that the consumer lost its connection and has to consume its queue again. Where a queue has a single
    /// active consumer, another one may have been active in between.
    #[must_use]
    pub fn renewals(&self) -> Renewals {
        self.renewals.clone()
    }

    /// The next delivery; `None` once the consumer was cancelled, its queue deleted, or the broker closed.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            let delivery = self.deliveries.recv().await?;
            if !delivery.is_lost() {
                return Some(delivery);
            }
        }
    }

    /// A delivery that is here already.
    pub fn try_next(&mut self) -> Option<Delivery> {
        loop {
            let delivery = self.deliveries.try_recv().ok()?;
            if !delivery.is_lost() {
                return Some(delivery);
            }
        }
    }

    /// Whether a delivery is here that [`Consumer::next`] has not taken.
    pub fn has_fetched(&self) -> bool {
        !self.deliveries.is_empty()
    }

    /// Asks for nothing more, and gives what was fetched and not yet taken, in its order. Waits until the broker has
    /// said that nothing more comes, or the connection is gone. Dropping the future puts what was fetched back.
    pub async fn drain(mut self) -> Vec<Delivery> {
        if let Some(cancel) = self.cancel.take() {
            cancel();
        }
        let mut fetched = Vec::new();
        while let Some(delivery) = self.next().await {
            fetched.push(delivery);
        }
        fetched
    }

    /// Asks for nothing more. What was fetched and not yet taken by [`Consumer::next`] goes back to the queue.
    /// Deliveries already taken can still be settled.
    pub fn cancel(&mut self) {
        if let Some(cancel) = self.cancel.take() {
            cancel();
        }
        self.deliveries.close();
        while self.deliveries.try_recv().is_ok() {}
    }
}

/// Tells when a consumer has to consume its queue again.
#[derive(Debug, Clone)]
pub struct Renewals(watch::Receiver<u64>);

impl Renewals {
    /// Resolves the next time; never, where the connection cannot be lost. Cancel-safe.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// What a delivery is settled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Done: the broker may forget it.
    Accept,
    /// Back to the queue, for anyone.
    Requeue,
    /// To the queue's dead-letter queue.
    DeadLetter,
}

/// Where the deliveries of one consumer are settled.
pub(crate) trait Settle: Send + Sync + 'static {
    /// Called once for each delivery, from any thread. Must not block and cannot fail: when the connection has
    /// gone, the delivery comes again by itself.
    fn settle(&self, tag: u64, settlement: Settlement);

    /// Whether the connection has gone, so that what it delivered comes again (or has already).
    fn is_lost(&self) -> bool;
}

/// A message that was handed out. Settled once, by a method that takes it; dropped unsettled, it goes back.
pub struct Delivery {
    /// Where it was published, with which key and properties, and its bytes.
    pub message: Message,
    /// Whether the broker says that it was out before.
    pub redelivered: bool,
    /// How often it came back before, where the queue counts (quorum queues do).
    pub returned: u32,
    unsettled: Option<Unsettled>,
}

/// What a delivery is known by where it came from.
pub(crate) struct Unsettled {
    pub(crate) at: Arc<dyn Settle>,
    pub(crate) tag: u64,
}

impl Delivery {
    pub(crate) fn new(message: Message, redelivered: bool, returned: u32, unsettled: Unsettled) -> Self {
        Self { message, redelivered, returned, unsettled: Some(unsettled) }
    }

    /// Done: the broker may forget it.
    pub fn accept(mut self) {
        self.settle(Settlement::Accept);
    }

    /// Back to the queue, for anyone.
    pub fn requeue(mut self) {
        self.settle(Settlement::Requeue);
    }

    /// To the queue's dead-letter queue.
    pub fn dead_letter(mut self) {
        self.settle(Settlement::DeadLetter);
    }

    fn settle(&mut self, settlement: Settlement) {
        if let Some(Unsettled { at, tag }) = self.unsettled.take() {
            at.settle(tag, settlement);
        }
    }

    /// Whether its connection has gone, so that the broker delivers it again, or has done so already.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.unsettled.as_ref().is_some_and(|unsettled| unsettled.at.is_lost())
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.settle(Settlement::Requeue);
    }
}
