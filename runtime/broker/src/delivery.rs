//! Deliveries from a queue, and how they are settled: exactly once, or else they return to the queue.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use crate::{Message, MessageFilter};

/// A consumer of one queue. Dropping it cancels it, and returns the fetched deliveries to the queue.
pub struct Consumer {
    deliveries: mpsc::Receiver<Delivery>,
    renewals: Renewals,
    cancel: Option<Box<dyn FnOnce() + Send + Sync>>,
    filter: Option<MessageFilter>,
}

impl Consumer {
    /// A consumer of the deliveries that a broker sends to `deliveries`. `renewals` counts how often the consumer had to
    /// consume its queue again; it counts before the first delivery after that. `cancel` is called once, before the receiver
    /// closes; the broker sends nothing after it.
    pub fn new(
        deliveries: mpsc::Receiver<Delivery>,
        renewals: watch::Receiver<u64>,
        cancel: impl FnOnce() + Send + Sync + 'static,
    ) -> Self {
        Self { deliveries, renewals: Renewals(renewals), cancel: Some(Box::new(cancel)), filter: None }
    }

    /// Dead-letters the deliveries that the filter does not let through, instead of returning them.
    pub(crate) fn filtered(mut self, filter: MessageFilter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Reports each time that the consumer lost its connection and has to consume its queue again. If the queue has a single
    /// active consumer, another consumer may have been active in between.
    #[must_use]
    pub fn renewals(&self) -> Renewals {
        self.renewals.clone()
    }

    /// The next delivery; `None` once the consumer was cancelled, its queue deleted, or the broker closed.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            let delivery = self.deliveries.recv().await?;
            if let Some(delivery) = self.wanted(delivery) {
                return Some(delivery);
            }
        }
    }

    /// A delivery that has already been fetched.
    pub fn try_next(&mut self) -> Option<Delivery> {
        loop {
            let delivery = self.deliveries.try_recv().ok()?;
            if let Some(delivery) = self.wanted(delivery) {
                return Some(delivery);
            }
        }
    }

    fn wanted(&self, delivery: Delivery) -> Option<Delivery> {
        let delivery = Some(delivery).filter(|delivery| !delivery.is_lost())?;
        match &self.filter {
            Some(filter) => delivery.through(filter),
            None => Some(delivery),
        }
    }

    /// Whether a fetched delivery waits for [`Consumer::next`].
    pub fn has_fetched(&self) -> bool {
        !self.deliveries.is_empty()
    }

    /// Stops consuming, and returns the fetched deliveries that were not taken, in order. Waits until the broker confirms
    /// that no more will arrive, or the connection is lost. Dropping the future returns the fetched deliveries to the queue.
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

    /// Stops consuming. Fetched deliveries that [`Consumer::next`] has not returned go back to the queue. Returned deliveries
    /// can still be settled.
    pub fn cancel(&mut self) {
        if let Some(cancel) = self.cancel.take() {
            cancel();
        }
        self.deliveries.close();
        while self.deliveries.try_recv().is_ok() {}
    }
}

/// Reports when a consumer has to consume its queue again.
#[derive(Debug, Clone)]
pub struct Renewals(watch::Receiver<u64>);

impl Renewals {
    /// Resolves at the next renewal; never, if the connection cannot be lost. Cancel-safe.
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

/// The ways to settle a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Accepted: the broker may delete the message.
    Accept,
    /// Returned to the queue, for any consumer.
    Requeue,
    /// Moved to the queue's dead-letter queue.
    DeadLetter,
}

/// Settles the deliveries of one consumer.
pub(crate) trait Settle: Send + Sync + 'static {
    /// Settles one delivery; called once for each, from any thread. Must not block and cannot fail: if the connection is
    /// lost, the delivery is redelivered in any case.
    fn settle(&self, tag: u64, settlement: Settlement);

    /// Whether the connection is lost, so that its deliveries are redelivered (or already have been).
    fn is_lost(&self) -> bool;
}

/// A delivered message. A method that consumes it settles it once; dropping it unsettled returns it to the queue.
pub struct Delivery {
    /// The exchange, key, properties and body that were published.
    pub message: Message,
    /// Whether the broker says that it was delivered before.
    pub redelivered: bool,
    /// The number of earlier redeliveries, if the queue counts them (quorum queues do).
    pub returned: u32,
    unsettled: Option<Unsettled>,
}

impl Delivery {
    /// The delivery, if the filter lets it through; otherwise it is dead-lettered, or dropped if it is not persistent: then its sender repeats
    /// it, or it is of no use soon.
    pub(crate) fn through(self, filter: &MessageFilter) -> Option<Self> {
        if filter(&self.message) {
            return Some(self);
        }
        if self.message.persistent {
            self.dead_letter()
        } else {
            self.accept()
        }
        None
    }
}

