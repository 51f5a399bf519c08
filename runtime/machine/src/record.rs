//! The history of a run: its decisions, in order, never rewritten.

use std::sync::Arc;

use flow::{
    Action, Attempt, CallId, ClockShift, Digest, Execution, Failure, Firing, Flow, Json, Labels, NodeIndex, Outcome,
    Revision, RunState, SkipReach, SkipReason, Timestamp, Value, Values, WorkerName, graph::ScopeIndex,
};

/// One entry of a run's history.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The time of the decision.
    pub at: Timestamp,
    /// The firing of the decision; `None` for a decision about the whole run, which in a run that fires once is the same.
    pub firing: Option<Firing>,
    /// The decision.
    pub fact: Fact,
}

/// The decision that a record contains.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// The run starts. Always the first record, and only the first.
    RunStarted {
        /// The flow that the run executes.
        flow: Arc<Flow>,
        /// The first revision.
        revision: Revision,
        /// The labels of the run, which never change.
        labels: Labels,
    },
    /// A task's attempt is dispatched to the workers.
    Started {
        /// The attempt.
        attempt: NodeAttempt,
        /// Apply or rollback.
        action: Action,
    },
    /// An apply succeeded.
    Succeeded {
        /// The attempt.
        attempt: NodeAttempt,
        /// Its values, by the flow's names.
        provided: Values,
        /// The number of the execution.
        execution: Execution,
        /// The worker that executed it.
        worker: Option<WorkerName>,
    },
    /// An apply took a remembered result: no guest was called.
    Remembered {
        /// The attempt.
        attempt: NodeAttempt,
        /// Its values, by the flow's names.
        provided: Values,
        /// The call that computed them, in this run or another one of the namespace.
        computed_by: CallId,
    },
    /// An apply failed.
    Failed {
        /// The attempt.
        attempt: NodeAttempt,
        /// The failure.
        failure: Failure,
        /// The time of the next attempt; `None` when the failure is permanent.
        retry_at: Option<Timestamp>,
        /// The number of the execution; `None` where no worker has answered.
        execution: Option<Execution>,
        /// Whether a lost worker may have executed this attempt before.
        redelivered: bool,
        /// The worker that executed it.
        worker: Option<WorkerName>,
    },
    /// A worker has taken a long call under a lease: it accepted the job, and sends heartbeats instead.
    Leased {
        /// The attempt.
        attempt: NodeAttempt,
        /// Apply or rollback.
        action: Action,
        /// The worker that holds the lease.
        worker: WorkerName,
    },
    /// The lease of a call expired, or its worker returned it: another attempt follows under a new number. The effects of
    /// the lost attempt are unknown.
    Lost {
        /// The attempt.
        attempt: NodeAttempt,
        /// Apply or rollback.
        action: Action,
        /// The worker that held the lease.
        worker: Option<WorkerName>,
    },
    /// A lost attempt was answered after all, another execution of an answered attempt has ended, or a lost worker may have executed an
    /// attempt that is not answered. Nothing changes unless the effects of this execution were rolled back meanwhile; then they are rolled
    /// back again. What such an execution did counts as unknown.
    LateOutcome {
        /// The attempt.
        attempt: NodeAttempt,
        /// Apply or rollback.
        action: Action,
        /// The number of the execution; `None` where its lease expired and it has not answered.
        execution: Option<Execution>,
        /// The outcome of an apply, by the flow's names; `None` for a rollback.
        outcome: Option<Outcome>,
        /// The worker that answered.
        worker: Option<WorkerName>,
    },
    /// The effects of a task were rolled back.
    RolledBack {
        /// The attempt.
        attempt: NodeAttempt,
        /// The worker that executed it.
        worker: Option<WorkerName>,
    },
    /// A rollback failed.
    RollbackFailed {
        /// The attempt.
        attempt: NodeAttempt,
        /// The failure.
        failure: Failure,
        /// The time of the next attempt; `None` when the failure is permanent.
        retry_at: Option<Timestamp>,
        /// The worker that executed it.
        worker: Option<WorkerName>,
    },
    /// The list of a `for_each` task is known.
    Expanded {
        /// The task.
        node: NodeIndex,
        /// The list.
        list: Arc<[Json]>,
    },
    /// A node without a guest call, such as a retry controller, passed through its rollback.
    RollbackNotNeeded {
        /// The node.
        node: NodeIndex,
    },
    /// The controllers resolved a failure.
    FailureResolved {
        /// The node that failed permanently.
        node: NodeIndex,
        /// The answer of the controllers.
        resolution: Resolution,
    },
    /// A retry controller executed.
    ControllerRan {
        /// The controller.
        node: NodeIndex,
        /// Its attempt.
        attempt: Attempt,
        /// The value that it provides.
        value: Option<Value>,
        /// The values that it will try, when they were read from another node; kept until the next fresh start of the controller.
        list: Option<Vec<Json>>,
    },
    /// A node could not start: a condition could not be evaluated, or a retry controller has no value to execute with.
    StartFailed {
        /// The node.
        node: NodeIndex,
        /// The attempt.
        attempt: Attempt,
        /// The failure.
        failure: Failure,
    },
    /// A condition was false: the node is ignored, and so are the nodes that the skip reaches.
    Ignored {
        /// The node.
        node: NodeIndex,
        /// The reach of the skip.
        reach: SkipReach,
    },
    /// A node could start, and its start is delayed until a time.
    Delayed {
        /// The node.
        node: NodeIndex,
        /// The start time.
        until: Timestamp,
    },
    /// The flow was changed.
    Edited {
        /// The new flow.
        flow: Arc<Flow>,
        /// The new revision.
        revision: Revision,
    },
    /// A new firing of the run is triggered.
    Triggered {
        /// The number of the firing.
        firing: Firing,
        /// The node that it starts with.
        entry: NodeIndex,
        /// The trigger.
        by: Trigger,
        /// The values of the trigger.
        values: Values,
    },
    /// A back edge that could have fired its target did not: its condition was false, or the maximum of firings was reached.
    BackEdgeSkipped {
        /// The index of the back edge in the flow.
        back_edge: u32,
        /// The reason, for people.
        reason: String,
    },
    /// The next time of a schedule was determined.
    Scheduled {
        /// The index of the schedule in the flow.
        schedule: u32,
        /// The next time; `None` means never again.
        next: Option<Timestamp>,
    },
    /// A trigger of the run fired nothing.
    TriggerSkipped {
        /// The node that the firing would have started with.
        entry: NodeIndex,
        /// The trigger.
        by: Trigger,
        /// The reason.
        reason: SkipReason,
        /// The number of such triggers.
        count: u64,
    },
    /// Missed times of a schedule joined its backlog, and will still fire.
    BacklogAdded {
        /// The index of the schedule in the flow.
        schedule: u32,
        /// The first missed time.
        from: Timestamp,
        /// All missed times are before this time.
        until: Timestamp,
    },
    /// The first time in the backlog of a schedule has fired.
    BacklogFired {
        /// The index of the schedule in the flow.
        schedule: u32,
        /// The next time of the same span; `None` when that was its last.
        next: Option<Timestamp>,
    },
    /// The clock that dates the run's records was set.
    ClockSet {
        /// The change of the clock, or its lower bound.
        by: ClockShift,
    },
    /// A waiting task was notified: from now on the same notification has no effect.
    NotificationReceived {
        /// The task.
        node: NodeIndex,
        /// The key of the notification.
        key: String,
    },
    /// The run was not done by its expiry: it is stopped and rolled back.
    Expired,
    /// The conditions of the links to a nested flow let it start.
    ScopeStarted {
        /// The begin node of the nested flow.
        node: NodeIndex,
    },
    /// Everything in a controller's flow was rolled back, and is pending again.
    Retrying {
        /// The controller.
        node: NodeIndex,
    },
    /// A person retries a permanently failed rollback.
    RollbackRetried {
        /// The node.
        node: NodeIndex,
    },
    /// A person has settled a permanently failed rollback.
    RollbackSkipped {
        /// The node.
        node: NodeIndex,
        /// The reason, in the person's words.
        reason: String,
    },
    /// The run, which was rolled back, restarts: every node is pending again.
    Reset,
    /// The run is to stop and be rolled back.
    CancelRequested,
    /// The run is to start nothing new.
    SuspendRequested,
    /// The run goes on.
    Resumed,
    /// The run reached this state: it ended or was suspended.
    RunStateChanged {
        /// Success, failure, rolled-back or suspended.
        state: RunState,
    },
}

