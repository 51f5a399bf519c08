//! A run as its records tell it, page by page: what live watchers and late readers are both told.

use std::sync::Arc;

use flow::{Change, Command, Fact, Machine, Record, RunId};

use crate::{LoadError, Logbook, ReadError, RevisionEntry, TrimPoint, Version};

/// How many records are read at once: some hundred kilobytes where values are large.
const PAGE_RECORDS: usize = 1_000;

/// Follows the records of a run.
pub struct Replay {
    run: RunId,
    logbook: Arc<dyn Logbook>,
    /// `None` before the first record.
    machine: Option<Machine>,
    version: Version,
    revisions: Vec<RevisionEntry>,
}

/// What one read came to.
#[derive(Debug)]
pub struct Page {
    /// The records, to be taken one after the other.
    pub records: Vec<Record>,
    /// Whether the replay begins with this page: what was noted of earlier pages, if there were any, is obsolete.
    pub starts_replay: bool,
}

/// One record that the machine has taken.
pub struct AppliedRecord {
    /// The version of the run with it.
    pub version: Version,
    /// What it made so.
    pub changes: Vec<Change>,
}

impl Replay {
    /// Before the first record that is kept.
    #[must_use]
    pub fn new(run: RunId, logbook: Arc<dyn Logbook>) -> Self {
        Self { run, logbook, machine: None, version: Version::NONE, revisions: Vec::new() }
    }

    /// The run as far as it was read; `None` before its first record.
    #[must_use]
    pub fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// The version of the run as far as it was read.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// How the flow was changed in records that were let go.
    #[must_use]
    pub fn revisions(&self) -> &[RevisionEntry] {
        &self.revisions
    }

    /// The records that follow what was taken, up to a page of them; none when there are none yet. Where the oldest are
    /// trimmed, the first call begins with the snapshot that stands for them. A reader that a trim overtakes begins anew with
    /// the snapshot of that trim, and misses the records before it. Cancel-safe.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run, or it cannot be read.
    pub async fn read(&mut self) -> Result<Page, LoadError> {
        let mut begins = self.machine.is_none();
        if begins {
            self.load_trim_point().await?;
        }
        loop {
            match self.logbook.read(&self.run, self.version, PAGE_RECORDS).await {
                Ok(records) => return Ok(Page { records, starts_replay: begins }),
                // Each turn of this loop needs another trim since the snapshot was read.
                Err(ReadError::Trimmed { .. }) => {
                    begins = true;
                    self.load_trim_point().await?;
                }
                Err(ReadError::Load(error)) => return Err(error),
            }
        }
    }

    /// Begins with the snapshot that stands for the trimmed records, if there is one.
    async fn load_trim_point(&mut self) -> Result<(), LoadError> {
        let beginning = self.logbook.trim_point(&self.run).await?;
        let Some(TrimPoint { version, snapshot, revisions }) = beginning else { return Ok(()) };
        let damaged = |reason: String| LoadError::Damaged { run: self.run.clone(), reason };
        let restored = Machine::restore(self.run.clone(), snapshot);
        self.machine = Some(restored.map_err(|error| damaged(error.to_string()))?);
        (self.version, self.revisions) = (version, revisions);
        Ok(())
    }

    /// Takes the next record that was read.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] when it cannot follow what was taken.
    pub fn apply(&mut self, record: &Record) -> Result<AppliedRecord, LoadError> {
        let version = self.version.after(std::slice::from_ref(record));
        let changes = take(&self.run, &mut self.machine, version, record)?;
        self.version = version;
        Ok(AppliedRecord { version: self.version, changes })
    }
}

/// Lets a machine, which is not there before the first record, take the record that leads to this version; answers what
/// that changed.
pub(crate) fn take(
    run: &RunId,
    machine: &mut Option<Machine>,
    version: Version,
    record: &Record,
) -> Result<Vec<Change>, LoadError> {
    let damaged = |reason: String| LoadError::Damaged { run: run.clone(), reason };
    let machine = match (machine, &record.fact) {
        (Some(machine), _) => machine,
        (none, Fact::RunStarted { flow, .. }) => none.insert(Machine::new(run.clone(), flow.clone())),
        (None, _) => return Err(damaged("the first record does not start the run".into())),
    };
    let evolved = machine.evolve(record);
    let commands = evolved.map_err(|error| damaged(format!("at version {}, {error}", version.get())))?;
    let told = |command| match command {
        Command::Publish(change) => Some(change),
        Command::Call(_) | Command::Fetch(_) | Command::Interrupt(_) => None,
    };
    Ok(commands.into_iter().filter_map(told).collect())
}
