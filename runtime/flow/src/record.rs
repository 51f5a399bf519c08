//! The history of a run: what was decided, in order, never rewritten.

use std::sync::Arc;

use crate::{
    Action, Attempt, ClockShift, Digest, Execution, Failure, Firing, Flow, Json, NodeIndex, Outcome, Revision,
    ScopeIndex, SkipReach, Timestamp, Value, Values, WorkerName,
};

/// One line of a run's history.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// When it was decided.
    pub at: Timestamp,
    /// Which firing it is about; `None` for what is about the run, which in a run that fires once is the same.
    pub firing: Option<Firing>,
    /// What was decided.
    pub fact: Fact,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// The run begins. Always the first record, and only that.
    RunStarted {
        /// What it runs.
        flow: Arc<Flow>,
        /// The first revision.
        revision: Revision,
    },
    /// A task's attempt is handed to the workers.
    Started {
        /// Which call.
        attempt: NodeAttempt,
        /// Apply or rollback.
        action: Action,
    },
    /// An apply succeeded.
    Succeeded {
        /// Which call.
        attempt: NodeAttempt,
        /// What it left, by the flow's names.
        provided: Values,
        /// Which time of calling it this was.
        execution: Execution,
        /// Who called it.
        worker: Option<WorkerName>,
    },
    /// An apply failed.
    Failed {
        /// Which call.
        attempt: NodeAttempt,
        /// Why.
        failure: Failure,
        /// When it is tried again; `None` when it failed for good.
        retry_at: Option<Timestamp>,
        /// Which time of calling it this was; `None` where no worker has answered.
        execution: Option<Execution>,
        /// Whether the attempt had begun before, on a worker that was lost with its answer.
        redelivered: bool,
        /// Who called it.
        worker: Option<WorkerName>,
    },
    /// A worker has taken a long call under a lease: it accepted the job, and sends heartbeats instead.
    Leased {
        /// Which call.
        attempt: NodeAttempt,
        /// Apply or rollback.
        action: Action,
        /// Who has it.
        worker: WorkerName,
    },
    /// The lease of a call was missed, or its worker gave it back: another attempt follows under a new number. What the
    /// lost one did is not known.
    Lost {
        /// Which call.
        attempt: NodeAttempt,
        /// Apply or rollback.
        action: Action,
        /// Who had it.
        worker: Option<WorkerName>,
    },
    /// A lost attempt was answered after all, or an execution of one that is answered has come to its end. That changes nothing,
    /// unless what it applied, or began to, was rolled back meanwhile: then it is rolled back again.
    LateOutcome {
        /// Which call.
        attempt: NodeAttempt,
        /// Apply or rollback.
        action: Action,
        /// Which time of calling it this was; `None` where its lease was missed and it has not answered.
        execution: Option<Execution>,
        /// What an apply came to, by the flow's names; `None` of a rollback.
        outcome: Option<Outcome>,
        /// Who answered.
        worker: Option<WorkerName>,
    },
    /// What a task did was taken back.
    RolledBack {
        /// Which call.
        attempt: NodeAttempt,
        /// Who called it.
        worker: Option<WorkerName>,
    },
    /// A rollback failed.
    RollbackFailed {
        /// Which call.
        attempt: NodeAttempt,
        /// Why.
        failure: Failure,
        /// When it is tried again; `None` when it failed for good.
        retry_at: Option<Timestamp>,
        /// Who called it.
        worker: Option<WorkerName>,
    },
    /// The list is known that a task is called for.
    Expanded {
        /// The task.
        node: NodeIndex,
        /// The list.
        list: Arc<[Json]>,
    },
    /// A node without a guest to call, a retry controller included, passed through its rollback.
    RollbackNotNeeded {
        /// The node.
        node: NodeIndex,
    },
    /// What a failure leads to.
    FailureResolved {
        /// The node that failed for good.
        node: NodeIndex,
        /// What the controllers answered.
        resolution: Resolution,
    },
    /// A retry controller executed.
    ControllerRan {
        /// The controller.
        node: NodeIndex,
        /// Its try.
        attempt: Attempt,
        /// What it provides.
        value: Option<Value>,
        /// The values it will try, when they were read from another node; kept until it is started anew.
        list: Option<Vec<Json>>,
    },
    /// A node could not start: a condition could not be decided, or a retry controller has nothing to execute with.
    StartFailed {
        /// The node.
        node: NodeIndex,
        /// The attempt, or the controller's try.
        attempt: Attempt,
        /// Why.
        failure: Failure,
    },
    /// A condition said no: the node is left out, and so is what the no reaches.
    Ignored {
        /// The node.
        node: NodeIndex,
        /// How far the no reaches.
        reach: SkipReach,
    },
    /// A node could start, and starts at a time.
    Delayed {
        /// The node.
        node: NodeIndex,
        /// When.
        until: Timestamp,
    },
    /// The flow was changed.
    Edited {
        /// What the run goes on with.
        flow: Arc<Flow>,
        /// What the flow looks like from now on.
        revision: Revision,
    },
    /// The run is triggered once more.
    Triggered {
        /// Which time this is.
        firing: Firing,
        /// What it begins with.
        entry: NodeIndex,
        /// What triggered it.
        by: Trigger,
        /// What came with that.
        values: Values,
    },
    /// A link that could have fired its target did not: its condition said no, or there were enough firings.
    BackEdgeSkipped {
        /// Which of the flow's links.
        back_edge: u32,
        /// Why, for people.
        reason: String,
    },
    /// When a schedule fires next.
    Scheduled {
        /// Which of the flow's schedules.
        schedule: u32,
        /// When; `None` never again.
        next: Option<Timestamp>,
    },
    /// Something came that triggers the run, and fires nothing.
    TriggerSkipped {
        /// What it would have begun with.
        entry: NodeIndex,
        /// What came.
        by: Trigger,
        /// Why nothing fires.
        reason: SkipReason,
        /// How many of them.
        count: u64,
    },
    /// Times of a schedule passed that are still to fire.
    BacklogAdded {
        /// Which of the flow's schedules.
        schedule: u32,
        /// The first of them.
        from: Timestamp,
        /// They come before this.
        until: Timestamp,
    },
    /// The first time in the backlog of a schedule has fired.
    BacklogFired {
        /// Which of the flow's schedules.
        schedule: u32,
        /// The next one of the same span; `None` when that was its last.
        next: Option<Timestamp>,
    },
    /// The clock by which the run's times are written was set.
    ClockSet {
        /// By how much, or by how much at least.
        by: ClockShift,
    },
    /// Somebody has notified a task that waits: the same notification means nothing from now on.
    NotificationReceived {
        /// The task.
        node: NodeIndex,
        /// The key that tells the notification from others.
        key: String,
    },
    /// The run was not done in the time it has: it is stopped and rolled back.
    Expired,
    /// The conditions of the links to a nested flow let it begin.
    ScopeStarted {
        /// What begins it.
        node: NodeIndex,
    },
    /// Everything in a controller's flow is rolled back, and is pending again.
    Retrying {
        /// The controller.
        node: NodeIndex,
    },
    /// A person wants a rollback that failed for good to be tried again.
    RollbackRetried {
        /// The node.
        node: NodeIndex,
    },
    /// A person has settled a rollback that failed for good.
    RollbackSkipped {
        /// The node.
        node: NodeIndex,
        /// Why, in the person's words.
        reason: String,
    },
    /// The run, which was rolled back, begins from the start: every node is pending again.
    Reset,
    /// The run is to stop and to be rolled back.
    CancelRequested,
    /// The run is to start nothing new.
    SuspendRequested,
    /// The run goes on.
    Resumed,
    /// The run reached this state: its end, or a rest.
    RunStateChanged {
        /// Success, failure, rolled-back or suspended.
        state: RunState,
    },
}

