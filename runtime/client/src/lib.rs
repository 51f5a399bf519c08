//! The Distributed Task Client: the library by which programs speak with a running waft.
//!
//! [`Client`] speaks with a server over HTTP; what they say to each other is in [`api`], which the server takes from
//! here. [`workers`] asks the workers at a broker, without a server. Start reading at `client.rs`.

pub mod api;
mod client;
mod error;
mod event_stream;
mod tls;
mod watch;

pub mod quarantine;
mod workers;

pub use client::Client;
pub use error::ClientError;
pub use watch::{Event, Watch};
pub use workers::{WorkersError, workers};
