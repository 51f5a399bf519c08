//! Seeing a run as it goes.

use std::sync::Arc;

use flow::{Change, Machine};
use protocol::{AttemptLog, Progress};
use tokio::sync::mpsc;

/// How many happenings wait for a watcher before the engine waits for it: a large fan-out at once.
pub(crate) const WATCH_CAPACITY: usize = 4_096;

/// Something that happened in a watched run, in the order it was recorded.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// A node or the run is in a new state.
    Change(Change),
    /// An attempt was answered, and its guest wrote something. It comes before what the answer changes.
    Log(AttemptLog),
    /// A call has come some way. May be left out when the watcher is slow.
    Progress(Progress),
    /// The run has ended, or rests: the last one.
    Ended(Arc<Machine>),
}

/// What a watcher holds. Dropped, the run goes on unwatched.
#[derive(Debug)]
pub struct Watch {
    pub(crate) happenings: mpsc::Receiver<WatchEvent>,
}

impl Watch {
    /// What happened next; `None` after the run ended, or when its engine stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.happenings.recv().await
    }
}
