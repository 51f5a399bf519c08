//! A channel that is closed in order by its last owner.

use std::{ops::Deref, sync::Arc};

use futures::FutureExt;
use tokio::sync::OwnedSemaphorePermit;

use super::private_names::PrivateNames;

/// A channel of lapin.
///
/// lapin closes a dropped channel too, but from its own task. That task considers the connection broken if the channel
/// closes in another way in the meantime, as it does while the connection closes.
pub(super) struct Channel {
    channel: lapin::Channel,
    /// The private queues of the connection.
    private_names: Arc<PrivateNames>,
    /// The share of the connection's channels that it uses, if it is a consumer's.
    _slot: Option<OwnedSemaphorePermit>,
}

impl Channel {
    /// The channel of operations or of a publisher.
    pub(super) fn new(channel: lapin::Channel, private_names: Arc<PrivateNames>) -> Self {
        Self { channel, private_names, _slot: None }
    }

    /// The channel of a consumer, which occupies a slot as long as it is open.
    pub(super) fn of_consumer(
        channel: lapin::Channel,
        private_names: Arc<PrivateNames>,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        Self { channel, private_names, _slot: Some(slot) }
    }

    /// The names of the private queues of this channel's connection.
    pub(super) fn private_names(&self) -> &PrivateNames {
        &self.private_names
    }

    /// The name of a queue at the broker.
    pub(super) fn queue_name(&self, name: &str) -> String {
        self.private_names.get(name).unwrap_or_else(|| name.to_owned())
    }
}

impl Deref for Channel {
    type Target = lapin::Channel;

    fn deref(&self) -> &lapin::Channel {
        &self.channel
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // The first poll sends the frame; the answer is not needed. An error means that the channel was already closed.
        let _ = self.channel.close(200, "done".into()).now_or_never();
    }
}
