//! Messages as bytes, and as the JSON that other languages read.
//!
//! The types here are the wire's, apart from the core's own, with conversions both ways. Every message begins with
//! a format version; variants and fields are only ever appended, under a new version. One file, `codec.rs`, names
//! the codec. Bytes from a wire are never trusted: each failure to read them is a [`DecodeError`].

mod codec;
mod wire;

mod job;
mod report;

mod control;
pub mod fetch;

mod headers;
pub mod json;
pub mod topology;

pub use codec::DecodeError;
pub use control::{Control, Ping, WorkerStatus};
pub use fetch::{FetchAnswer, FetchReply, FetchRequest};
pub use headers::{call_of, headers, message_id};
pub use job::Job;
pub use report::{Progress, Report};
