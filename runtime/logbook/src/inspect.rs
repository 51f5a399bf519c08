//! A look at a logbook that changes nothing: no file and no table is made, nothing is migrated, nothing is written.
//!
//! [`open`](crate::open) makes and migrates what it opens. Somebody who looks for what is wrong must not.

use std::{sync::Arc, time::SystemTime};

use flow::RunId;

use crate::{
    Logbook, OpenError, Postgres, Sqlite,
    address::{Address, parse},
};

/// What is at the address of a logbook.
pub enum Inspection {
    /// A logbook in memory: it is its process's own.
    Memory,
    /// Nothing yet: whoever opens the logbook makes it.
    Absent {
        /// Where it would be.
        place: String,
        /// Why it could not be made there; `None` when it could.
        obstacle: Option<String>,
    },
    /// A logbook.
    Found(Found),
}

/// A logbook, opened to be read.
pub struct Found {
    /// Which logbook, without a password.
    pub place: String,
    /// The version of its schema. It is migrated to [`Found::known`] when it is opened otherwise.
    pub schema: i64,
    /// The newest schema that this waft knows.
    pub known: i64,
    /// Why it could not be written, as far as that shows without writing.
    pub obstacle: Option<String>,
    /// What the database's clock says, where it has one of its own.
    pub clock: Option<ClockReading>,
    pub(crate) opened: Opened,
}

/// A clock that was asked for the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// When it was asked, by the clock of this machine.
    pub asked: SystemTime,
    /// What it said.
    pub said: SystemTime,
    /// When it had answered, by the clock of this machine.
    pub answered: SystemTime,
}

pub(crate) enum Opened {
    Sqlite(Arc<Sqlite>),
    Postgres(Arc<Postgres>),
}

impl Found {
    /// The logbook, to be read; `None` when its schema is older: this waft's statements do not fit it. What writes fails, or
    /// must not be called.
    #[must_use]
    pub fn logbook(&self) -> Option<Arc<dyn Logbook>> {
        (self.schema == self.known).then(|| match &self.opened {
            Opened::Sqlite(sqlite) => sqlite.clone() as Arc<dyn Logbook>,
            Opened::Postgres(postgres) => postgres.clone() as Arc<dyn Logbook>,
        })
    }

    /// Whether a process holds the lock of a run; `None` where that cannot be told.
    pub async fn is_run_locked(&self, run: &RunId) -> Option<bool> {
        match &self.opened {
            Opened::Sqlite(sqlite) => sqlite.is_run_locked(run).await,
            Opened::Postgres(postgres) => postgres.is_run_locked(run).await.ok(),
        }
    }
}

/// Looks at the logbook at an address. Takes as long as its server takes; dropping the future is safe.
///
/// # Errors
/// [`OpenError`] when there is something that cannot be used. No error shows a password.
pub async fn inspect(url: &str) -> Result<Inspection, OpenError> {
    match parse(url)? {
        Address::Memory => Ok(Inspection::Memory),
        Address::Sqlite(path) => crate::sqlite::inspect(path).await,
        Address::Postgres(url) => crate::postgres::inspect(url).await.map(Inspection::Found),
    }
}
