//! Watching a run while it executes.

use std::sync::Arc;

use machine::{Change, Machine};
use protocol::{AttemptLog, Progress};
use tokio::sync::mpsc;

/// Maximum number of events that wait for a watcher; then the engine waits. It fits a large fan-out at once.
pub(crate) const WATCH_CAPACITY: usize = 4_096;

/// An event of a watched run, in the order of the records.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// A node or the run is in a new state.
    Change(Change),
    /// The log of an attempt that was answered. It comes before the changes that the answer causes.
    Log(AttemptLog),
    /// Progress of a call. May be left out when the watcher is slow.
    Progress(Progress),
    /// The run has ended or is suspended: the last event.
    Ended(Arc<Machine>),
}

/// A subscription to the events of a run. If dropped, the run continues unwatched.
#[derive(Debug)]
pub struct Watch {
    pub(crate) events: mpsc::Receiver<WatchEvent>,
}

impl Watch {
    /// The next event; `None` after the run ended, or when its engine stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.events.recv().await
    }
}
