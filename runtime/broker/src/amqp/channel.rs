//! A channel that is closed in order by its last owner.

use std::ops::Deref;

use futures::FutureExt;

/// A channel of lapin.
///
/// lapin closes a dropped channel too, but from its own task. That task considers the connection broken if the channel
/// closes in another way in the meantime, as it does while the connection closes.
pub(super) struct Channel(lapin::Channel);

impl Channel {
    pub(super) fn new(channel: lapin::Channel) -> Self {
        Self(channel)
    }
}

impl Deref for Channel {
    type Target = lapin::Channel;

    fn deref(&self) -> &lapin::Channel {
        &self.0
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // The first poll sends the frame; the answer is not needed. An error means that the channel was already closed.
        let _ = self.0.close(200, "done".into()).now_or_never();
    }
}
