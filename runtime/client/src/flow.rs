//! The types of flows as their authors write them: built in Rust, or read from a flow file.
//!
//! Start with [`Draft::builder`] for a flow, or [`Draft::addition`] for nodes to add to a running one.

pub use ::flow::{
    Backoff, Builder, Condition, Cron, Diagnostic, Digest, Draft, DraftController, DraftFlow, DraftForEach, DraftLink,
    DraftList, DraftListener, DraftNode, DraftSchedule, DraftTask, DraftTaskKind, DraftTriggers, FlowBody, FlowName,
    InvalidCondition, InvalidCron, InvalidDigest, InvalidJson, InvalidName, InvalidQuantity, InvalidRate,
    InvalidValues, Join, Json, LimitOverrides, LinkBuilder, LinkSpans, MissedPolicy, ModuleReference, NestedFlow,
    NodeName, Otherwise, OverlapPolicy, Pace, ParseExtent, Pattern, Per, QueueName, Rate, RetryPolicy, RootFlow,
    ScheduleBuilder, Severity, Size, SkipReach, SourceOutcome, Span, StartTime, Stored, StoredReferences, Strategy,
    TaskBuilder, Timestamp, Value, ValueKind, ValueName, Values, ValuesObject, parse_duration, parse_size,
};

/// Flow files: text to drafts, and drafts to text.
pub mod file {
    pub use ::flow::file::{WriteError, parse, read, write, write_addition};
}
