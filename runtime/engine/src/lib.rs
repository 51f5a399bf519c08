//! Drives runs: signals in; records, jobs and notifications out.
//!
//! One task owns the runs of the engine's shards ([`engine`](crate::Engine) in front of it) and steps them in batches:
//! every signal at hand, one append to the logbook, then all commands. A second task, the outbox, makes them visible and settles
//! the signals once they are. The engine decides nothing itself: that is [`flow::Machine`]'s. Start reading at
//! `engine.rs`, then `drive.rs`. The permits of tasks with a limited pace are in `permits.rs`.

// Printing panics when the reader has left; only the binary prints, and knows how.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod clock;
mod topology_cache;
mod drive;
mod remote_engine;
mod engine;
mod inbox;
mod messages;
mod outbox;
mod permits;
mod supervisor;
mod topology;
mod unserved_queues;
mod watch;

pub use clock::{Clock, SystemClock};
pub use drive::{CallLocation, SilentLease};
pub use engine::{CommandError, Config, Engine, ShardAssignment, StartError, SubmitError};
pub use watch::{Watch, WatchEvent};
