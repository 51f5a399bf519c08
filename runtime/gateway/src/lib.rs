//! The way out of the sandbox: HTTP requests that a flow asks for and an operator grants, with the secrets of the operator.
//!
//! Each request is checked before its host is looked up, and each address of the host before a connection to it. The crate must
//! not know of guests and runs. Start reading at `gateway.rs`.

// Printing panics when the reader has left; only the binary prints, and handles that.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod budget;
mod clients;
mod connection;
mod connector;
mod error;
mod gateway;
mod headers;
mod idle;
mod lookups;
mod message;
mod meter;
mod redaction;
mod resolver;
mod rules;
mod secrets;
mod trace_hosts;

pub use error::HttpError;
pub use gateway::{CallGateway, Closed, Gateway, MAX_CONCURRENT_REQUESTS};
pub use headers::MAX_HEADERS_BYTES;
pub use lookups::{LookupPlace, LookupShare};
pub use message::{HttpRequest, HttpResponse, Outbound, Timeouts};
pub use redaction::{TooLong, UsedSecrets};
pub use rules::{CurrentRules, Rules};
pub use secrets::{Secret, SecretSource, Secrets, VaultEntry};
pub use trace_hosts::{InvalidTraceHost, TraceHosts};
pub use url::Url;
