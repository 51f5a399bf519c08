//! The contract every logbook keeps, and how each of its operations can fail.

use std::collections::BTreeSet;

use async_trait::async_trait;
use flow::{Change, Digest, FlowName, Machine, Record, RunId, RunState, Shard, Snapshot, Timestamp};
use protocol::AttemptLog;

use crate::{RunLock, TrimPoint, replay};

/// How many records a run has: what an append follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(u64);

impl Version {
    /// Before the first record.
    pub const NONE: Self = Self(0);

    /// A version that was read from a logbook.
    #[must_use]
    pub const fn new(records: u64) -> Self {
        Self(records)
    }

    /// How many records the run has.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The version after this many more records.
    #[must_use]
    pub fn after(self, records: &[Record]) -> Self {
        Self(self.0 + records.len() as u64)
    }
}

/// Records to be added to one run.
#[derive(Debug, Clone)]
pub struct Append {
    /// The run.
    pub run: RunId,
    /// The version the records follow.
    pub follows: Version,
    /// The records; at least one.
    pub records: Vec<Record>,
    /// Where the run stands after them.
    pub info: RunInfo,
    /// What guests wrote during attempts that the records answer.
    pub logs: Vec<AttemptLog>,
    /// Up to which version all that the run's records changed is known to have been told. One that is below what is known
    /// already means nothing.
    pub published: Version,
}

/// Where a run stands: what is known of it without its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInfo {
    /// The shard that drives it.
    pub shard: Shard,
    /// The flow it runs.
    pub flow: FlowName,
    /// Its state.
    pub state: RunState,
}

/// What became of one run's part of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The records are durable.
    Durable,
    /// Somebody else has added to the run, which is now at this version; nothing of it was written.
    Conflict(Version),
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The run.
    pub run: RunId,
    /// Where it stands.
    pub standing: RunInfo,
    /// How many records it has.
    pub version: Version,
    /// When its first record was decided.
    pub started_at: Timestamp,
    /// When its last record was decided.
    pub changed_at: Timestamp,
}

/// Which runs a list is to have. The youngest come first: by when they started, then by id, both downwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Of this flow only.
    pub flow: Option<FlowName>,
    /// In one of these states; in any where there is none.
    pub states: Vec<RunState>,
    /// Started at or after this.
    pub since: Option<Timestamp>,
    /// Started before this.
    pub until: Option<Timestamp>,
    /// Those that come after this one in the order of the list: where the page before ended.
    pub after: Option<(Timestamp, RunId)>,
    /// At most so many.
    pub limit: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self { flow: None, states: Vec::new(), since: None, until: None, after: None, limit: 100 }
    }
}

/// What a run is loaded from: its last snapshot, if it has one, and the records since.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// The run.
    pub run: RunId,
    /// Where it stands.
    pub standing: RunInfo,
    /// The machine at some version.
    pub snapshot: Option<(Version, Snapshot)>,
    /// The records after that.
    pub records: Vec<Record>,
    /// Up to which version all that its records changed is known to have been told.
    pub told: Version,
}

impl History {
    /// The version the run is at.
    #[must_use]
    pub fn version(&self) -> Version {
        self.snapshot.as_ref().map_or(Version::NONE, |(version, _)| *version).after(&self.records)
    }

    /// The machine that its records tell of.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] when they do not fit together.
    pub fn into_machine(self) -> Result<Machine, LoadError> {
        self.replay(|_, _| {})
    }

    /// The machine that its records tell of; hears what each record after the snapshot changed, and the version with it.
    /// That is what was told when the record was new: replay never differs from live.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] when they do not fit together.
    pub fn replay(self, mut hear: impl FnMut(Version, Change)) -> Result<Machine, LoadError> {
        let damaged = |reason: String| LoadError::Damaged { run: self.run.clone(), reason };
        let (mut version, mut machine) = match self.snapshot {
            Some((version, snapshot)) => {
                let restored = Machine::restore(self.run.clone(), snapshot);
                (version, Some(restored.map_err(|error| damaged(error.to_string()))?))
            }
            None => (Version::NONE, None),
        };
        for record in &self.records {
            version = version.after(std::slice::from_ref(record));
            let changes = replay::take(&self.run, &mut machine, version, record)?;
            changes.into_iter().for_each(|change| hear(version, change));
        }
        machine.ok_or_else(|| damaged("it has none".into()))
    }
}

