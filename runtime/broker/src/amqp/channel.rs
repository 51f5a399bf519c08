//! A channel, closed in order by whoever drops it last.

use std::ops::Deref;

use futures::FutureExt;

/// A channel of lapin.
///
/// lapin closes a dropped channel too, but from a task of its own that takes the whole connection for broken when
/// the channel closes otherwise meanwhile, as it does when the connection is being closed.
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
        // The first poll sends it; the answer concerns nobody. An error says that it was closed already.
        let _ = self.0.close(200, "done".into()).now_or_never();
    }
}
