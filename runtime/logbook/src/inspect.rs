//! Inspects a logbook without changing it: it creates no file or table, migrates nothing and writes nothing.
//!
//! [`open`](crate::open) creates and migrates the logbook that it opens. A diagnosis must not.

use std::{sync::Arc, time::SystemTime};

use flow::RunId;

use crate::{
    Logbook, OpenError, Postgres, Sqlite,
    address::{Address, parse},
};

/// What an inspection found at the address of a logbook.
pub enum Inspection {
    /// A logbook in memory, private to its process.
    Memory,
    /// There is no logbook yet: opening it creates it.
    Absent {
        /// The location where it would be created.
        place: String,
        /// Why it cannot be created there; `None` if it can.
        write_error: Option<String>,
    },
    /// There is a logbook.
    Existing(ExistingLogbook),
}

/// A logbook, opened for reading.
pub struct ExistingLogbook {
    /// The place of the logbook, without a password.
    pub place: String,
    /// The version of its schema. Opening the logbook normally migrates it to [`ExistingLogbook::known`].
    pub schema: i64,
    /// The newest schema version that this waft knows.
    pub known: i64,
    /// Why the logbook cannot be written, as far as this shows without writing.
    pub write_error: Option<String>,
    /// The reading of the database's clock, if it has its own.
    pub clock: Option<ClockReading>,
    pub(crate) opened: Backend,
}

/// One reading of another clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The local time before the request.
    pub sent_at: SystemTime,
    /// The time that the other clock gave.
    pub shown: SystemTime,
    /// The local time after the answer.
    pub received_at: SystemTime,
}

pub(crate) enum Backend {
    Sqlite(Arc<Sqlite>),
    Postgres(Arc<Postgres>),
}

impl ExistingLogbook {
    /// The logbook, for reading; `None` if its schema is older, since this waft's statements do not fit it. Methods that
    /// write fail, or must not be called.
    #[must_use]
    pub fn logbook(&self) -> Option<Arc<dyn Logbook>> {
        (self.schema == self.known).then(|| match &self.opened {
            Backend::Sqlite(sqlite) => sqlite.clone() as Arc<dyn Logbook>,
            Backend::Postgres(postgres) => postgres.clone() as Arc<dyn Logbook>,
        })
    }

    /// Whether a process holds the lock of a run; `None` if this cannot be determined.
    pub async fn is_run_locked(&self, run: &RunId) -> Option<bool> {
        match &self.opened {
            Backend::Sqlite(sqlite) => sqlite.is_run_locked(run).await,
            Backend::Postgres(postgres) => postgres.is_run_locked(run).await.ok(),
        }
    }
}

/// Inspects the logbook at an address. Takes as long as its server takes; dropping the future is safe.
///
/// # Errors
/// [`OpenError`] when there is something unusable at the address. No error shows a password.
pub async fn inspect(url: &str) -> Result<Inspection, OpenError> {
    match parse(url)? {
        Address::Memory => Ok(Inspection::Memory),
        Address::Sqlite(path) => crate::sqlite::inspect(path).await,
        Address::Postgres(url) => crate::postgres::inspect(url).await.map(Inspection::Existing),
    }
}

/// Whether there is a logbook at an address, in which waft has created its tables. Takes as long as [`inspect`].
///
/// # Errors
/// [`OpenError`] when there is something unusable at the address. No error shows a password.
pub async fn exists(url: &str) -> Result<bool, OpenError> {
    Ok(match inspect(url).await? {
        Inspection::Memory | Inspection::Absent { .. } => false,
        Inspection::Existing(found) => found.schema > 0,
    })
}
