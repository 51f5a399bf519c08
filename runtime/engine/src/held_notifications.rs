//! Notifications that arrived when the listeners of their shard were not all known, unsettled.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flow::{RunId, Shard};

use crate::{listeners::ListenedTask, shards::ShardDelivery};

/// Maximum number of them for each shard while its runs are read: a part of the 256 messages that a broker delivers from the queue of
/// one shard.
const MAX_HELD: usize = 64;

/// Maximum bytes of them for each shard.
const MAX_BYTES: usize = 4 << 20;

/// A notification for the runs that are not known to listen yet.
pub(crate) struct HeldNotification {
    pub(crate) listened: ListenedTask,
    /// The runs that it was forwarded to.
    pub(crate) served: Arc<BTreeSet<RunId>>,
    pub(crate) delivery: ShardDelivery,
}

/// The held notifications of all shards. A plain value.
#[derive(Default)]
pub(crate) struct HeldNotifications {
    /// Each with the bytes of its notifications. Only shards with some.
    shards: BTreeMap<Shard, (Vec<HeldNotification>, usize)>,
}

impl HeldNotifications {
    /// Whether a notification with a body of this size can be held. A large one is held alone.
    pub(crate) fn has_room(&self, shard: &Shard, size: usize) -> bool {
        let fits = |(held, bytes): &(Vec<HeldNotification>, usize)| {
            held.len() < MAX_HELD && bytes.saturating_add(size) <= MAX_BYTES
        };
        self.shards.get(shard).is_none_or(fits)
    }

    pub(crate) fn push(&mut self, notification: HeldNotification) {
        let ShardDelivery { shard, delivery, .. } = &notification.delivery;
        let (held, bytes) = self.shards.entry(shard.clone()).or_default();
        *bytes = bytes.saturating_add(delivery.message.body.len());
        held.push(notification);
    }

    /// The shards with held notifications.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.keys()
    }

    /// Takes the notifications of a shard, in the order in which they arrived. If dropped, they go back to its queue.
    pub(crate) fn take(&mut self, shard: &Shard) -> Vec<HeldNotification> {
        self.shards.remove(shard).map(|(held, _)| held).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }
}
