//! The metrics of a process, in the text format of Prometheus.
//!
//! [`Metrics`] has one method for each thing that is counted or measured, and [`Metrics::render`] writes all of them. The
//! parts of waft count into the metrics of their process, [`global`]. [`names`] has each name, type, label and bucket in one
//! place: a test compares it with `docs/metrics.md`, the alert rules and the dashboard.
//!
//! Names of flows and tasks come from users. So the number of series is bounded, whatever flows there are: see `named.rs`.
//! No label has a run id, or a text of a guest.
//!
//! This crate has no I/O and no async, and knows no HTTP: who scrapes, and who may, is decided in the server.

// Printing panics when the reader has left; only the binary prints, and handles that.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cells;
mod labels;
mod metrics;
mod named;
pub mod names;
mod parse;
mod text;

pub use labels::{AttemptOutcome, Cache, Retried, RollbackOutcome, SpanOutcome};
pub use metrics::{DEFAULT_MAX_NAMES, Metrics, ProcessUsage, QueueLength, SlotCounts, global};
pub use parse::{Line, ParseError, parse};
pub use text::CONTENT_TYPE;
