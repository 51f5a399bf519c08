//! The events that the machine takes, and the commands that it returns.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use flow::{
    Action, Attempt, CallId, ClockShift, Digest, Execution, Failure, FailureSummary, Firing, Flow, Json, NodeIndex,
    NodeKind, NodeName, Outcome, Revision, RunState, Signal, State, TaskNotification, TaskResult, Timestamp, Value,
    ValueName, Values, WorkerName,
};

/// An event for the machine of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Starts the run.
    Start,
    /// A worker answered a call.
    Signal(Signal),
    /// Stops the run and rolls it back.
    Cancel,
    /// Suspends the run: it starts nothing new.
    Suspend,
    /// Gives up for now the calls that are still with the workers of a run that is being suspended. The run is suspended at
    /// once, and sends those calls again when it resumes.
    Abandon,
    /// Resumes the run.
    Resume,
    /// A worker has taken a long call under a lease.
    Leased {
        /// The call.
        call: CallId,
        /// The worker that holds the lease.
        worker: WorkerName,
    },
    /// The lease of a call expired, or its worker returned it.
    Lost {
        /// The call.
        call: CallId,
        /// The worker that held the lease.
        worker: WorkerName,
    },
    /// A worker was lost with the job of a call, before another worker returned the job: the lost one may have executed the call.
    LostDelivery {
        /// The call.
        call: CallId,
        /// The number that stands for that execution. The same report has the same number.
        execution: Execution,
    },
    /// Retries the permanently failed rollbacks; a run that was rolled back restarts from the beginning.
    Retry,
    /// Skips a permanently failed rollback that a person has settled.
    Skip {
        /// The task.
        task: NodeName,
        /// The reason, in the person's words.
        reason: String,
    },
    /// Notifies a waiting task.
    Notify {
        /// The task.
        task: NodeName,
        /// The result that the notification reports.
        result: TaskResult,
        /// The key of the notification; the same key twice fires once.
        key: Option<String>,
    },
    /// Reports the result of a task of another flow that the run may listen to.
    TaskNotification {
        /// The notification.
        notification: TaskNotification,
        /// Which of the places where the run listens are decided.
        part: NotificationPart,
    },
    /// Delivers the result of a fetch.
    Fetched {
        /// The id of the fetch.
        id: CallId,
        /// The fetched values, or the failure.
        result: FetchResult,
    },
    /// The result of a call is remembered, so no worker has to make the call.
    Remembered {
        /// The call, whose job was never dispatched.
        call: CallId,
        /// Its values, by the module's names.
        values: Values,
        /// The call that computed them.
        computed_by: CallId,
    },
    /// A call that is no longer needed was withdrawn before any worker started it: it was never dispatched, or it waits in a
    /// queue.
    Withdrawn {
        /// The call.
        call: CallId,
    },
    /// Replaces the flow of the run.
    Edit {
        /// The revision that the edit was made against; against another revision the edit has no effect.
        revision: Revision,
        /// The new flow.
        flow: Arc<Flow>,
    },
    /// The clock was set: waits keep their remaining length, schedules follow the clock.
    ClockSet {
        /// The change of the clock.
        by: ClockShift,
    },
    /// Time has passed, or a step left work that the next one continues.
    Tick,
}

impl Event {
    /// Summarizes the event and its task, for people; it contains no values.
    #[must_use]
    pub fn summary(&self) -> String {
        let describe = |event: &str, call: &CallId| {
            format!("{event} of {:?}, firing {}, {:?} attempt {}", call.task, call.firing, call.action, call.attempt)
        };
        match self {
            Self::Start => "start".into(),
            Self::Signal(signal) => describe("signal", &signal.call),
            Self::Cancel => "cancel".into(),
            Self::Suspend => "suspend".into(),
            Self::Abandon => "abandon".into(),
            Self::Resume => "resume".into(),
            Self::Leased { call, worker: _ } => describe("lease", call),
            Self::Lost { call, worker: _ } => describe("lost lease", call),
            Self::LostDelivery { call, execution: _ } => describe("lost delivery", call),
            Self::Retry => "retry".into(),
            Self::Skip { task, reason: _ } => format!("skip of {task:?}"),
            Self::Notify { task, result: _, key: _ } => format!("notification of {task:?}"),
            Self::TaskNotification { notification, part: _ } => {
                format!("notification of task {:?} of flow {:?}", notification.task, notification.flow)
            }
            Self::Fetched { id, result: _ } => describe("fetched value", id),
            Self::Remembered { call, values: _, computed_by: _ } => describe("remembered result", call),
            Self::Withdrawn { call } => describe("withdrawal", call),
            Self::Edit { revision, flow: _ } => format!("edit of revision {revision}"),
            Self::ClockSet { by } => format!("clock set by {} microseconds", by.as_micros()),
            Self::Tick => "tick".into(),
        }
    }
}

