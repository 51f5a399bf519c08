//! Flows: what an author writes, and the vocabulary of the system.
//!
//! The first half defines names, values, failures, limits, and the calls and states of a run. The second half turns a flow
//! file (`file`) or a program (`builder`) into a `Draft`, and a draft with its modules into a `Flow` (`wire`). The crate has
//! no I/O, no clock and no async. Start reading at `draft`.

// Printing panics when the reader has closed the pipe; only the binary prints, and handles that.
#![warn(clippy::print_stdout, clippy::print_stderr)]
#![warn(clippy::wildcard_enum_match_arm)]

mod name;
mod digest;
mod time;
mod value;
mod failure;
mod limits;
mod pace;
mod retry;
mod task_info;
mod value_types;
mod schema;
mod condition;
mod cron;
mod call;
mod notification;
mod run_state;
mod signal;
mod skip_reason;
mod state;

pub use call::{Action, Attempt, CallId, Execution, Firing, Revision};
pub use condition::{Condition, EvaluationError, InvalidCondition};
pub use cron::{Cron, InvalidCron};
pub use digest::{Digest, InvalidDigest};
pub use failure::{Failure, FailureKind, FailureSummary, Failures, MAX_MESSAGE_BYTES, Outcome};
pub use limits::{ExceededLimit, LimitEntry, LimitOverrides, Limits, MAX_STACK_BYTES};
pub use name::{Export, FlowName, InvalidName, NodeName, QueueName, RunId, Shard, ValueName, WorkerName};
pub use notification::{NotificationOutcome, TaskNotification};
pub use pace::{InvalidRate, Pace, Per, Rate};
pub use retry::{Backoff, RetryPolicy};
pub use run_state::RunState;
pub use schema::{Schema, SchemaMismatch};
pub use signal::{Signal, TaskResult};
pub use skip_reason::SkipReason;
pub use state::{NodeKind, State};
pub use task_info::{Parameter, Provided, Rollback, TaskInfo};
pub use time::{ClockShift, InvalidQuantity, Size, Timestamp, parse_duration, parse_size};
pub use value::{
    InvalidJson, InvalidValues, Json, MAX_INLINE_BYTES, MAX_INLINE_TOTAL_BYTES, Stored, StoredReferences, Value,
    ValueKind, Values, ValuesObject,
};

mod draft;
mod flow;
mod keywords;
mod suggest;
mod render;
pub mod file;
mod builder;
mod edit;
mod wire;
pub mod picture;
#[cfg(test)]
mod seeded_rng;
#[cfg(test)]
mod test_tables;

pub use builder::{Builder, LinkBuilder, NestedFlow, RootFlow, ScheduleBuilder, TaskBuilder};
pub use draft::{
    Diagnostic, Draft, DraftController, DraftFlow, DraftForEach, DraftLink, DraftList, DraftListener, DraftNode,
    DraftSchedule, DraftTask, DraftTaskKind, DraftTriggers, FlowBody, Join, LinkSpans, ModuleContent, ModuleInfo,
    ModuleReference, Otherwise, ParseExtent, Pattern, Renames, Severity, SkipReach, SourceOutcome, Span, Strategy,
};
pub use edit::{Edit, FlowSource};
pub use flow::{
    BackEdge, BackEdgeTiming, Controller, DELIVERY_LIMIT, Element, Flow, ForEach, Input, InputUse, Link, Listener,
    MAX_DELIVERY_LIMIT, MissedPolicy, Node, NodeIndex, NotificationInput, OverlapPolicy, Requiredness, Role, Schedule,
    Scope, ScopeIndex, Source, StartTime, Task, Triggers, UnknownTask, Wait,
};
pub use render::{line_and_column, render};
pub use wire::{check_limits, wire};