/// The trigger of a firing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// The run started.
    Start,
    /// The back edge with this index in the flow.
    BackEdge(u32),
    /// A notification; each delivery of the same one has the same key.
    Notification {
        /// The key of the notification.
        key: Option<String>,
    },
    /// A schedule of the flow.
    Schedule(u32),
}

/// One attempt of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeAttempt {
    /// The node.
    pub node: NodeIndex,
    /// The firing.
    pub firing: Firing,
    /// The attempt.
    pub attempt: Attempt,
}

/// The consequence of a failure that the task's own retries cannot resolve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// This flow is rolled back, and its controller retries.
    Retry(ScopeIndex),
    /// The whole run is rolled back.
    RollbackRun,
}

impl Record {
    /// The digests that the record refers to: modules, and values too large to be inline.
    #[must_use]
    pub fn digests(&self) -> Vec<Digest> {
        fn stored_digests(values: &Values) -> impl Iterator<Item = Digest> + use<'_> {
            values.values().filter_map(Value::digest)
        }
        match &self.fact {
            Fact::RunStarted { flow, .. } | Fact::Edited { flow, .. } => flow.digests(),
            Fact::Succeeded { provided, .. }
            | Fact::Remembered { provided, .. }
            | Fact::LateOutcome { outcome: Some(Outcome::Provided(provided)), .. } => {
                stored_digests(provided).collect()
            }
            Fact::Triggered { values, .. } => stored_digests(values).collect(),
            Fact::ControllerRan { value, .. } => value.iter().filter_map(Value::digest).collect(),
            Fact::Started { .. }
            | Fact::Failed { .. }
            | Fact::Leased { .. }
            | Fact::Lost { .. }
            | Fact::LateOutcome { .. }
            | Fact::RolledBack { .. }
            | Fact::RollbackFailed { .. }
            | Fact::Expanded { .. }
            | Fact::RollbackNotNeeded { .. }
            | Fact::RollbackRetried { .. }
            | Fact::RollbackSkipped { .. }
            | Fact::FailureResolved { .. }
            | Fact::StartFailed { .. }
            | Fact::Ignored { .. }
            | Fact::ScopeStarted { .. }
            | Fact::Delayed { .. }
            | Fact::BackEdgeSkipped { .. }
            | Fact::Scheduled { .. }
            | Fact::TriggerSkipped { .. }
            | Fact::BacklogAdded { .. }
            | Fact::BacklogFired { .. }
            | Fact::ClockSet { .. }
            | Fact::NotificationReceived { .. }
            | Fact::Expired
            | Fact::Retrying { .. }
            | Fact::Reset
            | Fact::CancelRequested
            | Fact::SuspendRequested
            | Fact::Resumed
            | Fact::RunStateChanged { .. } => Vec::new(),
        }
    }
}