/// The part of a notification of another flow's task that one step decides: each place where the run listens takes the values, and a run
/// may listen in thousands of places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationPart {
    /// All places in one step, however many bytes they take together.
    Whole,
    /// The first places, as many as the step may have bytes, and at most some thousands. [`crate::Step::rest`] has what is left.
    First,
    /// The places from here on, as many as the step may have bytes, and at most some thousands.
    From(NotificationCursor),
}

/// The places of a notification that are not decided yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotificationCursor {
    /// The last firing that existed when the first part was decided. Later firings began behind the notification.
    pub(crate) last: Option<Firing>,
    pub(crate) next: ListeningPlace,
    /// The revision whose listeners have the numbers in `next`.
    pub(crate) revision: Revision,
}

/// A place where a run listens to a notification. Their order is that in which they take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ListeningPlace {
    /// A task that waits in a firing, for a listener of the flow.
    Wait { firing: Firing, listener: usize },
    /// A task that the notification fires.
    Fire { listener: usize },
}

/// An action to execute once the records are durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Dispatch this call to the workers.
    Call(Box<Call>),
    /// Stop this call wherever it runs.
    Interrupt(CallId),
    /// Fetch values from the store, or put them there, for a `for_each` task.
    Fetch(Box<ValueFetch>),
    /// Publish this change.
    Publish(Change),
}

/// Values in the store, or to be put there, that a run needs to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueFetch {
    /// The identity of the fetch: the task, and its attempt.
    pub id: CallId,
    /// The values to fetch.
    pub target: FetchTarget,
}

/// The values to fetch.
#[derive(Debug, Clone, PartialEq)]
pub enum FetchTarget {
    /// The elements of a list.
    List {
        /// The list.
        list: Value,
        /// The maximum number of elements.
        most: u32,
    },
    /// Lists of the elements' values; large lists are put into the store.
    Results(BTreeMap<ValueName, Vec<Value>>),
}

/// The result of a fetch.
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
    /// The identity of the call.
    pub id: CallId,
    /// The node of the task in the flow.
    pub node: NodeIndex,
    /// The dispatch time: the guest's clock shows this time.
    pub at: Timestamp,
    /// The inputs, by the module's names.
    pub inputs: Values,
    /// The additional input of a rollback.
    pub rollback: Option<RollbackCall>,
}

/// The additional input of a rollback.
#[derive(Debug, Clone, PartialEq)]
pub struct RollbackCall {
    /// The outcome of the apply, by the module's names.
    pub outcome: Outcome,
    /// The tasks that failed.
    pub failures: FailureSummary,
}

/// A change to publish.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A node is in a new state.
    Node(NodeChange),
    /// The run is in a new state.
    Run {
        /// The state.
        state: RunState,
        /// The time of the change.
        at: Timestamp,
    },
    /// A firing of a run that fires more than once has started or ended.
    Firing {
        /// The firing.
        firing: Firing,
        /// Running, or the final state.
        state: RunState,
        /// The time of the change.
        at: Timestamp,
    },
}

/// The new state of a node.
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
    /// The attempt; for a controller, its own attempt.
    pub attempt: Attempt,
    /// The time of the change.
    pub at: Timestamp,
    /// On success: its values, by the flow's names.
    pub provides: Option<Values>,
    /// On failure and rollback-failure.
    pub failure: Option<Failure>,
    /// On a failure that is retried: the delay until then.
    pub retry_in: Option<Duration>,
    /// The worker that executed the call, where known.
    pub worker: Option<WorkerName>,
    /// On a success without a call: the call that computed the remembered result. In a box, since few changes have it.
    pub computed_by: Option<Box<CallId>>,
    /// The module of a task.
    pub digest: Option<Digest>,
    /// Whether a notification triggered the firing, and the firing has neither called a guest nor waited so far. Flows that
    /// listen to one another without any call would notify one another for ever, as fast as an engine can.
    pub is_of_empty_firing: bool,
}

impl Call {
    /// Apply or rollback.
    #[must_use]
    pub fn action(&self) -> Action {
        self.id.action
    }
}