/// Why nothing of a batch was written.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The logbook could not be reached or written.
    #[error("could not write the logbook: {reason}")]
    Unavailable {
        /// What its driver says.
        reason: String,
    },
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no such run.
    #[error("there is no run {run}")]
    Missing {
        /// The run.
        run: RunId,
    },
    /// The records are damaged, or of a format version that this build does not read.
    #[error("the records of run {run} cannot be read: {reason}")]
    Damaged {
        /// The run.
        run: RunId,
        /// What is wrong.
        reason: String,
    },
    /// The logbook could not be reached or read.
    #[error("could not read the logbook: {reason}")]
    Unavailable {
        /// What its driver says.
        reason: String,
    },
}

impl LoadError {
    /// Names the logbook that has the records.
    pub(crate) fn within(self, place: &str) -> Self {
        match self {
            Self::Damaged { run, reason } => Self::Damaged { run, reason: format!("{place}: {reason}") },
            Self::Missing { .. } | Self::Unavailable { .. } => self,
        }
    }
}

/// Why some records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Some of them were trimmed, perhaps since the reader has read those before: read [`Logbook::beginning`] and go on from
    /// there. [`Replay`](crate::Replay) does that.
    #[error("the first {} records of run {run} are trimmed", version.get())]
    Trimmed {
        /// The run.
        run: RunId,
        /// The version after those that are trimmed.
        version: Version,
    },
    /// There is no such run, or it cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Why a logbook could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is of no kind that is known.
    #[error("{url:?} is no logbook's address: write sqlite:PATH, postgres://… or memory:")]
    Address {
        /// The address, without a password.
        url: String,
    },
    /// A newer waft has written it.
    #[error(
        "the logbook {location} has schema {found}, and this waft knows up to {known}: it was written by a newer waft"
    )]
    Newer {
        /// Which logbook.
        location: String,
        /// Its schema.
        found: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// Another engine drives its runs, and does not share them with this one.
    #[error("another waft drives the runs of this logbook: it holds {place}")]
    Locked {
        /// The lock that it holds.
        place: String,
    },
    /// There is something else in its place, or it is damaged.
    #[error("{place} is no logbook, or a damaged one: {reason}")]
    Damaged {
        /// Which logbook.
        place: String,
        /// What its driver says.
        reason: String,
    },
    /// It could not be reached, read or written.
    #[error("could not open the logbook {place}: {reason}")]
    Unavailable {
        /// Which logbook.
        place: String,
        /// What its driver says.
        reason: String,
    },
}