/// Identifies an unsettled delivery.
pub(crate) struct Unsettled {
    pub(crate) at: Arc<dyn Settle>,
    pub(crate) tag: u64,
}

impl Delivery {
    pub(crate) fn new(message: Message, redelivered: bool, returned: u32, unsettled: Unsettled) -> Self {
        Self { message, redelivered, returned, unsettled: Some(unsettled) }
    }

    /// Accepts the delivery: the broker may delete the message.
    pub fn accept(mut self) {
        self.settle(Settlement::Accept);
    }

    /// Returns the delivery to the queue, for any consumer.
    pub fn requeue(mut self) {
        self.settle(Settlement::Requeue);
    }

    /// Moves the delivery to the queue's dead-letter queue.
    pub fn dead_letter(mut self) {
        self.settle(Settlement::DeadLetter);
    }

    fn settle(&mut self, settlement: Settlement) {
        if let Some(Unsettled { at, tag }) = self.unsettled.take() {
            at.settle(tag, settlement);
        }
    }

    /// Whether its connection is lost, so that the broker redelivers it, or already has.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.unsettled.as_ref().is_some_and(|unsettled| unsettled.at.is_lost())
    }
}

impl Delivery {
    /// Splits a delivery that holds several messages into one delivery for each, so that each can be settled on its own.
    ///
    /// The broker knows only the whole delivery. It is accepted once all parts are accepted, and returned to the queue as
    /// soon as one part is returned: then all its messages are redelivered, those of accepted parts too. It is moved to
    /// the dead-letter queue if a part was, once all others are settled. Without messages, it is accepted.
    #[must_use]
    pub fn split(self, messages: Vec<Message>) -> Vec<Self> {
        let (redelivered, returned) = (self.redelivered, self.returned);
        if messages.is_empty() {
            self.accept();
            return Vec::new();
        }
        let whole = Mutex::new(SplitState { delivery: Some(self), left: messages.len(), dead_letter: false });
        let at: Arc<dyn Settle> = Arc::new(Split(whole));
        let part = |message| Self::new(message, redelivered, returned, Unsettled { at: at.clone(), tag: 0 });
        messages.into_iter().map(part).collect()
    }
}

/// A delivery from which parts are made one after the other, so that each can be settled on its own.
///
/// The broker knows only the whole delivery. It is accepted once [`DeliveryParts::finish`] was called and all parts are
/// accepted, and returned to the queue as soon as one part is returned. Dropping this returns it too.
pub struct DeliveryParts {
    /// Counts as a part until no more parts are made.
    rest: Delivery,
    whole: Arc<Split>,
}

impl Delivery {
    /// Makes parts of this delivery, as many as wanted.
    #[must_use]
    pub fn into_parts(self) -> DeliveryParts {
        let (message, redelivered, returned) = (self.message.clone(), self.redelivered, self.returned);
        let whole = Arc::new(Split(Mutex::new(SplitState { delivery: Some(self), left: 1, dead_letter: false })));
        let rest = Self::new(message, redelivered, returned, Unsettled { at: whole.clone(), tag: 0 });
        DeliveryParts { rest, whole }
    }
}

impl DeliveryParts {
    /// The message of the whole delivery.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.rest.message
    }

    /// Makes a part with this message.
    #[must_use]
    pub fn part(&self, message: Message) -> Delivery {
        self.whole.0.lock().unwrap_or_else(PoisonError::into_inner).left += 1;
        let (redelivered, returned) = (self.rest.redelivered, self.rest.returned);
        Delivery::new(message, redelivered, returned, Unsettled { at: self.whole.clone(), tag: 0 })
    }

    /// Whether the whole delivery was returned or its connection is lost, so that the broker redelivers it with all its parts.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.rest.is_lost()
    }

    /// No more parts are made.
    pub fn finish(self) {
        self.rest.accept();
    }
}

/// Settles the parts of a delivery.
struct Split(Mutex<SplitState>);

struct SplitState {
    /// The whole delivery, until it is settled.
    delivery: Option<Delivery>,
    /// The number of parts that are not settled.
    left: usize,
    /// Whether a part was moved to the dead-letter queue.
    dead_letter: bool,
}

