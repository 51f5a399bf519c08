//! The Distributed Task Client: the library by which programs speak with a running waft.
//!
//! [`Client`] speaks with a server over HTTP; what they say to each other is in [`api`], which the server takes from
//! here. A program builds a flow with [`flow::Draft::builder`], and submits it as [`api::Submission::of`] it; the other
//! verbs are in `docs/client.md`. [`workers`] asks the workers at a broker, without a server. Start reading at `client.rs`.

// Printing panics when the reader has left; only the binary prints, and knows how.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod api;
mod client;
mod error;
mod submission;
mod notification;
mod edits;
mod event;
mod event_stream;
mod tls;
mod watch;
mod log_watch;

pub mod quarantine;
mod workers;

pub use client::Client;
pub use error::ClientError;
pub use event::{Event, EventPayload};
pub use flow;
pub use log_watch::{LogAttempt, LogEvent, LogWatch};
pub use watch::Watch;
pub use workers::{AskedWorkers, WorkersError, ask_workers, workers};
