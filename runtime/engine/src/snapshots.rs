//! Snapshots of runs: the cost of loading a run depends on its size and not on its history, and the number of records of a persistent run
//! is bounded.
//!
//! The driver decides when a snapshot is due, and copies the machine. Everything that takes time with the size of the run is done beside
//! the driver: making the snapshot, deleting the records before the previous one, encoding and writing it. That is safe, since a snapshot
//! belongs to a version whose records are durable: whoever drives the run later reads it together with the records after it.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use flow::{Namespace, RunId};
use logbook::{Logbook, Version};
use machine::Machine;
use tokio::task::{Id, JoinError, JoinSet, spawn_blocking};
use tracing::warn;

use crate::{
    runs::ActiveRun,
    turns::{Turn, Turns},
};

/// Minimum number of records between two snapshots of a run.
const MIN_RECORDS: u64 = 1_000;

/// Minimum number of records between two snapshots, for each node and list element of each firing: the driver copies all of them. A list of
/// a million elements ends before its first snapshot.
const RECORDS_PER_NODE: u64 = 10;

/// Minimum number of bytes of records between two snapshots, for each byte of a snapshot: together, the snapshots of a run are half as large
/// as its records at most.
const RECORD_BYTES_PER_BYTE: u64 = 2;

/// The bytes of a record that was read and not counted, at least.
const READ_RECORD_BYTES: u64 = 64;

/// Maximum delay of a snapshot, in snapshot intervals, while the records before the previous snapshot are unpublished.
const MAX_DELAY: u64 = 100;

/// Maximum number of snapshots that are saved at the same time.
const MAX_SAVES: usize = 8;

/// Another snapshot is saved only while those under way have fewer bytes together: each takes some times its bytes of memory.
const MAX_SAVED_BYTES: u64 = 32 << 20;

/// The records of a run since its last snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsaved {
    /// The version of the last snapshot.
    after: Version,
    /// The bytes of the records since then, approximately.
    bytes: u64,
}

impl Unsaved {
    /// The records of a run that was read, whose last snapshot has a version.
    pub(crate) fn of_loaded(version: Version, snapshot: Version) -> Self {
        let records = version.get().saturating_sub(snapshot.get());
        Self { after: snapshot, bytes: records.saturating_mul(READ_RECORD_BYTES) }
    }

    /// Counts records that were appended.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn records(self, version: Version) -> u64 {
        version.get().saturating_sub(self.after.get())
    }
}

/// The snapshots that are due, and those that are being saved.
pub(crate) struct Snapshots {
    logbook: Arc<dyn Logbook>,
    running: JoinSet<()>,
    /// The run of each snapshot that is being saved, and its bytes, approximately.
    saves: HashMap<Id, (RunId, u64)>,
    /// The runs whose snapshots are due, in turns of their namespaces.
    waiting: Turns<Option<Namespace>, VecDeque<RunId>>,
    /// The runs that wait, or whose snapshot is being saved: no run has two at once.
    known: BTreeSet<RunId>,
}

/// A snapshot to save.
struct Save {
    machine: Machine,
    version: Version,
    /// The previous snapshot of a persistent run: the records before it are deleted.
    trim: Option<Version>,
}

impl Snapshots {
    pub(crate) fn new(logbook: Arc<dyn Logbook>) -> Self {
        let (saves, waiting, known) = (HashMap::new(), Turns::default(), BTreeSet::new());
        Self { logbook, running: JoinSet::new(), saves, waiting, known }
    }

    /// Notes that records of a run have become durable, of which there are so many. If a snapshot is due, it waits for its turn.
    pub(crate) fn on_appended(&mut self, run: &RunId, active: &ActiveRun, records: usize) {
        let since = active.unsaved.records(active.version);
        let before = since.saturating_sub(records as u64);
        // It depends on all firings whether it is due, so this is asked once in a while.
        if since / MIN_RECORDS == before / MIN_RECORDS || !is_due(active) || !self.known.insert(run.clone()) {
            return;
        }
        self.waiting.entry(active.machine.flow().name.namespace()).push_back(run.clone());
    }

