//! Handles jobs: takes one when a slot is free, finds its module, calls the guest in the sandbox, publishes the
//! signal, and only then accepts the job.
//!
//! A worker knows nothing of flows or runs beyond the ids that it passes on, and needs only a broker: modules come by
//! digest from the store of the engine that sent the job. Start reading at `worker.rs`, then `intake.rs` (fetching
//! jobs) and `call.rs` (handling a job).

// Printing panics when the reader has left; only the binary prints, and handles that.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod admission;
mod start_check;
mod call;
mod call_journal;
mod call_registry;
mod control;
mod grants_answerer;
mod guest_runner;
mod intake;
mod live;
mod missed_withdrawals;
mod outside;
mod http_recorder;
mod http_player;
mod replay;
mod content;
mod drain;
mod progress;
mod queue_wait;
mod redaction;
mod result_cache;
mod signal_sender;
mod slots;
mod spans;
mod worker;

pub use call_journal::CallJournal;
pub use content::ContentSource;
pub use guest_runner::{GuestResult, GuestRunner};
pub use missed_withdrawals::WallClock;
pub use replay::{ReplayResult, ReplayedHttp, replay};
pub use worker::{Config, Worker, WorkerError};
