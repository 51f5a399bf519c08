//! What the machine takes, and what it wants done.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use crate::{
    Action, Attempt, CallId, ClockShift, Digest, Execution, Failure, FailureSummary, Firing, Flow, FlowName, Json,
    NodeIndex, NodeName, Outcome, Revision, RunState, Timestamp, Value, ValueName, Values, WorkerName,
};

/// Something that happened, as the machine is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The run is to begin.
    Start,
    /// A worker answered a call.
    Signal(Signal),
    /// The run is to stop and be rolled back.
    Cancel,
    /// The run is to start nothing new.
    Suspend,
    /// What is still with the workers of a run that is being suspended is given up for now: it rests at once, and
    /// sends those calls again when it goes on.
    Abandon,
    /// The run is to go on.
    Resume,
    /// A worker has taken a long call under a lease.
    Leased {
        /// Which call.
        call: CallId,
        /// Who has it.
        worker: WorkerName,
    },
    /// The lease of a call was missed, or its worker gave it back.
    Lost {
        /// Which call.
        call: CallId,
        /// Who had it.
        worker: WorkerName,
    },
    /// The rollbacks that failed for good are to be tried again; of a run that was rolled back, the whole from the start.
    Retry,
    /// A person has settled a rollback that failed for good.
    Skip {
        /// The task.
        task: NodeName,
        /// Why, in the person's words.
        reason: String,
    },
    /// Somebody has notified a task that waits.
    Notify {
        /// The task.
        task: NodeName,
        /// What it comes to.
        result: TaskResult,
        /// What tells it from other notifications; the same one twice fires once.
        key: Option<String>,
    },
    /// A task of another flow has done something that the run may listen to.
    TaskNotification(TaskNotification),
    /// What was sent for has come, or cannot be had.
    Fetched {
        /// What for: the errand's id.
        id: CallId,
        /// What it came to.
        result: FetchResult,
    },
    /// No worker has begun a call that nobody wants any more: it was never handed out, or it waits in a queue.
    Withdrawn {
        /// Which call.
        call: CallId,
    },
    /// The run is to go on with another flow.
    Edit {
        /// What the flow looked like when the edit was made: it means nothing against another one.
        revision: Revision,
        /// The flow.
        flow: Arc<Flow>,
    },
    /// The clock was set: waits go on for as long as they would have, schedules go by the clock.
    ClockSet {
        /// By how much.
        by: ClockShift,
    },
    /// Time passed, or records have left work to go on with.
    Tick,
}

impl Event {
    /// What the event says and of which task, for people; nothing of its values.
    #[must_use]
    pub fn summary(&self) -> String {
        let of = |what: &str, call: &CallId| {
            format!("{what} of {:?}, firing {}, {:?} attempt {}", call.task, call.firing, call.action, call.attempt)
        };
        match self {
            Self::Start => "start".into(),
            Self::Signal(signal) => of("signal", &signal.call),
            Self::Cancel => "cancel".into(),
            Self::Suspend => "suspend".into(),
            Self::Abandon => "abandon".into(),
            Self::Resume => "resume".into(),
            Self::Leased { call, worker: _ } => of("lease", call),
            Self::Lost { call, worker: _ } => of("lost lease", call),
            Self::Retry => "retry".into(),
            Self::Skip { task, reason: _ } => format!("skip of {task:?}"),
            Self::Notify { task, result: _, key: _ } => format!("notification of {task:?}"),
            Self::TaskNotification(heard) => format!("notification of task {:?} of flow {:?}", heard.task, heard.flow),
            Self::Fetched { id, result: _ } => of("fetched value", id),
            Self::Withdrawn { call } => of("withdrawal", call),
            Self::Edit { revision, flow: _ } => format!("edit of revision {revision}"),
            Self::ClockSet { by } => format!("clock set by {} microseconds", by.as_micros()),
            Self::Tick => "tick".into(),
        }
    }
}

/// What a task of another flow did, as its notification tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskNotification {
    /// The flow.
    pub flow: FlowName,
    /// Its task.
    pub task: NodeName,
    /// What it came to.
    pub outcome: NotificationOutcome,
    /// The same each time that this notification comes.
    pub key: String,
}

/// What a task of another flow came to.
#[derive(Debug, Clone, PartialEq)]
pub enum NotificationOutcome {
    /// It succeeded, and provided these values, by its flow's names.
    Success(Values),
    /// It failed for good; why, as those see it who listen to failures.
    Failure(Value),
}

