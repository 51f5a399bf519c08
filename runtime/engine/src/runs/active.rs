//! One run in memory.

use std::collections::BTreeSet;

use flow::{CallId, Shard, Timestamp};
use logbook::Version;
use machine::{CallExpiry, Machine};
use tokio::sync::mpsc;
use traces::RunTrace;

use crate::{WatchEvent, snapshots::Unsaved};

/// A run in memory, at the version of its records in the logbook.
pub(crate) struct ActiveRun {
    pub(crate) machine: Machine,
    pub(crate) version: Version,
    /// The records since its last snapshot.
    pub(crate) unsaved: Unsaved,
    pub(crate) shard: Shard,
    pub(crate) watcher: Option<mpsc::Sender<WatchEvent>>,
    /// When its next timer is due; only [`Runs`] sets it. While answers are awaited, it has none.
    pub(crate) due: Option<Timestamp>,
    /// Calls that were outstanding when the run was loaded. They are sent again unless an answer to them waits in the
    /// queue.
    pub(crate) outstanding_at_load: BTreeSet<CallId>,
    /// Whether answers to its calls may wait in the queue, or in the engine, since before it was loaded. No call expires before these are
    /// decided, and its timers wait for them.
    pub(crate) awaits_answers: bool,
    /// The bytes of the machine at a version, as far as they were counted: that takes time.
    pub(crate) bytes: Option<(Version, u64)>,
    /// Whether the run was inactive when it was loaded and has not continued since. Its end was published long ago.
    pub(crate) is_suspended: bool,
    /// Its trace; `None` if nothing is traced.
    pub(crate) trace: Option<Box<RunTrace>>,
}

impl ActiveRun {
    /// A machine at a version of its records, whose last snapshot has another version.
    pub(crate) fn new(machine: Machine, version: Version, snapshot: Version, shard: Shard) -> Self {
        Self {
            machine,
            version,
            unsaved: Unsaved::of_loaded(version, snapshot),
            shard,
            watcher: None,
            due: None,
            outstanding_at_load: BTreeSet::new(),
            awaits_answers: false,
            bytes: None,
            is_suspended: false,
            trace: None,
        }
    }

    /// Whether its calls may expire now.
    pub(crate) fn call_expiry(&self) -> CallExpiry {
        if self.awaits_answers { CallExpiry::Held } else { CallExpiry::Due }
    }
}
