//! Settles the deliveries of one channel, and acknowledges many of them with one frame.
//!
//! A quorum queue writes one entry to its log for each acknowledgement frame, regardless of the number of deliveries that the frame covers.
//! So accepted deliveries wait until the tasks that are ready to run have run, and are acknowledged together.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use futures::FutureExt;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::{runtime::Handle, task::yield_now};

use super::{channel::Channel, properties};
use crate::{
    Delivery, Settlement,
    delivery::{Settle, Unsettled},
};

/// Settles the deliveries of one channel.
pub(super) struct ChannelSettler {
    channel: Arc<Channel>,
    deliveries: Mutex<Deliveries>,
    runtime: Handle,
    this: Weak<ChannelSettler>,
}

/// The delivery tags of a channel that the broker waits for. Tags ascend in the order of delivery.
#[derive(Default)]
struct Deliveries {
    /// Neither accepted nor settled otherwise.
    unsettled: BTreeSet<u64>,
    /// Accepted, but not yet acknowledged.
    accepted: BTreeSet<u64>,
}

/// An acknowledgement frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acknowledgement {
    /// Of one delivery.
    One(u64),
    /// Of this delivery and all earlier ones.
    UpTo(u64),
}

impl ChannelSettler {
    /// Creates the settler of a channel; it runs on the current runtime.
    pub(super) fn new(channel: Arc<Channel>) -> Arc<Self> {
        let (deliveries, runtime) = (Mutex::default(), Handle::current());
        Arc::new_cyclic(|this| Self { channel, deliveries, runtime, this: this.clone() })
    }

    /// Converts a delivery of the channel. Must be called in the order of delivery.
    pub(super) fn take(self: &Arc<Self>, delivery: lapin::message::Delivery) -> Delivery {
        let tag = delivery.delivery_tag;
        self.lock().unsettled.insert(tag);
        let redelivered = delivery.redelivered;
        let (message, returned) = properties::incoming(delivery);
        Delivery::new(message, redelivered, returned, Unsettled { at: self.clone(), tag })
    }

    /// Acknowledges the deliveries that were accepted so far.
    pub(super) fn flush(&self) {
        self.acknowledge(&mut self.lock());
    }

    /// The frames are queued under the lock: a frame that covers several deliveries must not overtake the frame of an
    /// earlier one.
    fn acknowledge(&self, deliveries: &mut Deliveries) {
        for acknowledgement in deliveries.take_acknowledgements() {
            let (tag, multiple) = match acknowledgement {
                Acknowledgement::One(tag) => (tag, false),
                Acknowledgement::UpTo(tag) => (tag, true),
            };
            // The first poll queues the frame; later polls would only wait until it is written. An error means that the
            // channel has closed, so its deliveries are redelivered.
            let _ = self.channel.basic_ack(tag, BasicAckOptions { multiple }).now_or_never();
        }
    }

    fn reject(&self, tag: u64, requeue: bool) {
        let options = BasicNackOptions { requeue, ..BasicNackOptions::default() };
        // As for acknowledgements.
        let _ = self.channel.basic_nack(tag, options).now_or_never();
    }

    fn lock(&self) -> MutexGuard<'_, Deliveries> {
        // Each change is a single operation on a set.
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settle for ChannelSettler {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let mut deliveries = self.lock();
        deliveries.unsettled.remove(&tag);
        match settlement {
            Settlement::Accept => {
                let is_first = deliveries.accepted.is_empty();
                deliveries.accepted.insert(tag);
                if let Some(this) = self.this.upgrade().filter(|_| is_first) {
                    self.runtime.spawn(async move {
                        yield_now().await;
                        this.flush();
                    });
                }
            }
            // In the order in which deliveries were settled.
            Settlement::Requeue => {
                self.acknowledge(&mut deliveries);
                self.reject(tag, true);
            }
            Settlement::DeadLetter => {
                self.acknowledge(&mut deliveries);
                self.reject(tag, false);
            }
        }
    }

    fn is_lost(&self) -> bool {
        !self.channel.status().connected()
    }
}

impl Drop for ChannelSettler {
    fn drop(&mut self) {
        // The runtime may have ended before it ran the flush.
        self.flush();
    }
}

impl Deliveries {
    /// Takes the accepted deliveries, as frames: one for all that precede the first unsettled delivery, and one for each
    /// other.
    fn take_acknowledgements(&mut self) -> Vec<Acknowledgement> {
        let later = match self.unsettled.first() {
            Some(first) => self.accepted.split_off(first),
            None => BTreeSet::new(),
        };
        let earlier = std::mem::take(&mut self.accepted);
        let up_to = match (earlier.len(), earlier.last()) {
            (0, _) | (_, None) => None,
            (1, Some(tag)) => Some(Acknowledgement::One(*tag)),
            (_, Some(tag)) => Some(Acknowledgement::UpTo(*tag)),
        };
        up_to.into_iter().chain(later.into_iter().map(Acknowledgement::One)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Acknowledgement::{One, UpTo};

    fn acknowledgements(
        unsettled: impl IntoIterator<Item = u64>,
        accepted: impl IntoIterator<Item = u64>,
    ) -> Vec<Acknowledgement> {
        let mut deliveries =
            Deliveries { unsettled: unsettled.into_iter().collect(), accepted: accepted.into_iter().collect() };
        let frames = deliveries.take_acknowledgements();
        assert!(deliveries.accepted.is_empty(), "each is acknowledged once");
        frames
    }

    #[test]
    fn one_frame_acknowledges_all_deliveries_before_the_first_unsettled_one() {
        assert_eq!(acknowledgements([], []), []);
        assert_eq!(acknowledgements([], [7]), [One(7)]);
        assert_eq!(acknowledgements([], [7, 8, 9]), [UpTo(9)]);
        assert_eq!(acknowledgements([9], [7, 8]), [UpTo(8)]);
        assert_eq!(acknowledgements([6], [7, 8]), [One(7), One(8)]);
        assert_eq!(acknowledgements([3, 7], [1, 2, 5, 8]), [UpTo(2), One(5), One(8)]);
    }
}
