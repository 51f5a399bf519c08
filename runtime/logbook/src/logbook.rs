//! The contract of every logbook, and how each of its operations can fail.

use std::{collections::BTreeSet, num::NonZeroU64, sync::Arc};

use async_trait::async_trait;
use flow::{CallId, Digest, FlowName, Labels, Namespace, RunId, RunState, Shard, Timestamp};
use machine::{Change, Machine, Record, Snapshot};
use protocol::{AttemptLog, EngineSecret};

use crate::{Access, Filter, LogFilter, LogPage, LogRange, MemoChanges, Memos, RunCounts, RunLock, TrimPoint, replay};

/// The number of records of a run: the position that an append follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(u64);

impl Version {
    /// The version before the first record.
    pub const NONE: Self = Self(0);

    /// Wraps a version that was read from a logbook.
    #[must_use]
    pub const fn new(records: u64) -> Self {
        Self(records)
    }

    /// The number of records of the run.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The version after these additional records.
    #[must_use]
    pub fn after(self, records: &[Record]) -> Self {
        Self(self.0 + records.len() as u64)
    }
}

/// Records to append to one run.
#[derive(Debug, Clone)]
pub struct Append {
    /// The run.
    pub run: RunId,
    /// The version the records follow.
    pub follows: Version,
    /// The records; at least one.
    pub records: Vec<Record>,
    /// The run's state after the records.
    pub info: RunInfo,
    /// The logs of the attempts whose results the records hold.
    pub logs: Vec<AttemptLog>,
    /// The version up to which everything that the run's records caused is known to be published. A lower value than the
    /// stored one has no effect.
    pub published: Version,
    /// How many runs may not have ended, together with this one. It has an effect on the first records of a run, and on records
    /// with which a run that has ended goes on.
    pub max_unended: MaxUnended,
    /// What the records change in the remembered results.
    pub memos: MemoChanges,
}

/// How many runs may not have ended; `None`: any number. All who start runs of a flow or namespace have to give the same
/// maxima: only they wait for each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MaxUnended {
    /// The maximum number of runs of the flow.
    pub of_flow: Option<NonZeroU64>,
    /// The maximum number of runs of all flows in the namespace of the flow. It has no effect on a flow in no namespace.
    pub of_namespace: Option<NonZeroU64>,
}

/// The runs that a maximum counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Those of the flow.
    OfFlow,
    /// Those of all flows in the namespace of the flow.
    OfNamespace,
}

/// What some runs take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// The bytes of their records, snapshots and logs, and of remembered results, in the logbook.
    pub bytes: u64,
    /// The digests of the modules and values that they refer to.
    pub digests: BTreeSet<Digest>,
}

/// The summary data of a run, known without its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInfo {
    /// The shard whose engine drives it.
    pub shard: Shard,
    /// The flow it runs.
    pub flow: FlowName,
    /// Its state.
    pub state: RunState,
}

/// The result of one run's part of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The records are durable.
    Durable,
    /// Another writer has appended to the run, which is now at this version; nothing of this part was written.
    Conflict(Version),
    /// The run is new or has ended, and as many of the counted runs have not ended as allowed; nothing of this part was written.
    TooManyUnended(Counted),
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The run.
    pub run: RunId,
    /// The summary data of the run.
    pub info: RunInfo,
    /// Its labels.
    pub labels: Labels,
    /// The number of its records.
    pub version: Version,
    /// When its first record was decided.
    pub started_at: Timestamp,
    /// When its last record was decided.
    pub changed_at: Timestamp,
}

/// The data from which a run is loaded: its last snapshot, if any, and the later records, or the first of them.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// The run.
    pub run: RunId,
    /// The summary data of the run.
    pub info: RunInfo,
    /// The machine and its version.
    pub snapshot: Option<(Version, Snapshot)>,
    /// The records after the snapshot.
    pub records: Vec<Record>,
    /// The version that the run was at. It is higher than [`History::version`] if only the first records were read.
    pub latest: Version,
    /// The version up to which everything that the records caused is known to be published.
    pub published: Version,
}

