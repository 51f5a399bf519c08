//! The Distributed Task Client: the library that connects programs with a running waft.
//!
//! [`Client`] talks to a server over HTTP; the API types are in [`api`], which the server uses from here. A program builds
//! a flow with [`flow::Draft::builder`], and submits it with [`api::Submission::of`]; `docs/client.md` shows the other
//! methods. Start reading at `client.rs`.
//!
//! The feature `amqp` adds the functions that need a broker and no server: pings of workers, and the quarantine. Without it
//! no AMQP library is linked. The feature `server` is for the server of this workspace.

// Printing panics when the reader has left; only the binary prints, and handles that case.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod flow;

mod client;
mod error;
mod event;
mod event_stream;
mod watch;
mod log_pages;
mod log_watch;

#[cfg(feature = "amqp")]
pub mod quarantine;
#[cfg(feature = "amqp")]
mod workers;

pub use ::api::{self, EventPayload, LogAttempt, LogEvent};
#[cfg(feature = "amqp")]
pub use broker;
pub use client::Client;
pub use credentials::{ClientTls, Identity, Trust};
pub use error::ClientError;
pub use event::Event;
pub use log_pages::LogPages;
pub use log_watch::LogWatch;
pub use watch::Watch;
#[cfg(feature = "amqp")]
pub use workers::{
    AskedWorkers, WorkersError, ask_details, ask_grants, ask_workers, describe_workers, drain_worker, workers,
};
