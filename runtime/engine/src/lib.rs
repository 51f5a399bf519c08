//! Drives runs: it consumes signals, and produces records, jobs and notifications.
//!
//! One task, the driver, owns the runs of the engine's shards; [`engine`](crate::Engine) is its handle. It steps the
//! runs in batches: all available signals, one append to the logbook, then all commands. A second task, the outbox,
//! publishes the messages and then settles the signals. The engine itself decides nothing: [`machine::Machine`] does.
//!
//! Start reading at `engine.rs`, then `driver.rs`. The permits of rate-limited tasks are in `permits.rs`.

// Printing panics when the reader has left; only the binary prints, and handles that.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod bug;
mod call_queue;
#[cfg(test)]
mod captured_logs;
mod changed_runs;
mod clock;
mod command_error;
mod condition_turns;
mod declarations;
mod deferred;
mod driver;
mod effects;
mod engine;
mod fetches;
mod forwards;
mod held_notifications;
mod inbox;
mod leases;
mod listeners;
mod loads;
mod memo;
mod messages;
mod origin;
mod outbox;
mod permits;
mod publications;
mod remote_engine;
mod requeued;
mod runs;
mod shard_bindings;
mod shards;
mod snapshots;
mod supervisor;
mod topology;
mod topology_cache;
mod turns;
mod unserved_queues;
mod watch;
mod withdrawals;

pub use changed_runs::RunChanges;
pub use clock::{Clock, SystemClock};
pub use command_error::CommandError;
pub use driver::CallLocation;
pub use engine::{Config, Engine, MaxOpenRuns, ShardAssignment, StartError, SubmitError};
pub use leases::SilentLease;
pub use watch::{Watch, WatchEvent};