impl History {
    /// The version after the records.
    #[must_use]
    pub fn version(&self) -> Version {
        self.snapshot.as_ref().map_or(Version::NONE, |(version, _)| *version).after(&self.records)
    }

    /// Adds the records that follow.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] when there are none, although some are missing.
    fn add(&mut self, records: Vec<Record>) -> Result<(), LoadError> {
        if records.is_empty() && !self.is_complete() {
            let reason = format!("record {} is missing", self.version().get() + 1);
            return Err(LoadError::Damaged { run: self.run.clone(), reason });
        }
        self.records.extend(records);
        // Some may be later than the first ones that were read.
        self.latest = self.latest.max(self.version());
        Ok(())
    }

    /// Whether no record is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.version() == self.latest
    }

    /// Builds the machine from the snapshot and the records.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] when they do not fit together.
    pub fn into_machine(self) -> Result<Machine, LoadError> {
        self.replay(|_, _| {})
    }

    /// Builds the machine, and passes to `on_change` each change of the records after the snapshot, with its version. These are
    /// the changes that were published when the record was new: replay never differs from live.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] when they do not fit together.
    pub fn replay(self, mut on_change: impl FnMut(Version, Change)) -> Result<Machine, LoadError> {
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
            let (changes, _) = replay::take(&self.run, &mut machine, version, record)?;
            changes.into_iter().for_each(|change| on_change(version, change));
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
        /// The driver's message.
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
        /// The error.
        reason: String,
    },
    /// The logbook could not be reached or read.
    #[error("could not read the logbook: {reason}")]
    Unavailable {
        /// The driver's message.
        reason: String,
    },
}

impl LoadError {
    /// Adds the location of the logbook that has the records.
    pub(crate) fn within(self, location: &str) -> Self {
        match self {
            Self::Damaged { run, reason } => Self::Damaged { run, reason: format!("{location}: {reason}") },
            Self::Missing { .. } | Self::Unavailable { .. } => self,
        }
    }
}

/// Why some records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Some of them were trimmed, perhaps after the reader had read earlier ones: read [`Logbook::trim_point`] and continue
    /// from there. [`Replay`](crate::Replay) does that.
    #[error("the first {} records of run {run} are trimmed", version.get())]
    Trimmed {
        /// The run.
        run: RunId,
        /// The version after the trimmed records.
        version: Version,
    },
    /// The run does not exist or cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Why a logbook could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is of no known kind.
    #[error("{url:?} is no logbook's address: write sqlite:PATH, postgres://… or memory:")]
    Address {
        /// The address, without a password.
        url: String,
    },
    /// A newer waft wrote the logbook.
    #[error(
        "the logbook {location} has schema {found}, and this waft knows up to {known}: it was written by a newer waft"
    )]
    Newer {
        /// The location of the logbook.
        location: String,
        /// Its schema version.
        found: i64,
        /// The newest schema version that this waft knows.
        known: i64,
    },
    /// Another engine drives the runs of the logbook, and does not share them with this one.
    #[error("another waft drives the runs of this logbook: it holds {location}")]
    Locked {
        /// The lock that the other engine holds.
        location: String,
    },
    /// The file or database is not a logbook, or it is damaged.
    #[error("{location} is not a logbook, or it is damaged: {reason}")]
    Damaged {
        /// The location of the logbook.
        location: String,
        /// The driver's message.
        reason: String,
    },
    /// The logbook could not be reached, read or written.
    #[error("could not open the logbook {location}: {reason}")]
    Unavailable {
        /// The location of the logbook.
        location: String,
        /// The driver's message.
        reason: String,
    },
}

/// Stores records in order, per run. Cheap to share: all methods take `&self`. Dropping a future is safe: its write happens
/// completely or not at all.
#[async_trait]
pub trait Logbook: Access + Memos {
    /// The same logbook for the clients of a server: their reads take no connection or thread that an engine needs, and those that
    /// take long end with an error. Reads of a token and of a summary wait for no others.
    fn for_clients(self: Arc<Self>) -> Arc<dyn Logbook>;

