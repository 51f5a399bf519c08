//! Runs and their nodes, as a server shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[cfg(feature = "openapi")]
use crate::schema;
use crate::{ComputedBy, Diagnostic, LastUsage, Revision, ValuesObject, open_enum::open_enum};

open_enum! {
    /// The state of a run, or of one of its firings.
    RunState from flow::RunState {
        /// Not started.
        Pending = "pending",
        /// In progress.
        Running = "running",
        /// Every node succeeded or was skipped by a condition.
        Success = "success",
        /// A rollback failed permanently. Only a person can settle the run.
        Failure = "failure",
        /// The effects of the run were rolled back.
        RolledBack = "rolled-back",
        /// The run is stopping. Running calls may finish.
        Suspending = "suspending",
        /// The run has stopped, with work left.
        Suspended = "suspended",
    }
}

impl RunState {
    /// Whether the run has ended. A suspended run has not.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::RolledBack)
    }
}

open_enum! {
    /// The state of a task or a retry controller.
    NodeState from flow::State {
        /// It has not started.
        Pending = "pending",
        /// Its apply was sent to the workers.
        Running = "running",
        /// Its apply succeeded.
        Success = "success",
        /// A retry controller started its flow. The states of the tasks show how the flow continues.
        Started = "started",
        /// Its apply failed.
        Failure = "failure",
        /// Its rollback was sent to the workers.
        RollingBack = "rolling-back",
        /// Its effects were rolled back.
        RolledBack = "rolled-back",
        /// Its rollback failed permanently.
        RollbackFailure = "rollback-failure",
        /// A condition excluded it.
        Ignored = "ignored",
        /// A retry controller will start its flow again.
        Retrying = "retrying",
    }
}

impl NodeState {
    /// The state of a node as programs and people see it. The success of a retry controller is `started`: it has decided to
    /// start its flow, and the states of the tasks show whether the flow succeeds.
    #[must_use]
    pub fn of(kind: flow::NodeKind, state: flow::State) -> Self {
        match (kind, state) {
            (flow::NodeKind::Retry, flow::State::Success) => Self::Started,
            (flow::NodeKind::Task | flow::NodeKind::Retry, state) => state.into(),
        }
    }

    /// The state of the runtime; `None` for one that this version does not know.
    #[must_use]
    pub fn to_runtime(&self) -> Option<flow::State> {
        let name = if *self == Self::Started { flow::State::Success.as_str() } else { self.as_str() };
        flow::State::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

open_enum! {
    /// The kind of a node.
    NodeKind from flow::NodeKind {
        /// A task.
        Task = "task",
        /// A retry controller.
        Retry = "retry",
    }
}

open_enum! {
    /// The kind of a failure.
    FailureKind from flow::FailureKind {
        /// The guest reported that a retry can help.
        Transient = "transient",
        /// The guest reported that a retry cannot help.
        Permanent = "permanent",
        /// The call exceeded its timeout.
        Timeout = "timeout",
        /// The guest requested more memory than its limit.
        Memory = "memory",
        /// The guest trapped: it panicked, divided by zero or overflowed its stack.
        Trap = "trap",
        /// The output of the guest exceeded its limit.
        OutputLimit = "output-limit",
        /// The output of the guest does not match its declaration.
        InvalidOutput = "invalid-output",
        /// A value that the task requires was missing when it started.
        MissingInput = "missing-input",
        /// The module was not available, or does not match the flow.
        Module = "module",
        /// The job lost its workers as often as the delivery limit allows.
        Poison = "poison",
        /// The run was cancelled.
        Cancelled = "cancelled",
        /// The guest tried something that its flow did not ask for or that no operator grants.
        Denied = "denied",
    }
}

open_enum! {
    /// The reason why a trigger started no firing.
    SkipReason from flow::SkipReason {
        /// An earlier firing of the schedule was in progress.
        Overlap = "overlap",
        /// No engine drove the run at the time of the schedule.
        Missed = "missed",
        /// The run had as many open firings as it may have.
        QueueFull = "full",
    }
}

/// A run with all its tasks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Run {
    /// The run's id.
    pub run: String,
    /// The name of its flow.
    pub flow: String,
    /// Its state.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: RunState,
    /// Whether the run was cancelled or has expired, and is not rolled back yet: started calls finish first, then their
    /// rollbacks are made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelling: bool,
    /// Its labels, which never change.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The id of its trace, in hexadecimal, if the server traces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The address of the page that shows its trace, if the operator has said where traces are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_url: Option<String>,
    /// The revision of its flow.
    pub revision: u64,
    /// When it started, as an RFC 3339 time.
    pub started_at: String,
    /// When it last changed.
    pub changed_at: String,
    /// The changes of its flow, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<Revision>,
    /// The number of its firings. Only runs that fire more than once have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fired: Option<u64>,
    /// Its firings that are in progress or need a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firings: Vec<FiringState>,
    /// The triggers that started no firing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedTriggers>,
    /// Its schedules with missed times that still have to fire.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backlogs: Vec<Backlog>,
    /// The next times of its schedules, in the flow's order. The schedules of a suspended run wait until it is resumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<NextTime>,
    /// Its tasks and retry controllers, in the flow's order.
    pub tasks: Vec<Node>,
    /// The values that the run started with.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Values))]
    pub inputs: ValuesObject,
    /// The values that its tasks provided and that were not rolled back.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Values))]
    pub provides: ValuesObject,
    /// The nodes that failed in the last firing, and why.
    pub failures: BTreeMap<String, Failure>,
    /// The warnings about the flow, for the client that submits it. They do not prevent the flow from running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Diagnostic>,
}

/// A call that has not been answered yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct OutstandingCall {
    /// The queue that its job was sent to.
    pub queue: String,
    /// When its job was sent.
    pub since: String,
    /// The worker that executes it, where known: after ten seconds, or once an engine has tried to withdraw the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Whether it waits for a worker although no worker consumes its queue.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unserved: bool,
    /// The seconds since the last heartbeat of its worker, if the next one is late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_for: Option<f64>,
}

