//! Replays a run from its records, page by page, for live watchers and late readers alike.

use std::sync::Arc;

use flow::RunId;
use machine::{Call, Change, Command, Fact, IllegalSnapshot, Machine, Record, Snapshot};
use tokio::task::spawn_blocking;

use crate::{History, LoadError, Logbook, ReadError, RevisionEntry, TrimPoint, Version};

/// The maximum number of records per read: some hundred kilobytes when values are large.
const PAGE_RECORDS: usize = 1_000;

/// The maximum number of nodes of a machine that is restored where other tasks wait meanwhile: it takes about a millisecond.
const MAX_INLINE_NODES: usize = 1_000;

/// Follows the records of a run.
pub struct Replay {
    run: RunId,
    logbook: Arc<dyn Logbook>,
    /// `None` before the first record.
    machine: Option<Machine>,
    version: Version,
    revisions: Vec<RevisionEntry>,
}

/// The result of one read.
#[derive(Debug)]
pub struct Page {
    /// The records, to be applied in order.
    pub records: Vec<Record>,
    /// Whether the replay starts with this page: any state derived from earlier pages is obsolete.
    pub starts_replay: bool,
}

/// The effect of one applied record.
pub struct AppliedRecord {
    /// The version of the run after the record.
    pub version: Version,
    /// The changes that the record made.
    pub changes: Vec<Change>,
    /// The calls that the record dispatched.
    pub calls: Vec<Call>,
}

impl Replay {
    /// Starts before the first stored record.
    #[must_use]
    pub fn new(run: RunId, logbook: Arc<dyn Logbook>) -> Self {
        Self { run, logbook, machine: None, version: Version::NONE, revisions: Vec::new() }
    }

    /// Continues a history of which only the first records were read. Returns these records too: they come before the first
    /// page.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] when the snapshot of the history does not fit.
    pub fn of(history: History, logbook: Arc<dyn Logbook>) -> Result<(Self, Vec<Record>), LoadError> {
        let mut replay = Self::new(history.run.clone(), logbook);
        if let Some((version, snapshot)) = history.snapshot {
            let restored = Machine::restore(replay.run.clone(), snapshot);
            replay.set_machine(version, restored)?;
        }
        Ok((replay, history.records))
    }

    fn set_machine(&mut self, version: Version, restored: Result<Machine, IllegalSnapshot>) -> Result<(), LoadError> {
        let damaged = |reason: String| LoadError::Damaged { run: self.run.clone(), reason };
        self.machine = Some(restored.map_err(|error| damaged(error.to_string()))?);
        self.version = version;
        Ok(())
    }

    /// The machine after the applied records, without its history; `None` before the first record.
    #[must_use]
    pub fn into_machine(self) -> Option<Machine> {
        self.machine
    }

    /// The machine after the applied records; `None` before the first record.
    #[must_use]
    pub fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// The version of the run after the applied records.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The revisions of the flow in trimmed records.
    #[must_use]
    pub fn revisions(&self) -> &[RevisionEntry] {
        &self.revisions
    }

    /// Reads the next page of records; empty if there are none yet. If the oldest records are trimmed, the first call starts
    /// with the trim point's snapshot. If a trim overtakes the reader, it restarts with the snapshot of that trim, and
    /// misses the earlier records. Cancel-safe.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run, or it cannot be read.
    pub async fn read(&mut self) -> Result<Page, LoadError> {
        self.read_at_most(PAGE_RECORDS).await
    }

    /// As [`Replay::read`], with a maximum number of records. Records that were read and not applied are read again.
    ///
    /// # Errors
    /// As [`Replay::read`].
    pub async fn read_at_most(&mut self, limit: usize) -> Result<Page, LoadError> {
        let mut starts_replay = self.machine.is_none();
        if starts_replay {
            self.load_trim_point().await?;
        }
        loop {
            match self.logbook.read(&self.run, self.version, limit).await {
                Ok(records) => return Ok(Page { records, starts_replay }),
                // Each iteration of this loop needs another trim after the snapshot was read.
                Err(ReadError::Trimmed { .. }) => {
                    starts_replay = true;
                    self.load_trim_point().await?;
                }
                Err(ReadError::Load(error)) => return Err(error),
            }
        }
    }

    /// Starts with the snapshot of the trim point, if there is one.
    async fn load_trim_point(&mut self) -> Result<(), LoadError> {
        let trim_point = self.logbook.trim_point(&self.run).await?;
        let Some(TrimPoint { version, snapshot, revisions }) = trim_point else { return Ok(()) };
        let run = self.run.clone();
        let restored = match nodes(&snapshot) > MAX_INLINE_NODES {
            true => spawn_blocking(move || Machine::restore(run, snapshot)).await.expect("restoring does not panic"),
            false => Machine::restore(run, snapshot),
        };
        self.set_machine(version, restored)?;
        self.revisions = revisions;
        Ok(())
    }

    /// Applies the next record that was read.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] when the record cannot follow the applied ones.
    pub fn apply(&mut self, record: &Record) -> Result<AppliedRecord, LoadError> {
        let version = self.version.after(std::slice::from_ref(record));
        let (changes, calls) = take(&self.run, &mut self.machine, version, record)?;
        self.version = version;
        Ok(AppliedRecord { version: self.version, changes, calls })
    }
}

/// The nodes of the machine that a snapshot restores, about.
fn nodes(snapshot: &Snapshot) -> usize {
    snapshot.firings.len().saturating_mul(snapshot.flow.nodes.len()).saturating_add(snapshot.size())
}

/// Applies the record that leads to this version to a machine, which does not exist before the first record; returns the
/// changes, and the calls that it dispatches.
pub(crate) fn take(
    run: &RunId,
    machine: &mut Option<Machine>,
    version: Version,
    record: &Record,
) -> Result<(Vec<Change>, Vec<Call>), LoadError> {
    let damaged = |reason: String| LoadError::Damaged { run: run.clone(), reason };
    let machine = match (machine, &record.fact) {
        (Some(machine), _) => machine,
        (machine, Fact::RunStarted { flow, .. }) => machine.insert(Machine::new(run.clone(), flow.clone())),
        (None, _) => return Err(damaged("the first record does not start the run".into())),
    };
    let commands = machine.evolve(record).map_err(|error| damaged(format!("at version {}, {error}", version.get())))?;
    let (mut changes, mut calls) = (Vec::new(), Vec::new());
    for command in commands {
        match command {
            Command::Publish(change) => changes.push(change),
            Command::Call(call) => calls.push(*call),
            Command::Fetch(_) | Command::Interrupt(_) => {}
        }
    }
    Ok((changes, calls))
}