    /// The run whose snapshot is saved next, if there is room for another one. The caller begins to save it, or drops it.
    pub(crate) fn next_waiting(&mut self) -> Option<RunId> {
        while let Some(ended) = self.running.try_join_next_with_id() {
            self.on_ended(ended);
        }
        let bytes = self.saves.values().map(|(_, bytes)| *bytes).fold(0, u64::saturating_add);
        let has_room = self.saves.is_empty() || (self.saves.len() < MAX_SAVES && bytes < MAX_SAVED_BYTES);
        if !has_room {
            return None;
        }
        self.waiting.take(|runs| {
            let run = runs.pop_front();
            (run, if runs.is_empty() { Turn::WasLast } else { Turn::IsOver })
        })
    }

    fn on_ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(lost) => {
                warn!(reason = %lost, "a snapshot was not saved: its run loads from an older one");
                lost.id()
            }
        };
        if let Some((run, _)) = self.saves.remove(&id) {
            self.known.remove(&run);
        }
    }

    /// Drops the snapshot of a run, since the run is not in memory, or the snapshot is not due any more.
    pub(crate) fn drop_due(&mut self, run: &RunId) {
        self.known.remove(run);
    }

    /// Begins to save the snapshot of a run, whose machine is at the version of its durable records. `is_published` says whether everything
    /// that the records up to a version caused is published.
    pub(crate) fn save(&mut self, run: RunId, active: &mut ActiveRun, is_published: impl FnOnce(Version) -> bool) {
        let (version, previous) = (active.version, active.unsaved.after);
        let is_persistent = active.machine.flow().triggers.is_some();
        // Unpublished records must not be deleted. At a high rate the next snapshot waits for publishing: otherwise no records would ever be
        // deleted.
        let is_too_late = active.unsaved.records(version) >= MAX_DELAY.saturating_mul(interval(&active.machine));
        if !is_due(active) || (is_persistent && !is_too_late && !is_published(previous)) {
            self.known.remove(&run);
            return;
        }
        active.unsaved = Unsaved { after: version, bytes: 0 };
        let bytes = active.machine.snapshot_bytes();
        let trim = (is_persistent && previous != Version::NONE).then_some(previous);
        let save = Save { machine: active.machine.clone(), version, trim };
        let task = self.running.spawn(save_snapshot(self.logbook.clone(), run.clone(), save));
        self.saves.insert(task.id(), (run, bytes));
    }
}

/// Whether a run has enough records for a snapshot, in number and in bytes.
fn is_due(active: &ActiveRun) -> bool {
    let ActiveRun { machine, version, unsaved, .. } = active;
    // The first two questions cost nothing.
    !machine.state().is_final()
        && unsaved.bytes >= machine.held_bytes().saturating_mul(RECORD_BYTES_PER_BYTE)
        && unsaved.records(*version) >= interval(machine)
        && unsaved.bytes >= machine.snapshot_bytes().saturating_mul(RECORD_BYTES_PER_BYTE)
}

/// The number of records between two snapshots of a run.
fn interval(machine: &Machine) -> u64 {
    MIN_RECORDS.max(RECORDS_PER_NODE.saturating_mul(machine.size() as u64))
}

async fn save_snapshot(logbook: Arc<dyn Logbook>, run: RunId, Save { machine, version, trim }: Save) {
    let snapshot = match spawn_blocking(move || machine.snapshot()).await {
        Ok(snapshot) => snapshot,
        Err(error) => {
            warn!(%run, %error, "a snapshot was not made: the run loads from an older one");
            return;
        }
    };
    if let Some(before) = trim
        && let Err(error) = logbook.trim(&run, before).await
    {
        warn!(%run, %error, "the oldest records of a run were not deleted");
    }
    if let Err(error) = logbook.save_snapshot(&run, version, snapshot).await {
        warn!(%run, %error, "a snapshot was not saved: the run loads from an older one");
    }
}

#[cfg(test)]
mod tests;