/// A worker's answer to one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// Which call.
    pub call: CallId,
    /// What came of it.
    pub answer: TaskResult,
    /// Which time of calling it this was.
    pub execution: Execution,
    /// Whether the job had been handed out before, to a worker that was lost with its answer: what that one did is not
    /// known.
    pub redelivered: bool,
    /// Who called it.
    pub worker: Option<WorkerName>,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskResult {
    /// It succeeded and left these values, by the names its module gives them.
    Succeeded(Values),
    /// It failed.
    Failed(Failure),
}

/// What is to be done once the records are durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Hand this call to the workers.
    Call(Box<Call>),
    /// Stop this call wherever it runs.
    Interrupt(CallId),
    /// Bring what stands in the store, for a task that is called for each element of a list.
    Fetch(Box<ValueFetch>),
    /// Tell everyone.
    Publish(Change),
}

/// Something that stands in the store, or has to, and that a run goes on with.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueFetch {
    /// What it is for: the task, and its attempt.
    pub id: CallId,
    /// What is to be brought.
    pub target: FetchTarget,
}

/// What is to be brought.
#[derive(Debug, Clone, PartialEq)]
pub enum FetchTarget {
    /// The elements of a list.
    List(Value),
    /// Lists of what the elements left, in the store where they are large.
    Results(BTreeMap<ValueName, Vec<Value>>),
}

/// What was brought, or why it cannot be had.
#[derive(Debug, Clone, PartialEq)]
pub enum FetchResult {
    /// The elements.
    List(Result<Arc<[Json]>, Failure>),
    /// The lists, by the flow's names.
    Results(Result<Values, Failure>),
}

/// One call for the workers.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Its identity.
    pub id: CallId,
    /// The task, in the flow.
    pub node: NodeIndex,
    /// When it was handed out: the guest's clock stands here.
    pub at: Timestamp,
    /// What it takes, by the module's names.
    pub inputs: Values,
    /// What a rollback is told of the apply.
    pub rollback: Option<RollbackCall>,
}

/// What a rollback is told.
#[derive(Debug, Clone, PartialEq)]
pub struct RollbackCall {
    /// What apply left, by the module's names.
    pub outcome: Outcome,
    /// The tasks that failed.
    pub failures: FailureSummary,
}

/// Something that is now so.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A node is in a new state.
    Node(NodeChange),
    /// The run is in a new state.
    Run {
        /// The state.
        state: RunState,
        /// Since when.
        at: Timestamp,
    },
    /// A firing of a run that fires more than once has begun, or has ended.
    Firing {
        /// Which.
        firing: Firing,
        /// Running, or what it ended in.
        state: RunState,
        /// Since when.
        at: Timestamp,
    },
}

/// A node is in a new state.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeChange {
    /// Task or retry controller.
    pub kind: NodeKind,
    /// Its name.
    pub name: NodeName,
    /// The state.
    pub state: State,
    /// The firing.
    pub firing: Firing,
    /// The attempt; of a controller, its try.
    pub attempt: Attempt,
    /// Since when.
    pub at: Timestamp,
    /// On success: what it left, by the flow's names.
    pub provides: Option<Values>,
    /// On failure and rollback-failure.
    pub failure: Option<Failure>,
    /// On a failure that is tried again: how long from now.
    pub retry_in: Option<Duration>,
    /// Who called it, where known.
    pub worker: Option<WorkerName>,
    /// The module, of a task.
    pub digest: Option<Digest>,
}

/// What a node is, to those who watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A task.
    Task,
    /// A retry controller.
    Retry,
}

impl NodeKind {
    /// The kind's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Retry => "retry",
        }
    }
}

/// The state of a node, as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It waits.
    Pending,
    /// Its apply is with the workers.
    Running,
    /// Its apply succeeded.
    Success,
    /// Its apply failed.
    Failure,
    /// What it did is being taken back.
    RollingBack,
    /// What it did was taken back.
    RolledBack,
    /// Taking back failed for good.
    RollbackFailure,
    /// A condition left it out.
    Ignored,
    /// A controller will execute again.
    Retrying,
}

impl State {
    /// Every state, in the order of the design.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Running,
        Self::Success,
        Self::Failure,
        Self::RollingBack,
        Self::RolledBack,
        Self::RollbackFailure,
        Self::Ignored,
        Self::Retrying,
    ];

    /// The state's word, the same in JSON, keys and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::RollingBack => "rolling-back",
            Self::RolledBack => "rolled-back",
            Self::RollbackFailure => "rollback-failure",
            Self::Ignored => "ignored",
            Self::Retrying => "retrying",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl Call {
    /// Apply or rollback.
    #[must_use]
    pub fn action(&self) -> Action {
        self.id.action
    }
}
