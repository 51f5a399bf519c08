//! The durable history of runs: records in order, per run.
//!
//! An append names the version it follows, so that of two engines that drive one run, one loses. A batch of runs is
//! one append and one transaction. [`Memory`] lasts as long as its process; every implementation passes [`contract`].

pub mod contract;
mod memory;

use async_trait::async_trait;
use flow::{Record, RunId};

pub use memory::Memory;

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
    /// The records.
    pub records: Vec<Record>,
}

/// What became of one run's part of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// The records are durable.
    Durable,
    /// Somebody else has added to the run, which is now at this version; nothing of it was written.
    Conflict(Version),
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

/// Why a run could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no such run.
    #[error("there is no run {run}")]
    Missing {
        /// The run.
        run: RunId,
    },
    /// The logbook could not be reached or read.
    #[error("could not read the logbook: {reason}")]
    Unavailable {
        /// What its driver says.
        reason: String,
    },
}

/// Records in order, per run.
#[async_trait]
pub trait Logbook: Send + Sync + 'static {
    /// Appends to several runs in one transaction: those that follow the version they name become durable together,
    /// in order; the others are told apart as conflicts. The answers stand in the order of the appends.
    ///
    /// # Errors
    /// [`AppendError`] when nothing was written, or when it is not known whether it was: drop the runs' machines
    /// and load them again. Dropping the future is the same.
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<Appended>, AppendError>;

    /// All records of a run, in order.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run or it cannot be read.
    async fn load(&self, run: &RunId) -> Result<Vec<Record>, LoadError>;
}
