//! Notifications that arrived when the listeners of their shard were not all known, unsettled; and which of those that are put behind other
//! messages of their queue the known runs have already.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use flow::{RunId, Shard};

use crate::{listeners::ListenedTask, shards::ShardDelivery};

/// Maximum number of them for each shard while its runs are read: a part of the 256 messages that a broker delivers from the queue of
/// one shard.
const MAX_HELD: usize = 64;

/// Maximum bytes of them for each shard.
const MAX_BYTES: usize = 4 << 20;

/// Maximum number of notifications of each shard that are put behind others although the known runs have them: some hundred kilobytes. With
/// more, all runs wait for the notifications that arrive then.
const MAX_SERVED: usize = 16_384;

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
    /// Those that were put behind others, by a hash of the body, each with the number of the run that was known last: that run and all before it
    /// have the notification.
    served: BTreeMap<Shard, BTreeMap<u64, u64>>,
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

    /// Whether it can be noted that the known runs have one more notification.
    pub(crate) fn may_note_served(&self, shard: &Shard) -> bool {
        self.served.get(shard).is_none_or(|served| served.len() < MAX_SERVED)
    }

    /// Notes that the runs up to this number have a notification that is put behind others.
    pub(crate) fn note_served(&mut self, shard: &Shard, body: &[u8], number: u64) {
        self.served.entry(shard.clone()).or_default().insert(hash_of(body), number);
    }

    /// A notification has arrived: forgets and returns the number of the last run that has it already.
    pub(crate) fn take_served(&mut self, shard: &Shard, body: &[u8]) -> Option<u64> {
        let served = self.served.get_mut(shard)?;
        let number = served.remove(&hash_of(body));
        if served.is_empty() {
            self.served.remove(shard);
        }
        number
    }

    /// Drops those of a shard that is no longer driven here: they go back to its queue.
    pub(crate) fn drop_shard(&mut self, shard: &Shard) {
        self.shards.remove(shard);
        self.served.remove(shard);
    }
}

/// Identifies a notification: its seal shows that an engine wrote the body, and no two have the same.
fn hash_of(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_known_runs_have_is_noted_within_a_limit() {
        let (shard, mut held): (Shard, _) = ("0".parse().unwrap(), HeldNotifications::default());
        for number in 0..MAX_SERVED as u64 {
            assert!(held.may_note_served(&shard));
            held.note_served(&shard, &number.to_le_bytes(), number);
        }
        assert!(!held.may_note_served(&shard));
        assert_eq!(held.take_served(&shard, &7_u64.to_le_bytes()), Some(7));
        assert!(held.may_note_served(&shard), "there is room again");
        assert_eq!(held.take_served(&shard, &7_u64.to_le_bytes()), None, "it counts once");
        held.drop_shard(&shard);
        assert_eq!(held.take_served(&shard, &8_u64.to_le_bytes()), None, "its next driver has to begin anew");
    }
}