/// Records in order, per run. Cheap to share: all methods take `&self`, and dropping their future is safe: what it would
/// have written is then written or not, and never by half.
#[async_trait]
pub trait Logbook: Send + Sync + 'static {
    /// Appends to several runs in one transaction: those that follow the version they name become durable together,
    /// in order; the others are told apart as conflicts. The answers stand in the order of the appends.
    ///
    /// # Errors
    /// [`AppendError`] when nothing was written, or when it is not known whether it was: drop the runs' machines
    /// and load them again. Dropping the future is the same.
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<AppendOutcome>, AppendError>;

    /// What a run is loaded from.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn load(&self, run: &RunId) -> Result<History, LoadError>;

    /// At most `limit` records of a run that come after a version, in order, snapshots or not.
    ///
    /// # Errors
    /// [`ReadError`] when there is no such run or it cannot be read, or when some of them are trimmed.
    async fn read(&self, run: &RunId, after: Version, limit: usize) -> Result<Vec<Record>, ReadError>;

    /// Where a run stands.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn summary(&self, run: &RunId) -> Result<Summary, LoadError>;

    /// The runs of a shard that are running or suspending, in the order they started, and the version each is at.
    ///
    /// # Errors
    /// [`LoadError`] when they cannot be read.
    async fn open_runs(&self, shard: &Shard) -> Result<Vec<(RunId, Version)>, LoadError>;

    /// Notes up to which version all that the records of some runs changed was told. One that is below what is known
    /// already, or beyond the records that there are, means nothing; so does a run that is not there.
    ///
    /// # Errors
    /// [`AppendError`] when it is not known whether it was noted: it may be told once more then.
    async fn mark_published(&self, told: &[(RunId, Version)]) -> Result<(), AppendError>;

    /// At most `limit` runs of a shard that have ended or rest, and of which it is not known that all was told.
    ///
    /// # Errors
    /// [`LoadError`] when they cannot be read.
    async fn unpublished_runs(&self, shard: &Shard, limit: usize) -> Result<Vec<RunId>, LoadError>;

    /// The runs that pass a filter, the youngest first.
    ///
    /// # Errors
    /// [`LoadError`] when they cannot be read.
    async fn list(&self, filter: &Filter) -> Result<Vec<Summary>, LoadError>;

    /// Keeps a snapshot of a run at a version, so that it loads without the records before. One that is older than what
    /// is kept is dropped.
    ///
    /// # Errors
    /// [`AppendError`] when it was not written: the run then loads from an older one.
    async fn save_snapshot(&self, run: &RunId, version: Version, snapshot: Snapshot) -> Result<(), AppendError>;

    /// Lets go of the records of a run up to a version, and of what guests wrote by then: its last snapshot, which has to be
    /// of that version, is what the run begins with from then on. Nothing is done where the last snapshot is another one, or
    /// where it is not known that all up to it was told.
    ///
    /// # Errors
    /// [`AppendError`] when it was not done, as far as is known.
    async fn trim(&self, run: &RunId, before: Version) -> Result<(), AppendError>;

    /// What a run begins with whose oldest records were let go; `None` where all are there.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn trim_point(&self, run: &RunId) -> Result<Option<TrimPoint>, LoadError>;

    /// What guests wrote during the attempts of a run, as far as it is kept, in the order they were answered; only what came
    /// with records after a version. With [`Version::NONE`] that is all of it.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn logs(&self, run: &RunId, after: Version) -> Result<Vec<AttemptLog>, LoadError>;

    /// Takes the exclusive lock of a run, which need not be there yet; `None` when another process holds it, or this one
    /// already. Engines that share their runs over a broker take none.
    ///
    /// # Errors
    /// [`AppendError`] when the lock could not be asked for.
    async fn lock_run(&self, run: &RunId) -> Result<Option<RunLock>, AppendError>;

    /// The process that holds the exclusive lock of a run, named for people; `None` when nobody does. It may end in the
    /// same moment.
    ///
    /// # Errors
    /// [`LoadError`] when that cannot be found out.
    async fn run_lock_holder(&self, run: &RunId) -> Result<Option<String>, LoadError>;

    /// Forgets the runs that ended before a time, with all that is kept of them; answers how many. Runs that are
    /// suspended or need a person are kept.
    ///
    /// # Errors
    /// [`AppendError`] when it broke off: some may be forgotten then, each of them whole.
    async fn delete_ended_runs(&self, ended_before: Timestamp) -> Result<u64, AppendError>;

    /// The digests of modules and values that the runs refer to.
    ///
    /// # Errors
    /// [`LoadError`] when they cannot be read.
    async fn digests(&self) -> Result<BTreeSet<Digest>, LoadError>;

    /// Writes something small and reads it back.
    ///
    /// # Errors
    /// [`AppendError`] when that does not work.
    async fn check(&self) -> Result<(), AppendError>;
}

/// The states of runs that an engine has work with.
#[must_use]
pub const fn is_open(state: RunState) -> bool {
    match state {
        RunState::Running | RunState::Suspending => true,
        RunState::Pending | RunState::Success | RunState::Failure | RunState::RolledBack | RunState::Suspended => false,
    }
}

/// The states of runs that may be forgotten.
#[must_use]
pub const fn is_deletable(state: RunState) -> bool {
    match state {
        RunState::Success | RunState::RolledBack => true,
        RunState::Pending | RunState::Running | RunState::Failure | RunState::Suspending | RunState::Suspended => false,
    }
}