impl Settle for Split {
    fn settle(&self, _: u64, settlement: Settlement) {
        // Each change leaves a consistent state.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.left = state.left.saturating_sub(1);
        state.dead_letter |= settlement == Settlement::DeadLetter;
        let is_complete = state.left == 0;
        let delivery = match settlement {
            // At once: another part may be held for long.
            Settlement::Requeue => state.delivery.take(),
            Settlement::Accept | Settlement::DeadLetter => state.delivery.take_if(|_| is_complete),
        };
        let is_dead_letter = state.dead_letter;
        drop(state);
        match (delivery, settlement) {
            (None, _) => {}
            (Some(delivery), Settlement::Requeue) => delivery.requeue(),
            (Some(delivery), _) if is_dead_letter => delivery.dead_letter(),
            (Some(delivery), _) => delivery.accept(),
        }
    }

    fn is_lost(&self) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Unsettled parts of a whole that was returned are redelivered with it.
        state.delivery.as_ref().is_none_or(Delivery::is_lost)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.settle(Settlement::Requeue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Properties, Routing};

    /// Records how its delivery was settled.
    #[derive(Default)]
    struct Recorder(Mutex<Vec<Settlement>>);

    impl Settle for Recorder {
        fn settle(&self, _: u64, settlement: Settlement) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(settlement);
        }

        fn is_lost(&self) -> bool {
            false
        }
    }

    fn message(body: &'static str) -> Message {
        let (exchange, key, properties) = (String::new(), "q".into(), Properties::default());
        Message {
            exchange,
            key,
            routing: Routing::Optional,
            persistent: true,
            priority: 0,
            properties,
            body: body.into(),
        }
    }

    /// Settles the parts of a delivery in order; returns how the whole was settled after each.
    fn settled(parts: &[Settlement]) -> Vec<Vec<Settlement>> {
        let recorder = Arc::new(Recorder::default());
        let whole = Delivery::new(message("whole"), true, 3, Unsettled { at: recorder.clone(), tag: 7 });
        let split = whole.split(vec![message("part"); parts.len()]);
        assert!(split.iter().all(|part| part.redelivered && part.returned == 3 && part.message.body == "part"));
        let settle = |(mut part, settlement): (Delivery, &Settlement)| {
            part.settle(*settlement);
            recorder.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        split.into_iter().zip(parts).map(settle).collect()
    }

    #[test]
    fn a_split_delivery_is_accepted_once_all_parts_are() {
        use Settlement::{Accept, DeadLetter, Requeue};
        assert_eq!(settled(&[Accept, Accept]), [vec![], vec![Accept]]);
        assert_eq!(settled(&[Accept, Requeue, Accept]), [vec![], vec![Requeue], vec![Requeue]]);
        assert_eq!(settled(&[Requeue, Requeue]), [[Requeue], [Requeue]]);
        assert_eq!(settled(&[DeadLetter, Accept]), [vec![], vec![DeadLetter]]);
    }

    #[test]
    fn parts_of_a_returned_delivery_are_redelivered() {
        let recorder = Arc::new(Recorder::default());
        let whole = Delivery::new(message("whole"), false, 0, Unsettled { at: recorder.clone(), tag: 7 });
        let [held, dropped] = <[Delivery; 2]>::try_from(whole.split(vec![message("part"); 2])).ok().unwrap();
        assert!(!held.is_lost());
        drop(dropped);
        assert!(held.is_lost());
        held.accept();
        assert_eq!(*recorder.0.lock().unwrap(), [Settlement::Requeue]);
    }

    #[test]
    fn parts_that_are_made_one_by_one_are_accepted_together() {
        let recorded = |use_parts: fn(DeliveryParts)| {
            let recorder = Arc::new(Recorder::default());
            let whole = Delivery::new(message("whole"), false, 0, Unsettled { at: recorder.clone(), tag: 7 });
            use_parts(whole.into_parts());
            recorder.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        assert_eq!(recorded(drop), [Settlement::Requeue]);
        assert_eq!(recorded(|parts| parts.finish()), [Settlement::Accept]);
        assert_eq!(
            recorded(|parts| {
                (0..2).for_each(|_| parts.part(message("part")).accept());
                let last = parts.part(message("part"));
                parts.finish();
                last.accept();
            }),
            [Settlement::Accept]
        );
        assert_eq!(
            recorded(|parts| {
                let held = parts.part(message("part"));
                drop(parts.part(message("part")));
                assert!(parts.is_lost() && held.is_lost());
                parts.finish();
                held.accept();
            }),
            [Settlement::Requeue]
        );
    }

    #[test]
    fn a_delivery_without_parts_is_accepted() {
        let recorder = Arc::new(Recorder::default());
        let whole = Delivery::new(message("whole"), false, 0, Unsettled { at: recorder.clone(), tag: 7 });
        assert!(whole.split(Vec::new()).is_empty());
        assert_eq!(*recorder.0.lock().unwrap(), [Settlement::Accept]);
    }
}
