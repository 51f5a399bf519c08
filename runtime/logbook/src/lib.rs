//! The durable history of runs: records in order, per run.
//!
//! An append names the version that it follows, so of two engines that drive one run, one gets a conflict. One append covers
//! a batch of runs in one transaction. [`Sqlite`] is one file, [`Postgres`] is shared by several machines, and [`Memory`]
//! lasts as long as its process. Every implementation passes [`contract`], and [`open`] picks one by its address. Start
//! reading at `logbook.rs`. Beside the runs it remembers results of tasks: `memo.rs`.

// Printing panics when the reader has left; only the binary prints, and handles that.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod access;
pub mod contract;
pub mod intercepted;
mod filter;
mod log_page;
mod logbook;
mod address;
mod inspect;
mod lock;
mod memo;
mod memory;
mod secret;
mod sqlite;
mod postgres;
mod replay;
mod row;
mod decode;
mod run_lock;
mod runs_query;
mod snapshot_body;
mod trim_point;

pub use access::{Access, AccessToken, AuditEntry, AuditFilter, AuditPosition};
pub use address::{file, may_exist, open};
pub use filter::{Filter, InvalidPosition, LogFilter, LogPosition, MAX_COUNTED, RunCounts};
pub use inspect::{ClockReading, ExistingLogbook, Inspection, exists, inspect};
pub use lock::{EngineLock, LockMode};
pub use log_page::{LogPage, LogRange};
pub use logbook::{
    Append, AppendError, AppendOutcome, Counted, History, LoadError, Logbook, MaxUnended, OpenError, ReadError,
    RunInfo, Summary, Usage, Version, is_deletable, is_open,
};
pub use memo::{MemoChanges, MemoLimits, Memos, NewResult, RolledBackTask};
pub use memory::Memory;
pub use postgres::Postgres;
pub use replay::{AppliedRecord, Page, Replay};
pub use run_lock::RunLock;
pub use sqlite::Sqlite;
pub use trim_point::{RevisionEntry, TrimPoint};
