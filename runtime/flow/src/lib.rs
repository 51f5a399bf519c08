//! Flows, and the machine that decides how a run of one goes on.
//!
//! This crate is the vocabulary of the system: names, values, failures, limits. It knows no I/O, no clock
//! and no async. Start reading at `machine`.

// Printing panics when the reader has left; only the binary prints, and knows how.
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
pub use failure::{Failure, FailureKind, FailureSummary, Failures, LONGEST_MESSAGE, Outcome};
pub use limits::{LARGEST_STACK, LimitOverrides, Limits};
pub use name::{Export, FlowName, InvalidName, NodeName, QueueName, RunId, Shard, ValueName, WorkerName};
pub use pace::{InvalidRate, Pace, Per, Rate};
pub use retry::{Backoff, RetryPolicy};
pub use schema::{Schema, SchemaMismatch};
pub use task_info::{Parameter, Provided, Rollback, TaskInfo};
pub use time::{ClockShift, InvalidQuantity, Size, Timestamp, parse_duration, parse_size};
pub use value::{
    Form, InvalidJson, InvalidValues, Json, LARGEST_INLINE, LARGEST_INLINE_TOGETHER, References, Stored, Value, Values,
    ValuesObject,
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

pub use builder::{Builder, LinkBuilder, NestedFlow, ScheduleBuilder, TaskBuilder, Whole};
pub use draft::{
    Body, Does, Draft, DraftController, DraftFlow, DraftForEach, DraftLink, DraftListener, DraftNode, DraftSchedule,
    DraftTask, DraftTriggers, Elements, Join, LinkSpans, Mistake, ModuleContent, ModuleInfo, ModuleReference, On,
    Otherwise, ParseExtent, Pattern, Reach, Renames, Severity, Span, Strategy,
};
pub use edit::{Edit, Origin};
pub use flow::{
    Accept, Audience, Controller, DELIVERY_LIMIT, Element, Flow, ForEach, Input, LARGEST_DELIVERY_LIMIT, Link, Listen,
    Living, Missed, Moment, Node, NodeIndex, Overlap, Requiredness, Role, Schedule, Scope, ScopeIndex, Source, Starts,
    Task, TurnLink, UnknownTask, Wait,
};
pub use render::{line_and_column, render};
pub use wire::wire;

mod call;
mod command;
mod machine;
mod record;

pub use call::{Action, Attempt, CallId, Execution, Firing, Revision};
pub use command::{
    Answer, Brought, Call, Change, Command, Errand, Errands, Event, Heard, HeardEnd, NodeChange, NodeKind,
    RollbackCall, Signal, State,
};
pub use machine::{
    Backlog, Due, Expansion, IllegalRecord, IllegalSnapshot, Intention, LONGEST_STEP, Life, Machine, NodeRun,
    NodeState, Notifications, Owed, PassSnapshot, Skips, Snapshot, Step, Waiting, elements, gathered, panic_message,
};
pub use record::{Fact, NodeAttempt, Record, Resolution, RunState, SkipReason, Trigger};
