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

/// A frame that settles deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// Acknowledges one delivery.
    Accept(u64),
    /// Acknowledges this delivery and all earlier ones.
    AcceptUpTo(u64),
    /// Returns one delivery to the queue.
    Requeue(u64),
    /// Moves one delivery to the dead-letter queue.
    DeadLetter(u64),
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
        let mut deliveries = self.lock();
        self.send(deliveries.take_acknowledgements());
    }

    /// Queues frames. Call it under the lock: a frame that covers several deliveries must not overtake the frame of an
    /// earlier one.
    fn send(&self, frames: Vec<Frame>) {
        let reject = |tag, requeue| {
            let options = BasicNackOptions { requeue, ..BasicNackOptions::default() };
            self.channel.basic_nack(tag, options).now_or_never()
        };
        for frame in frames {
            // The first poll queues the frame; the rest would only wait until it is written. An error means that the
            // channel has gone, and its deliveries with it.
            let _ = match frame {
                Frame::Accept(tag) => self.channel.basic_ack(tag, BasicAckOptions { multiple: false }).now_or_never(),
                Frame::AcceptUpTo(tag) => {
                    self.channel.basic_ack(tag, BasicAckOptions { multiple: true }).now_or_never()
                }
                Frame::Requeue(tag) => reject(tag, true),
                Frame::DeadLetter(tag) => reject(tag, false),
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Deliveries> {
        // Each change is a single operation on a set.
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settle for ChannelSettler {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let mut deliveries = self.lock();
        match settlement {
            Settlement::Accept => {
                let is_first = deliveries.accept(tag);
                if let Some(this) = self.this.upgrade().filter(|_| is_first) {
                    self.runtime.spawn(async move {
                        yield_now().await;
                        this.flush();
                    });
                }
            }
            Settlement::Requeue => self.send(deliveries.reject(tag, Frame::Requeue(tag))),
            Settlement::DeadLetter => self.send(deliveries.reject(tag, Frame::DeadLetter(tag))),
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
    /// Accepts a delivery. Returns whether it is the first one since the last acknowledgement.
    fn accept(&mut self, tag: u64) -> bool {
        let is_first = self.accepted.is_empty();
        self.unsettled.remove(&tag);
        self.accepted.insert(tag);
        is_first
    }

    /// Rejects a delivery. Returns the frames of the deliveries that were accepted before, and then its own.
    fn reject(&mut self, tag: u64, frame: Frame) -> Vec<Frame> {
        // It is unsettled until its own frame: otherwise a frame for all earlier deliveries would accept it.
        let mut frames = self.take_acknowledgements();
        self.unsettled.remove(&tag);
        frames.push(frame);
        frames
    }

    /// Takes the accepted deliveries, as frames: one for all that precede the first unsettled delivery, and one for each
    /// other.
    fn take_acknowledgements(&mut self) -> Vec<Frame> {
        let others = match self.unsettled.first() {
            Some(first) => self.accepted.split_off(first),
            None => BTreeSet::new(),
        };
        let covered = std::mem::take(&mut self.accepted);
        let up_to = match (covered.len(), covered.last()) {
            (0, _) | (_, None) => None,
            (1, Some(tag)) => Some(Frame::Accept(*tag)),
            (_, Some(tag)) => Some(Frame::AcceptUpTo(*tag)),
        };
        up_to.into_iter().chain(others.into_iter().map(Frame::Accept)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Frame::{Accept, AcceptUpTo, DeadLetter, Requeue};

    fn delivered(tags: impl IntoIterator<Item = u64>) -> Deliveries {
        Deliveries { unsettled: tags.into_iter().collect(), accepted: BTreeSet::new() }
    }

    fn accepted(unsettled: impl IntoIterator<Item = u64>, accepted: impl IntoIterator<Item = u64>) -> Vec<Frame> {
        let mut deliveries = delivered(unsettled);
        for tag in accepted {
            deliveries.accept(tag);
        }
        let frames = deliveries.take_acknowledgements();
        assert!(deliveries.accepted.is_empty(), "each is acknowledged once");
        frames
    }

    #[test]
    fn one_frame_acknowledges_all_deliveries_before_the_first_unsettled_one() {
        assert_eq!(accepted([], []), []);
        assert_eq!(accepted([7], [7]), [Accept(7)]);
        assert_eq!(accepted([7, 8, 9], [7, 8, 9]), [AcceptUpTo(9)]);
        assert_eq!(accepted([7, 8, 9], [7, 8]), [AcceptUpTo(8)]);
        assert_eq!(accepted([6, 7, 8], [7, 8]), [Accept(7), Accept(8)]);
        assert_eq!(accepted([1, 2, 3, 5, 7, 8], [8, 1, 5, 2]), [AcceptUpTo(2), Accept(5), Accept(8)]);
    }

    #[test]
    fn a_rejected_delivery_is_never_acknowledged() {
        let mut deliveries = delivered([5, 6, 7, 8]);
        assert!(deliveries.accept(6), "it is the first");
        assert!(!deliveries.accept(7));
        assert_eq!(deliveries.reject(5, Requeue(5)), [Accept(6), Accept(7), Requeue(5)]);
        assert!(deliveries.accept(8));
        assert_eq!(deliveries.take_acknowledgements(), [Accept(8)]);
        let mut deliveries = delivered([1, 2, 3]);
        deliveries.accept(1);
        deliveries.accept(3);
        assert_eq!(deliveries.reject(2, DeadLetter(2)), [Accept(1), Accept(3), DeadLetter(2)]);
    }
}