/// What triggers a run once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// The run began anew.
    Start,
    /// A link of the flow: which of its turns.
    BackEdge(u32),
    /// Somebody has notified it; the key is the same each time the same notification comes.
    Notification {
        /// What tells it from other notifications.
        key: Option<String>,
    },
    /// A schedule of the flow.
    Schedule(u32),
}

/// Why a trigger fires nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkipReason {
    /// As many firings as may wait for their turn did.
    QueueFull,
    /// An earlier firing of the schedule was under way, and its `overlap` is `skip`.
    Overlap,
    /// Nobody drove the run when the time came, and the schedule's `missed` does not want it.
    Missed,
}

impl SkipReason {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::QueueFull, Self::Overlap, Self::Missed];

    /// The reason's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "full",
            Self::Overlap => "overlap",
            Self::Missed => "missed",
        }
    }
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

/// What a failure that cannot be retried by its task leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// This flow is rolled back, and its controller tries again.
    Retry(ScopeIndex),
    /// The whole run is rolled back.
    RollbackRun,
}

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunState {
    /// Not started.
    Pending,
    /// Under way.
    Running,
    /// Every node is in success or ignored.
    Success,
    /// A rollback failed: only a person can settle it.
    Failure,
    /// What was applied was taken back.
    RolledBack,
    /// Told to stop; running attempts may finish.
    Suspending,
    /// Stopped with work left.
    Suspended,
}

impl RunState {
    /// Every state, in the order of the design.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Running,
        Self::Success,
        Self::Failure,
        Self::RolledBack,
        Self::Suspending,
        Self::Suspended,
    ];

    /// The state's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::RolledBack => "rolled-back",
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
        }
    }

    /// Whether the run has ended; a suspended one has not.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Success | Self::Failure | Self::RolledBack => true,
            Self::Pending | Self::Running | Self::Suspending | Self::Suspended => false,
        }
    }
}

impl std::fmt::Display for RunState {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(self.as_str())
    }
}

impl Record {
    /// What of the store the record refers to: modules, and values too large to stand in it.
    #[must_use]
    pub fn digests(&self) -> Vec<Digest> {
        fn stored_digests(values: &Values) -> impl Iterator<Item = Digest> + use<'_> {
            values.values().filter_map(Value::digest)
        }
        match &self.fact {
            Fact::RunStarted { flow, .. } | Fact::Edited { flow, .. } => flow.digests(),
            Fact::Succeeded { provided, .. } | Fact::LateOutcome { outcome: Some(Outcome::Provided(provided)), .. } => {
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
    /// The node that the record is about; `None` of what concerns the whole run.
    #[must_use]
    pub const fn node(&self) -> Option<NodeIndex> {
        match self {
            Self::Started { attempt, .. }
            | Self::Succeeded { attempt, .. }
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

    /// What the record says, in a word, for errors and displays.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RunStarted { .. } => "run-started",
            Self::Started { .. } => "started",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Leased { .. } => "leased",
            Self::Lost { .. } => "lost",
            Self::LateOutcome { .. } => "late",
            Self::RolledBack { .. } => "rolled-back",
            Self::RollbackFailed { .. } => "rollback-failed",
            Self::Expanded { .. } => "expanded",
            Self::RollbackNotNeeded { .. } => "passed-rollback",
            Self::FailureResolved { .. } => "resolved",
            Self::ControllerRan { .. } => "controller-ran",
            Self::StartFailed { .. } => "not-started",
            Self::Ignored { .. } => "ignored",
            Self::ScopeStarted { .. } => "begun",
            Self::Delayed { .. } => "delayed",
            Self::Triggered { .. } => "fired",
            Self::BackEdgeSkipped { .. } => "unfired",
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
