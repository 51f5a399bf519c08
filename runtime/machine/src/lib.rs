//! The state machine that decides how a run of a flow continues.
//!
//! A run is its records. [`Machine`] decides records from events, and applies records; a replay of the same records gives
//! the same machine. It has no I/O, no clock and no async. Start reading at `machine`.

// Printing panics when the reader has closed the pipe; only the binary prints, and handles that.
#![warn(clippy::print_stdout, clippy::print_stderr)]
#![warn(clippy::wildcard_enum_match_arm)]

mod machine;
mod command;
mod record;
mod bytes;
#[cfg(test)]
#[path = "../../flow/src/seeded_rng.rs"]
mod seeded_rng;

pub use command::{
    Call, Change, Command, Event, FetchResult, FetchTarget, NodeChange, NotificationCursor, NotificationPart,
    RollbackCall, ValueFetch,
};
pub use machine::{
    AttemptEnd, Backlog, Backlogs, CallExpiry, ElementState, EndedAttempt, Executions, Expansion, FiringSnapshot,
    GivenValues, IllegalRecord, IllegalSnapshot, Intention, MAX_STEP_BYTES, MAX_STEP_RECORDS, Machine, NextFiring,
    NodeRun, NodeState, NotificationKeys, PendingTrigger, ProvidedValues, QueuedFiring, Rare, RareState,
    ScheduleStatus, ScheduleTimes, SkipCount, Snapshot, Step, StepLimits, TriggerState, UnansweredCall,
    collect_results, elements, panic_message,
};
pub use record::{Fact, NodeAttempt, Record, Resolution, Trigger};