    /// Appends to several runs in one transaction. The parts that follow the version they name become durable together, in
    /// order; the others return conflicts. The outcomes are in the order of the appends.
    ///
    /// # Errors
    /// [`AppendError`] when nothing was written, or the write may have happened: drop the runs' machines
    /// and load them again. The same applies after dropping the future.
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<AppendOutcome>, AppendError>;

    /// Loads a run with all its records, however much memory they take.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn load(&self, run: &RunId) -> Result<History, LoadError> {
        loop {
            let mut history = self.load_within(run, usize::MAX).await?;
            while history.version() < history.latest {
                match self.read(run, history.version(), usize::MAX).await {
                    Ok(records) => history.add(records)?,
                    // Its last snapshot is a later one by now.
                    Err(ReadError::Trimmed { .. }) => break,
                    Err(ReadError::Load(error)) => return Err(error),
                }
            }
            if history.is_complete() {
                return Ok(history);
            }
        }
    }

    /// Loads the snapshot of a run and at most `limit` records after it, fewer of large ones. [`crate::Replay::of`] reads the rest.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn load_within(&self, run: &RunId, limit: usize) -> Result<History, LoadError>;

    /// The state of a run, and the bytes that [`Logbook::load_within`] would read of its snapshot and of `limit` records after it. They
    /// are known without reading them.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn load_size(&self, run: &RunId, limit: usize) -> Result<(Summary, u64), LoadError>;

    /// At most `limit` records of a run that come after a version, in order, snapshots or not. Fewer of large ones, so that they take
    /// some megabytes together, and at least one if there is one.
    ///
    /// # Errors
    /// [`ReadError`] when there is no such run or it cannot be read, or when some of them are trimmed.
    async fn read(&self, run: &RunId, after: Version, limit: usize) -> Result<Vec<Record>, ReadError>;

    /// The state of a run.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn summary(&self, run: &RunId) -> Result<Summary, LoadError>;

    /// The runs of a shard that are running or suspending, in the order of their start, with their versions.
    ///
    /// # Errors
    /// [`LoadError`] when they cannot be read.
    async fn open_runs(&self, shard: &Shard) -> Result<Vec<(RunId, Version)>, LoadError>;

    /// Stores the published versions of some runs. A version has no effect if it is lower than the stored one, or beyond the
    /// existing records, or if the run does not exist.
    ///
    /// # Errors
    /// [`AppendError`] when the write may have failed: the changes may then be published once more.
    async fn mark_published(&self, versions: &[(RunId, Version)]) -> Result<(), AppendError>;

    /// At most `limit` runs of a shard that have ended or are idle, and may have unpublished changes.
    ///
    /// # Errors
    /// [`LoadError`] when they cannot be read.
    async fn unpublished_runs(&self, shard: &Shard, limit: usize) -> Result<Vec<RunId>, LoadError>;

    /// The runs that match a filter, the youngest first.
    ///
    /// # Errors
    /// [`LoadError`] when they cannot be read.
    async fn list(&self, filter: &Filter) -> Result<Vec<Summary>, LoadError>;

    /// Counts the runs that match a filter, of the first flows by name. The position and the limit of the filter have no effect.
    ///
    /// # Errors
    /// [`LoadError`] when they cannot be read.
    async fn counts(&self, filter: &Filter, max_flows: usize) -> Result<RunCounts, LoadError>;

    /// Saves a snapshot of a run at a version, so that loading does not need the earlier records. A snapshot older than the
    /// stored one is dropped.
    ///
    /// # Errors
    /// [`AppendError`] when it was not written: loading then uses an older snapshot.
    async fn save_snapshot(&self, run: &RunId, version: Version, snapshot: Snapshot) -> Result<(), AppendError>;

    /// Deletes the records of a run up to a version, and the attempt logs up to then. The last snapshot has to be of that
    /// version; it becomes the trim point of the run. Does nothing if the last snapshot has another version, or if changes
    /// up to it may be unpublished.
    ///
    /// # Errors
    /// [`AppendError`] when the trim may not have happened.
    async fn trim(&self, run: &RunId, before: Version) -> Result<(), AppendError>;

    /// The bytes of all that a run is read from: its records, its last snapshot and its trim point. They are known without reading them,
    /// from the rows of a run, so ask only for runs of few records.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn stored_bytes(&self, run: &RunId) -> Result<u64, LoadError>;

    /// The snapshot that replaces the deleted oldest records of a run; `None` if all records exist.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn trim_point(&self, run: &RunId) -> Result<Option<TrimPoint>, LoadError>;

    /// A page of the stored attempt logs of a run, in the order in which their results were recorded. Attempts of which only the
    /// usage is stored are left out; those with HTTP exchanges and without lines are not.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn logs(&self, run: &RunId, range: &LogRange) -> Result<LogPage, LoadError>;

    /// What is stored of one attempt; `None` if nothing is. If it was executed several times, it is of the last result.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn attempt_log(&self, call: &CallId) -> Result<Option<AttemptLog>, LoadError>;

    /// The last attempt of each task of a run whose usage is stored, without its lines. Elements of lists are left out: they may be
    /// a million.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn last_usages(&self, run: &RunId) -> Result<Vec<AttemptLog>, LoadError>;

    /// A page of the attempts of a run with recorded HTTP exchanges that a filter selects, the youngest first. An attempt without
    /// exchanges may be among them.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn http_logs(&self, run: &RunId, filter: &LogFilter) -> Result<LogPage, LoadError>;

    /// The digests of the HTTP exchanges of a run that are in the store.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn exchange_digests(&self, run: &RunId) -> Result<BTreeSet<Digest>, LoadError>;

    /// Takes the exclusive lock of a run, which need not exist yet; `None` if another process or this one already holds it.
    /// Engines that share their runs over a broker take no run locks.
    ///
    /// # Errors
    /// [`AppendError`] when the lock could not be requested.
    async fn lock_run(&self, run: &RunId) -> Result<Option<RunLock>, AppendError>;

    /// The process that holds the exclusive lock of a run, in words for a user; `None` if the lock is free. The holder may end
    /// at the same moment.
    ///
    /// # Errors
    /// [`LoadError`] when the holder cannot be determined.
    async fn run_lock_holder(&self, run: &RunId) -> Result<Option<String>, LoadError>;

    /// Deletes the runs that ended before a time, with all their data; returns their number. Runs that are suspended or need
    /// a person stay.
    ///
    /// # Errors
    /// [`AppendError`] when it stopped early: some runs may then be deleted, each of them completely.
    async fn delete_ended_runs(&self, ended_before: Timestamp) -> Result<u64, AppendError>;

    /// The digests of the modules and values that the runs and the remembered results refer to.
    ///
    /// # Errors
    /// [`LoadError`] when they cannot be read.
    async fn digests(&self) -> Result<BTreeSet<Digest>, LoadError>;

    /// What the runs of all flows in a namespace and its remembered results take. It may take as long as reading them; others can use the logbook
    /// meanwhile.
    ///
    /// # Errors
    /// [`LoadError`] when it cannot be read.
    async fn usage(&self, namespace: &Namespace) -> Result<Usage, LoadError>;

    /// The secret of the engines that share the logbook: it is made with the first call, and stays the same.
    ///
    /// # Errors
    /// [`AppendError`] when it cannot be read or written.
    async fn secret(&self) -> Result<EngineSecret, AppendError>;

    /// Writes a small value and reads it back.
    ///
    /// # Errors
    /// [`AppendError`] when the write or the read fails.
    async fn check(&self) -> Result<(), AppendError>;
}

/// Whether an engine has work to do for a run in this state.
#[must_use]
pub const fn is_open(state: RunState) -> bool {
    match state {
        RunState::Running | RunState::Suspending => true,
        RunState::Pending | RunState::Success | RunState::Failure | RunState::RolledBack | RunState::Suspended => false,
    }
}

/// Whether a run in this state may be deleted.
#[must_use]
pub const fn is_deletable(state: RunState) -> bool {
    match state {
        RunState::Success | RunState::RolledBack => true,
        RunState::Pending | RunState::Running | RunState::Failure | RunState::Suspending | RunState::Suspended => false,
    }
}
