//! The JSON types that programs outside waft read and write: the HTTP API, and the events of a run.
//!
//! A field that holds one of a set of words is an open enum: a word of a newer server is kept as `Unknown`. Values of flows
//! keep their original text, so that no number loses a digit. Bytes and references to the store are separate from JSON, see
//! [`ValuesObject`].
//!
//! The feature `build` is for those who build the types: without it their structs are not exhaustive. The feature `openapi`
//! describes the types in OpenAPI.

// Printing panics when the reader has closed the pipe; only the binary prints, and handles that.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod audit;
mod bulk;
mod check;
mod command;
mod edit;
mod edits;
mod elements;
mod engine;
mod event;
mod exchanges;
mod flow_text;
mod grants;
mod graph;
mod list;
mod log_event;
mod logs;
mod module;
mod open_enum;
mod permits;
mod problem;
mod quarantine;
mod queue;
mod rehearsal;
mod run;
mod runs_event;
#[cfg(feature = "openapi")]
mod schema;
mod schedules;
mod submit;
mod timeline;
mod token;
mod usage;
mod webhook;
mod worker;

pub use audit::{AuditEntry, AuditLog, AuditQuery};
pub use bulk::{BulkAction, BulkRefusal, BulkRequest, BulkResult, FlowCounts, RunCounts, RunFilter};
pub use check::{Check, Checks, Health, Outcome};
pub use command::{Notification, RunStateResponse, SkipRollback};
#[cfg(feature = "openapi")]
pub use edit::ModuleNames;
pub use edit::{Edit, EditPreview, EditResult, Edits, LinkJoin, LinkOutcome, LinkReach, Revision};
pub use elements::{Element, Elements, ElementsQuery};
pub use engine::{DrivenShard, Engine, Engines};
pub use event::{ComputedBy, EventPayload, FiringEvent, NodeEvent, RunEvent, TrimmedEvent};
pub use exchanges::{AttemptExchanges, Body, Exchange, ExchangeResponse, ExchangesQuery, Header, RunExchanges};
pub use flow::ValuesObject;
pub use flow_text::{FlowText, FlowTextQuery};
pub use grants::{AskingTask, ExplainedPart, ExplainedTask, GrantsExplanation, GrantsQuestion};
pub use graph::{GraphLink, GraphNode, GraphNodeKind, GraphQuery, LinkCondition, RunGraph};
pub use list::{ListQuery, Runs, Summary};
pub use log_event::{LogAttempt, LogEvent};
pub use logs::{Action, AttemptLog, LogLevel, LogLine, LogsQuery, RunLogs};
pub use module::{Module, ModuleSignature, Modules, ModulesQuery, StoredModule};
pub use permits::{PermitCall, Permits, PermitsQuery, TaskPermits};
pub use problem::{Diagnostic, Problem, Severity};
pub use quarantine::{Quarantine, QuarantineResult, QuarantineSelection, QuarantinedMessage};
pub use queue::{JobQueue, JobQueues, QueueState, QueuesQuery};
pub use rehearsal::{
    FailingCall, FailingTries, Rehearsal, RehearsalQuery, RehearsedCase, RehearsedFiring, RehearsedNode, RetriedCall,
    RetriedFlow, SkippedLink, SkippedNode, StubOrigin, StubbedValue,
};
pub use run::{
    AwaitedNotification, Backlog, ElementProgress, Failure, FailureKind, FiringState, LostWorker, NextTime, Node,
    NodeKind, NodeState, OutstandingCall, Run, RunState, SkipReason, SkippedTriggers,
};
pub use runs_event::{
    EventFailure, EventsQuery, LostEvents, MAX_EVENT_MESSAGE, NodeStateEvent, RunStateEvent, RunsEvent,
};
pub use schedules::{Schedule, ScheduleBacklog, Schedules, SchedulesQuery};
pub use submit::Submission;
pub use timeline::{AttemptOutcome, Timeline, TimelineAttempt, TimelineQuery};
pub use token::{CreatedToken, NewToken, Scope, Token, Tokens};
pub use usage::{LastUsage, Usage};
pub use webhook::{Webhook, WebhookDelivery, Webhooks};
pub use worker::{DrainOptions, Worker, WorkerCall, WorkerState, WorkerStateResponse, Workers};
