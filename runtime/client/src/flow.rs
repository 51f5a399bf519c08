//! The types of flows as their authors write them: built in Rust, or read from a flow file.
//!
//! Start with [`Draft::builder`] for a flow, or [`Draft::addition`] for nodes to add to a running one.

pub use ::flow::{
    Backoff, Condition, Cron, Diagnostic, Digest, Draft, FlowName, Join, Json, LimitOverrides, MissedPolicy, NodeName,
    Otherwise, OverlapPolicy, Pace, Pattern, Per, QueueName, Rate, RetryPolicy, Severity, Size, SkipReach,
    SourceOutcome, StartTime, Stored, StoredReferences, Strategy, Timestamp, Value, ValueKind, ValueName, Values,
    ValuesObject,
    builder::{Builder, LinkBuilder, NestedFlow, RootFlow, ScheduleBuilder, TaskBuilder},
    draft::{
        DraftController, DraftFlow, DraftForEach, DraftLink, DraftList, DraftListener, DraftNode, DraftSchedule,
        DraftTask, DraftTaskKind, DraftTriggers, FlowBody, LinkSpans, ModuleReference, ParseExtent, Span,
    },
    invalid::{
        InvalidCondition, InvalidCron, InvalidDigest, InvalidJson, InvalidName, InvalidQuantity, InvalidRate,
        InvalidValues,
    },
    parse_duration, parse_size,
};

/// Flow files: text to drafts, and drafts to text.
pub mod file {
    pub use ::flow::file::{WriteError, parse, read, write, write_addition};
}