/// A worker that was lost while it called a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct LostWorker {
    /// The worker, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The attempt that was lost.
    pub attempt: u32,
    /// When that was recorded.
    pub at: String,
}

/// A task or a retry controller of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Node {
    /// `task` or `retry`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub kind: NodeKind,
    /// Its name.
    pub name: String,
    /// Its state. A retry controller has `started` in place of `success`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: NodeState,
    /// Its firing; left out before it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firing: Option<u64>,
    /// Its attempt; left out before it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// When its last apply or rollback was sent to the workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it entered its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The values that it provided, by the flow's names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<schema::Values>))]
    pub provides: Option<ValuesObject>,
    /// Why it failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The reason that a person gave for skipping its failed rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_skipped: Option<String>,
    /// Whether it has a rollback. Only a task has this. Without a rollback, `rolled-back` means that what the task did stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_rollback: Option<bool>,
    /// The seconds until its next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in: Option<f64>,
    /// The notification that it waits for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits: Option<AwaitedNotification>,
    /// Its outstanding call. If the task is called for each element of a list, this is the oldest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<OutstandingCall>,
    /// The workers that were lost during a long call of it, as far back as the records go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<LostWorker>,
    /// Its progress over the elements of its list, once the list is known; left out of a task that is called once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elements: Option<ElementProgress>,
    /// The queue of its jobs, with its namespace. Only a task that calls a guest has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The worker that called it last, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Its module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// If its result is a remembered one: the call that computed it. No guest was called for it in this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed_by: Option<ComputedBy>,
    /// What its last call that has ended used. A task that is called for each element of a list has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_usage: Option<LastUsage>,
}

/// The progress of a task that is called for each element of a list.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct ElementProgress {
    /// The number of elements.
    pub count: u64,
    /// The number of elements in success.
    pub succeeded: u64,
}

/// The notification that a task waits for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct AwaitedNotification {
    /// A short description: the text of `wait` in the flow.
    pub word: String,
    /// The values that the notification must contain.
    pub values: Vec<String>,
    /// The deadline. The task fails if it was not notified by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// Why a node failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Failure {
    /// `transient permanent timeout memory trap output-limit invalid-output missing-input module poison cancelled denied`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub kind: FailureKind,
    /// The message for people.
    pub message: String,
    /// The details that the guest added, any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub details: Option<Box<RawValue>>,
    /// Why the apply had failed, if this is the failure of a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(no_recursion))]
    pub apply: Option<Box<Failure>>,
}

impl From<&flow::Failure> for Failure {
    fn from(failure: &flow::Failure) -> Self {
        let raw = |json: String| RawValue::from_string(json).expect("details are checked to be JSON");
        Self {
            kind: failure.kind.into(),
            message: failure.message.clone(),
            details: failure.details.as_ref().map(|details| raw(details.as_str().into())),
            apply: None,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.kind, self.message)
    }
}

/// Schedules and notifications that should have fired a task, and did not.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct SkippedTriggers {
    /// The task.
    pub task: String,
    /// Why: `overlap` (an earlier firing of the schedule was in progress), `missed` (no engine drove the run at that time)
    /// or `full` (10,000 firings were waiting).
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub reason: SkipReason,
    /// The number of skipped triggers. Of times that were missed at once at most 1,000 are counted.
    pub count: u64,
    /// When the last one was skipped.
    pub last_at: String,
}

impl SkippedTriggers {
    /// Whether there may have been more: of many times that were missed at once, not all are counted.
    #[must_use]
    pub fn is_lower_bound(&self) -> bool {
        let reason = flow::SkipReason::ALL.into_iter().find(|reason| reason.as_str() == self.reason.as_str());
        reason.is_some_and(|reason| reason.is_lower_bound(self.count))
    }
}

/// A schedule with missed times that still have to fire.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Backlog {
    /// The task that it fires.
    pub task: String,
    /// The first of its missed times.
    pub next: String,
}

/// The next time of a schedule.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct NextTime {
    /// The task that it fires.
    pub task: String,
    /// The time, as an RFC 3339 time.
    pub at: String,
}

/// A firing of a run that fires more than once.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct FiringState {
    /// Its number, from 1.
    pub firing: u64,
    /// Its state, with the words for the states of runs.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: RunState,
}
