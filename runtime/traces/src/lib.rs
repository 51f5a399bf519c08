//! The traces of a process: spans of runs, attempts and calls, for a collector of OpenTelemetry.
//!
//! A process that traces calls [`install`] once, and then sends the spans of its [`SpanQueue`]. The parts of waft ask [`global`]:
//! while nothing is installed it is `None`, and each of them does nothing more. [`RunTrace`] has the spans of a run, which its
//! engine makes; [`ActiveSpan`] is one that a worker begins and ends.
//!
//! - A span never decides anything. No record holds one, and no message is read differently because of one.
//! - A full queue drops spans and counts them. Nothing waits for a collector.
//! - A span has ids, names, digests, sizes and kinds of failures of its own run. It never has values, messages or lines of guests.
//!
//! This crate opens no connection and reads no settings: `cli` does both. Start reading at `context.rs`, then `run.rs`.

// Printing panics when the reader has left; only the binary prints, and handles that.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod context;
mod sampler;
mod span;
mod traces;
mod run;
mod encode;

pub use context::{InvalidTraceparent, SpanContext, SpanId, TraceId};
pub use encode::encode;
pub use run::{AttemptEnd, PARENT_LABEL, RunTrace};
pub use sampler::Sampler;
pub use span::{ActiveSpan, Kind, Span, Value};
pub use traces::{
    Config, LinkTemplate, QUEUE_SPANS, SpanQueue, Traces, child, child_of, current, global, install, within,
};
