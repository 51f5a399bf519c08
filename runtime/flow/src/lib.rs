//! Flows, and the state machine that decides how a run of a flow continues.
//!
//! This crate defines the vocabulary of the system: names, values, failures, limits. It has no I/O, no clock and no async.
//! Start reading at `machine`.

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

pub use condition::{Condition, EvaluationError, InvalidCondition};
pub use cron::{Cron, InvalidCron};
pub use digest::{Digest, InvalidDigest};
pub use failure::{Failure, FailureKind, FailureSummary, Failures, MAX_MESSAGE_BYTES, Outcome};
pub use limits::{LimitOverrides, Limits, MAX_STACK_BYTES};
pub use name::{Export, FlowName, InvalidName, NodeName, QueueName, RunId, Shard, ValueName, WorkerName};
pub use pace::{InvalidRate, Pace, Per, Rate};
pub use retry::{Backoff, RetryPolicy};
pub use schema::{Schema, SchemaMismatch};
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
pub use wire::wire;

mod call;
mod command;
mod machine;
mod record;

pub use call::{Action, Attempt, CallId, Execution, Firing, Revision};
pub use command::{
    Call, Change, Command, Event, FetchResult, FetchTarget, NodeChange, NodeKind, NotificationOutcome, RollbackCall,
    Signal, State, TaskNotification, TaskResult, ValueFetch,
};
pub use machine::{
    Backlog, Expansion, FiringSnapshot, IllegalRecord, IllegalSnapshot, Intention, MAX_STEP_RECORDS, Machine,
    NextFiring, NodeRun, NodeState, NotificationKeys, PendingTrigger, QueuedFiring, SkipCount, Snapshot, Step,
    TriggerState, collect_results, elements, panic_message,
};
pub use record::{Fact, NodeAttempt, Record, Resolution, RunState, SkipReason, Trigger};
