//! Deliveries that are held for a run, unsettled, until the run can be read.
//!
//! A broker delivers only so many messages until some are settled. So what is held for runs that take long to read is bounded, for
//! each run and for all together: the messages of other runs still arrive.

use std::sync::Arc;

use broker::Delivery;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many deliveries are held for runs of one kind.
pub(crate) struct HoldLimit {
    /// The maximum number for each run.
    run: usize,
    /// The maximum bytes of their messages for each run.
    bytes: usize,
    /// The maximum number for all runs together.
    all: Arc<Semaphore>,
}

impl HoldLimit {
    /// For runs that are being read, or are about to be. Of the 256 messages that a broker delivers from the queue of one shard, at
    /// least half are for other runs.
    pub(crate) fn of_loads() -> Self {
        Self { run: 32, bytes: 4 << 20, all: Arc::new(Semaphore::new(128)) }
    }

    /// For runs that cannot be read, perhaps until the process ends.
    pub(crate) fn of_unreadable() -> Self {
        Self { run: 8, bytes: 1 << 20, all: Arc::new(Semaphore::new(32)) }
    }
}

/// The deliveries that are held for one run.
#[derive(Default)]
pub(crate) struct HeldDeliveries {
    deliveries: Vec<(Delivery, Option<OwnedSemaphorePermit>)>,
    bytes: usize,
}

impl HeldDeliveries {
    /// Holds a delivery without a limit: all runs wait for the logbook.
    pub(crate) fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.message.body.len();
        self.deliveries.push((delivery, None));
    }

    /// Holds a delivery; returns it if that would be too much.
    #[must_use]
    pub(crate) fn push_within(&mut self, limit: &HoldLimit, delivery: Delivery) -> Option<Delivery> {
        let bytes = self.bytes.saturating_add(delivery.message.body.len());
        // A large message is held alone.
        if self.deliveries.len() >= limit.run || (bytes > limit.bytes && !self.deliveries.is_empty()) {
            return Some(delivery);
        }
        let Ok(permit) = limit.all.clone().try_acquire_owned() else { return Some(delivery) };
        self.bytes = bytes;
        self.deliveries.push((delivery, Some(permit)));
        None
    }

    /// The deliveries, in the order in which they arrived.
    pub(crate) fn into_deliveries(self) -> impl ExactSizeIterator<Item = Delivery> {
        self.deliveries.into_iter().map(|(delivery, _)| delivery)
    }
}

#[cfg(test)]
mod tests {
    use broker::{Broker as _, InProcess, Message, Properties, Queue, QueueKind, Routing};

    use super::*;

    /// Deliveries with bodies of these sizes.
    async fn deliveries(sizes: &[usize]) -> Vec<Delivery> {
        let broker = InProcess::new();
        broker.declare_queue(&Queue { name: "q".into(), kind: QueueKind::Exclusive }).await.unwrap();
        for size in sizes {
            let message = Message {
                exchange: String::new(),
                key: "q".into(),
                routing: Routing::Mandatory,
                persistent: true,
                priority: 0,
                properties: Properties::default(),
                body: vec![0; *size].into(),
            };
            broker.publish(message).await.unwrap();
        }
        let mut consumer = broker.consume("q", 1_000).await.unwrap();
        std::iter::from_fn(|| consumer.try_next()).collect()
    }

    /// How many of these deliveries are held for one run.
    fn hold(limit: &HoldLimit, deliveries: Vec<Delivery>) -> HeldDeliveries {
        let mut held = HeldDeliveries::default();
        let returned = deliveries.into_iter().filter_map(|delivery| held.push_within(limit, delivery)).count();
        assert!(returned > 0, "some are too many");
        held
    }

    #[tokio::test]
    async fn what_is_held_has_limits_for_each_run_and_for_all() {
        let limit = HoldLimit::of_loads();
        let large = hold(&limit, deliveries(&[3 << 20, 1 << 20, 1]).await);
        assert_eq!(large.into_deliveries().len(), 2, "the bytes of a run count");
        let alone = hold(&limit, deliveries(&[5 << 20, 1]).await);
        assert_eq!(alone.into_deliveries().len(), 1, "a large message is held alone");
        let mut runs: Vec<HeldDeliveries> = Vec::new();
        for _ in 0..6 {
            runs.push(hold(&limit, deliveries(&[1; 40]).await));
        }
        let lengths: Vec<usize> = runs.drain(..).map(|held| held.into_deliveries().len()).collect();
        assert_eq!(lengths, [32, 32, 32, 32, 0, 0], "four runs have all that may be held");
        assert_eq!(hold(&limit, deliveries(&[1; 40]).await).into_deliveries().len(), 32, "there is room again");
    }
}
