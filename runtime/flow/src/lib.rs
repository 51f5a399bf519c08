//! Flows: what an author writes, and the vocabulary of the system.
//!
//! The first half defines names, values, failures, limits, and the calls and states of a run. The second half turns a flow
//! file (`file`) or a program (`builder`) into a `Draft` (`draft`), and a draft with its modules into a `Flow` (`graph`, `wire`). The crate has
//! no I/O, no clock and no async. Start reading at `draft`.

// Printing panics when the reader has closed the pipe; only the binary prints, and handles that.
#![warn(clippy::print_stdout, clippy::print_stderr)]
#![warn(clippy::wildcard_enum_match_arm)]

mod access;
mod name;
mod digest;
mod time;
mod value;
mod failure;
mod label;
mod limits;
mod pace;
mod per_namespace;
mod retry;
mod run_limits;
mod task_info;
mod value_types;
mod wildcard;
mod schema;
mod condition;
mod cron;
mod call;
mod notification;
mod run_state;
mod signal;
mod skip_reason;
mod state;

pub use access::{
    Access, AccessDenial, AccessTooLarge, CallAccess, CallDirectory, DirectoryUse, Grant, GrantedDirectory,
    GrantedPart, Grants, HttpPattern, HttpTarget, Memo, Network, Reach, Recording, SECRET_MARK, Setting, SettingKind,
    SignerKey, SocketHost, SocketPattern, is_public,
};
pub use call::{Action, Attempt, CallId, Execution, Firing, MAX_PROGRESS_BYTES, Revision};
pub use condition::{Condition, EvaluationBudget};
pub use cron::Cron;
pub use digest::Digest;
pub use failure::{
    Failure, FailureKind, FailureSummary, Failures, MAX_DETAILS_BYTES, MAX_MESSAGE_BYTES, Outcome, too_long_details,
    without_details,
};
pub use label::{LabelCondition, LabelName, LabelValue, Labels, MAX_LABELS};
pub use limits::{ExceededLimit, LimitEntry, LimitOverrides, Limits, MAX_STACK_BYTES};
pub use name::{
    DirectoryName, Export, FlowName, Namespace, NodeName, QueueName, RunId, SecretName, SettingName, Shard, TokenName,
    ValueName, WebhookName, WorkerName,
};
pub use notification::{NotificationOutcome, TaskNotification};
pub use pace::{Pace, Per, Rate};
pub use per_namespace::PerNamespace;
pub use retry::{Backoff, RetryLimits, RetryPolicy};
pub use run_limits::{MAX_CALL_INPUT_BYTES, RunLimits, ValuesTooLarge};
pub use run_state::RunState;
pub use schema::Schema;
pub use signal::{Signal, TaskResult};
pub use skip_reason::SkipReason;
pub use state::{NodeKind, State};
pub use task_info::{Parameter, Provided, Rollback, TaskInfo};
pub use time::{ClockShift, Size, Timestamp, parse_duration, parse_size};
pub use value::{
    Json, MAX_INLINE_BYTES, MAX_INLINE_TOTAL_BYTES, Stored, StoredReferences, Value, ValueKind, Values, ValuesObject,
};

pub use wildcard::matches_wildcard;

/// Why a text or a value is refused, one type for each type that is parsed.
pub mod invalid {
    pub use crate::{
        access::{InvalidHttpPattern, InvalidHttpTarget, InvalidNetwork, InvalidSocketPattern},
        condition::{EvaluationError, InvalidCondition},
        cron::InvalidCron,
        digest::InvalidDigest,
        label::InvalidLabel,
        name::InvalidName,
        pace::InvalidRate,
        schema::SchemaMismatch,
        time::InvalidQuantity,
        value::{InvalidJson, InvalidValues},
    };
}

pub mod builder;
pub mod draft;
pub mod file;
pub mod graph;
pub mod picture;
mod edit;
mod keywords;
mod render;
mod suggest;
mod wire;
#[cfg(test)]
mod seeded_rng;
#[cfg(test)]
mod test_tables;

pub use draft::{
    Diagnostic, Draft, Join, ModuleContent, ModuleInfo, Otherwise, Pattern, Severity, SkipReach, SourceOutcome,
    Strategy,
};
pub use edit::{Edit, EditedDraft, FlowSource};
pub use graph::{
    DELIVERY_LIMIT, Flow, MAX_DELIVERY_LIMIT, MissedPolicy, Node, NodeIndex, OverlapPolicy, RunIdTooLong, StartTime,
    Task,
};
pub use render::{Lines, render};
pub use wire::{MAX_MODULES, Maximum, check_description, check_limits, wire};
