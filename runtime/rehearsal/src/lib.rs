//! Rehearsals: runs of a flow with the state machine alone, to see what a failure of each node leads to.
//!
//! No guest is called, and time does not pass by itself. A rehearsal answers each call with a stubbed value or with a failure, and
//! reports what the machine decides. It has no rules of its own about retries, rollbacks or conditions. It has no I/O, no
//! clock and no async, and it always ends: `world.rs` has the bounds of a case, and `rehearse.rs` those of all cases.
//!
//! Reading order: `rehearse.rs` (the cases of a flow), `world.rs` (one run of one case), `history.rs` (what happened in it),
//! `report.rs` (the description of a case). `stubs.rs` has the values that stand for results, and `minimal.rs` finds a value for
//! a JSON schema.

// Printing panics when the reader has closed the pipe; only the binary prints, and handles that.
#![warn(clippy::print_stdout, clippy::print_stderr)]
#![warn(clippy::wildcard_enum_match_arm)]

mod rehearse;
mod injection;
mod world;
mod history;
mod report;
mod stubs;
mod consumers;
mod minimal;
#[cfg(test)]
#[path = "../../flow/src/seeded_rng.rs"]
mod seeded_rng;
#[cfg(test)]
mod tests;

pub use rehearse::{Limits, Request, UnknownNode, rehearse, rehearse_recorded};
pub use stubs::{InvalidResults, Modules, Results, Stubs};
