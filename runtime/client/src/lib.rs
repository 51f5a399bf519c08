//! The Distributed Task Client: the library that connects programs with a running waft.
//!
//! [`Client`] talks to a server over HTTP; the API types are in [`api`], which the server uses from here. A program builds
//! a flow with [`flow::Draft::builder`], and submits it with [`api::Submission::of`]; `docs/client.md` shows the other
//! methods. [`workers`] pings the workers at a broker, without a server. Start reading at `client.rs`.

// Printing panics when the reader has left; only the binary prints, and handles that case.
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