impl Fact {
    /// The node of the record; `None` when it concerns the whole run.
    #[must_use]
    pub const fn node(&self) -> Option<NodeIndex> {
        match self {
            Self::Started { attempt, .. }
            | Self::Succeeded { attempt, .. }
            | Self::Remembered { attempt, .. }
            | Self::Failed { attempt, .. }
            | Self::Leased { attempt, .. }
            | Self::Lost { attempt, .. }
            | Self::LateOutcome { attempt, .. }
            | Self::RolledBack { attempt, .. }
            | Self::RollbackFailed { attempt, .. } => Some(attempt.node),
            Self::Expanded { node, .. }
            | Self::RollbackNotNeeded { node, .. }
            | Self::FailureResolved { node, .. }
            | Self::ControllerRan { node, .. }
            | Self::StartFailed { node, .. }
            | Self::Ignored { node, .. }
            | Self::Delayed { node, .. }
            | Self::ScopeStarted { node, .. }
            | Self::Retrying { node, .. }
            | Self::RollbackRetried { node, .. }
            | Self::RollbackSkipped { node, .. } => Some(*node),
            Self::Triggered { entry, .. } | Self::TriggerSkipped { entry, .. } => Some(*entry),
            Self::RunStarted { .. }
            | Self::Edited { .. }
            | Self::BackEdgeSkipped { .. }
            | Self::Scheduled { .. }
            | Self::BacklogAdded { .. }
            | Self::BacklogFired { .. }
            | Self::ClockSet { .. }
            | Self::NotificationReceived { .. }
            | Self::Expired
            | Self::Reset
            | Self::CancelRequested
            | Self::SuspendRequested
            | Self::Resumed
            | Self::RunStateChanged { .. } => None,
        }
    }

    /// The name of the record's decision, for errors and displays.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RunStarted { .. } => "run-started",
            Self::Started { .. } => "started",
            Self::Succeeded { .. } => "succeeded",
            Self::Remembered { .. } => "remembered",
            Self::Failed { .. } => "failed",
            Self::Leased { .. } => "leased",
            Self::Lost { .. } => "lost",
            Self::LateOutcome { .. } => "late",
            Self::RolledBack { .. } => "rolled-back",
            Self::RollbackFailed { .. } => "rollback-failed",
            Self::Expanded { .. } => "expanded",
            Self::RollbackNotNeeded { .. } => "rollback-not-needed",
            Self::FailureResolved { .. } => "resolved",
            Self::ControllerRan { .. } => "controller-ran",
            Self::StartFailed { .. } => "not-started",
            Self::Ignored { .. } => "ignored",
            Self::ScopeStarted { .. } => "scope-started",
            Self::Delayed { .. } => "delayed",
            Self::Triggered { .. } => "triggered",
            Self::BackEdgeSkipped { .. } => "back-edge-skipped",
            Self::Scheduled { .. } => "scheduled",
            Self::TriggerSkipped { .. } => "skipped",
            Self::BacklogAdded { .. } => "backlogged",
            Self::BacklogFired { .. } => "caught-up",
            Self::ClockSet { .. } => "clock-set",
            Self::NotificationReceived { .. } => "notification-received",
            Self::Expired => "expired",
            Self::Edited { .. } => "edited",
            Self::Retrying { .. } => "retrying",
            Self::RollbackRetried { .. } => "rollback-retried",
            Self::RollbackSkipped { .. } => "rollback-skipped",
            Self::Reset => "reset",
            Self::CancelRequested => "cancel-requested",
            Self::SuspendRequested => "suspend-requested",
            Self::Resumed => "resumed",
            Self::RunStateChanged { .. } => "run-entered",
        }
    }
}
