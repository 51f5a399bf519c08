//! Deliveries for runs that are being read, of which an engine holds enough already. They go to the end of their queue, so that the other
//! messages of the queue arrive.
//!
//! They would come back at once, and go round as fast as the broker can write them. So some of them stay unsettled until the next tick, and
//! the number of those that leave before the tick is bounded. After that, the broker delivers no more than its prefetch allows. A plain
//! value.

use std::collections::BTreeMap;

use flow::{RunId, Shard};

use crate::shards::ShardDelivery;

/// Number of them that stay for each shard: beside what is held for runs and notifications, a broker still delivers other messages.
const MAX_HELD: usize = 32;

/// Bytes of them for each shard.
const MAX_BYTES: usize = 4 << 20;

/// Maximum number of others for each shard that leave until the next tick.
const MAX_FORWARDED: usize = 512;

/// A delivery that leaves later.
pub(crate) struct RequeuedDelivery {
    /// The run that it is for; `None` for a notification.
    pub(crate) run: Option<RunId>,
    pub(crate) delivery: ShardDelivery,
}

/// Those of all shards.
#[derive(Default)]
pub(crate) struct RequeuedDeliveries {
    shards: BTreeMap<Shard, OfShard>,
}

#[derive(Default)]
struct OfShard {
    held: Vec<RequeuedDelivery>,
    bytes: usize,
    /// The number of those that left since the last tick.
    forwarded: usize,
}

impl RequeuedDeliveries {
    /// Keeps a delivery until the next tick; returns it if it leaves now.
    #[must_use]
    pub(crate) fn push(&mut self, requeued: RequeuedDelivery) -> Option<RequeuedDelivery> {
        let size = requeued.delivery.delivery.message.body.len();
        let OfShard { held, bytes, forwarded } = self.shards.entry(requeued.delivery.shard.clone()).or_default();
        let has_room = held.len() < MAX_HELD && (held.is_empty() || bytes.saturating_add(size) <= MAX_BYTES);
        if !has_room && *forwarded < MAX_FORWARDED {
            *forwarded += 1;
            return Some(requeued);
        }
        *bytes = bytes.saturating_add(size);
        held.push(requeued);
        None
    }

    /// A tick: takes all of them, in the order in which they arrived.
    pub(crate) fn take(&mut self) -> Vec<RequeuedDelivery> {
        std::mem::take(&mut self.shards).into_values().flat_map(|of_shard| of_shard.held).collect()
    }

    /// Takes those of a run that was read.
    pub(crate) fn take_run(&mut self, shard: &Shard, run: &RunId) -> Vec<ShardDelivery> {
        let Some(OfShard { held, bytes, .. }) = self.shards.get_mut(shard) else { return Vec::new() };
        let of_run = held.extract_if(.., |requeued| requeued.run.as_ref() == Some(run));
        let taken: Vec<ShardDelivery> = of_run.map(|requeued| requeued.delivery).collect();
        *bytes -= taken.iter().map(|taken| taken.delivery.message.body.len()).sum::<usize>();
        taken
    }

    /// Drops those of a shard that is no longer driven here: they go back to its queue.
    pub(crate) fn drop_shard(&mut self, shard: &Shard) {
        self.shards.remove(shard);
    }
}

#[cfg(test)]
mod tests {
    use broker::{Broker as _, InProcess, Message, Properties, Queue, QueueKind, Routing};

    use super::*;

    /// Deliveries for these runs.
    async fn requeued(runs: &[&str]) -> Vec<RequeuedDelivery> {
        let broker = InProcess::new();
        broker.declare_queue(&Queue { name: "q".into(), kind: QueueKind::Exclusive }).await.unwrap();
        for _ in runs {
            let message = Message {
                exchange: String::new(),
                key: "q".into(),
                routing: Routing::Mandatory,
                persistent: true,
                priority: 0,
                properties: Properties::default(),
                body: vec![0].into(),
            };
            broker.publish(message).await.unwrap();
        }
        let mut consumer = broker.consume("q", 10_000).await.unwrap();
        let deliveries = std::iter::from_fn(|| consumer.try_next());
        let of_run = |(run, delivery): (&&str, _)| {
            let delivery = ShardDelivery { shard: "0".parse().unwrap(), term: 1, delivery };
            RequeuedDelivery { run: Some(run.parse().unwrap()), delivery }
        };
        runs.iter().zip(deliveries).map(of_run).collect()
    }

    /// How many of these leave at once.
    fn push(all: &mut RequeuedDeliveries, requeued: Vec<RequeuedDelivery>) -> usize {
        requeued.into_iter().filter_map(|requeued| all.push(requeued)).count()
    }

    #[tokio::test]
    async fn a_bounded_number_leaves_in_each_tick() {
        let mut all = RequeuedDeliveries::default();
        assert_eq!(push(&mut all, requeued(&["r"; 20]).await), 0, "few wait for the tick");
        assert_eq!(push(&mut all, requeued(&["r"; 1_000]).await), MAX_FORWARDED);
        assert_eq!(all.take().len(), 1_020 - MAX_FORWARDED, "the others wait, and with them the broker");
        assert_eq!(push(&mut all, requeued(&["r"; 20]).await), 0, "it begins again with each tick");
    }

    #[tokio::test]
    async fn those_of_a_run_that_was_read_are_taken() {
        let mut all = RequeuedDeliveries::default();
        assert_eq!(push(&mut all, requeued(&["r", "s", "r"]).await), 0);
        let (shard, run) = ("0".parse().unwrap(), "r".parse().unwrap());
        assert_eq!(all.take_run(&shard, &run).len(), 2);
        assert!(all.take_run(&shard, &run).is_empty());
        let left = all.take();
        assert_eq!(left.iter().filter_map(|left| left.run.as_ref()).map(RunId::as_str).collect::<Vec<_>>(), ["s"]);
        push(&mut all, left);
        all.drop_shard(&shard);
        assert!(all.take().is_empty());
    }
}
