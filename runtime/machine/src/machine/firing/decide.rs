//! Turns an event into records. Nothing here changes the machine.

mod answer;
mod late;
mod rollback_step;
mod tick;

use crate::{Event, Fact, NodeAttempt};
use flow::{
    Action, Attempt, CallId, Execution, Failure, FailureKind, NodeIndex, NodeName, RetryPolicy, RunState, Signal, Task,
    TaskResult, Timestamp, Values,
};

use super::{
    super::{MAX_STEP_RECORDS, condition_budget::ConditionBudget},
    FiringMachine,
    node::Intention,
};

/// The execution that reported a failure.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExecutionInfo {
    pub(super) execution: Option<Execution>,
    /// Whether another execution of the attempt may have happened.
    pub(super) redelivered: bool,
}

impl ExecutionInfo {
    /// No worker reported the failure: nothing was executed, or it is unknown whether something was.
    pub(super) const NONE: Self = Self { execution: None, redelivered: false };

    fn by(signal: &Signal) -> Self {
        Self { execution: Some(signal.execution), redelivered: signal.redelivered }
    }
}

impl FiringMachine {
    /// Decides which records an event leads to in this firing. Changes nothing.
    pub(in crate::machine) fn decide(&self, now: Timestamp, event: &Event, budget: &ConditionBudget) -> Vec<Fact> {
        match (self.state, event) {
            (RunState::Pending, _) => Vec::new(),
            (RunState::Running, Event::Cancel) if !self.rolling_back() => vec![Fact::CancelRequested],
            // The first firing of a persistent flow stays until the run is asked to end.
            (RunState::Success, Event::Cancel) if self.flow.triggers.is_some() => vec![Fact::CancelRequested],
            (RunState::Suspending | RunState::Suspended, Event::Cancel) if !self.rolling_back() => {
                vec![Fact::Resumed, Fact::CancelRequested]
            }
            (RunState::Running, Event::Suspend) => vec![Fact::SuspendRequested],
            (RunState::Suspending | RunState::Suspended, Event::Resume) => vec![Fact::Resumed],
            (RunState::Running | RunState::Suspending, Event::Signal(signal)) => self.decide_signal(now, signal),
            (
                RunState::Suspended | RunState::Success | RunState::Failure | RunState::RolledBack,
                Event::Signal(signal),
            ) => self.decide_late(signal),
            (_, Event::Leased { call, worker }) => self.decide_lease(call, worker),
            (_, Event::Lost { call, worker }) => self.decide_lost(now, call, worker),
            (_, Event::LostDelivery { call, execution }) => self.decide_lost_delivery(call, *execution),
            (RunState::Running | RunState::Suspending, Event::Fetched { id, result }) => {
                self.decide_fetched(id, result)
            }
            (RunState::Running | RunState::Suspending, Event::Remembered { call, values, computed_by }) => {
                self.decide_remembered(call, values, computed_by)
            }
            (RunState::Running | RunState::Suspending, Event::Withdrawn { call }) => self.decide_withdrawn(now, call),
            (RunState::Failure, Event::Retry) => {
                self.failed_rollbacks.iter().map(|node| Fact::RollbackRetried { node: *node }).collect()
            }
            (RunState::RolledBack, Event::Retry) => vec![Fact::Reset],
            (RunState::Failure, Event::Skip { task, reason }) => self.decide_skip(task, reason),
            (RunState::Running | RunState::Suspending, Event::Notify { task, result, .. }) => {
                self.decide_notify(task, result)
            }
            (RunState::Running, Event::Tick) => self.decide_tick(now, budget),
            (RunState::Suspending, Event::Abandon) => vec![Fact::RunStateChanged { state: RunState::Suspended }],
            (RunState::Suspending, Event::Tick)
                if self.outstanding.is_empty()
                    && self.missing_inputs.is_empty()
                    && !self.fetches.keys().any(|index| self.is_fetching(*index)) =>
            {
                vec![Fact::RunStateChanged { state: self.end().unwrap_or(RunState::Suspended) }]
            }
            (
                RunState::Running
                | RunState::Suspending
                | RunState::Suspended
                | RunState::Success
                | RunState::Failure
                | RunState::RolledBack,
                Event::Start
                | Event::Cancel
                | Event::Suspend
                | Event::Abandon
                | Event::Resume
                | Event::Retry
                | Event::Skip { .. }
                | Event::Notify { .. }
                | Event::Fetched { .. }
                | Event::Remembered { .. }
                | Event::Withdrawn { .. }
                | Event::TaskNotification { .. }
                | Event::Edit { .. }
                | Event::ClockSet { .. }
                | Event::Tick,
            ) => Vec::new(),
        }
    }

    fn decide_skip(&self, task: &NodeName, reason: &str) -> Vec<Fact> {
        let stuck = self.index_of(task).filter(|node| self.failed_rollbacks.contains(node));
        stuck.map(|node| Fact::RollbackSkipped { node, reason: reason.into() }).into_iter().collect()
    }

    pub(in crate::machine) fn rolling_back(&self) -> bool {
        self.scopes[0].intention == Intention::Rollback
    }

    fn decide_signal(&self, now: Timestamp, signal: &Signal) -> Vec<Fact> {
        let Some(index) = self.node_of_call(&signal.call) else { return Vec::new() };
        if !self.is_outstanding(index, &signal.call) {
            return self.decide_late(signal);
        }
        let Some(task) = self.task_called(index) else { return Vec::new() };
        let attempt = self.node_attempt(index, signal.call.attempt);
        let worker = signal.worker.clone();
        let answer = answer::bounded_answer(task, signal);
        let fact = match (signal.call.action, &*answer) {
            (Action::Apply, TaskResult::Succeeded(values)) => match self.map_outputs(index, task, values) {
                Ok(provided) => Fact::Succeeded { attempt, provided, execution: signal.execution, worker },
                Err(failure) => self.failed(now, attempt, failure, ExecutionInfo::by(signal), worker),
            },
            (Action::Rollback, TaskResult::Succeeded(_)) => Fact::RolledBack { attempt, worker },
            (Action::Apply, TaskResult::Failed(failure)) => {
                self.failed(now, attempt, failure.clone(), ExecutionInfo::by(signal), worker)
            }
            (Action::Rollback, TaskResult::Failed(failure)) => {
                let retry_at = self.retry_at(now, attempt, failure);
                Fact::RollbackFailed { attempt, failure: failure.clone(), retry_at, worker }
            }
        };
        vec![fact]
    }

    /// The result of a call is remembered. It has no effect on a call that a worker has, or that has other outputs.
    fn decide_remembered(&self, call: &CallId, values: &Values, computed_by: &CallId) -> Vec<Fact> {
        let index =
            self.node_of_call(call).filter(|index| self.is_outstanding(*index, call) && !self.is_leased(*index));
        let Some((index, task)) = index.and_then(|index| Some((index, self.task_called(index)?))) else {
            return Vec::new();
        };
        let provided = match call.action {
            Action::Apply => self.map_outputs(index, task, values).ok(),
            Action::Rollback => None,
        };
        let fact = |provided| Fact::Remembered {
            attempt: self.node_attempt(index, call.attempt),
            provided,
            computed_by: computed_by.clone(),
        };
        provided.map(fact).into_iter().collect()
    }

    /// No worker has started the call, so it needs no rollback, unless a record says that a lost worker may have executed it. A worker that
    /// started it unnoticed sends a late outcome.
    fn decide_withdrawn(&self, now: Timestamp, call: &CallId) -> Vec<Fact> {
        let Some(index) = self.withdrawable_node(call) else { return Vec::new() };
        let message = match self.has_lost_delivery(call) {
            true => "no worker started it again after one was lost",
            false => "it was withdrawn before any worker started it",
        };
        let (attempt, failure) =
            (self.node_attempt(index, call.attempt), Failure::new(FailureKind::Cancelled, message));
        vec![self.failed(now, attempt, failure, ExecutionInfo::NONE, None)]
    }

    pub(super) fn failed(
        &self,
        now: Timestamp,
        attempt: NodeAttempt,
        failure: Failure,
        info: ExecutionInfo,
        worker: Option<flow::WorkerName>,
    ) -> Fact {
        // Once the flow is to be rolled back, another attempt would only delay the rollback.
        let retry_at = if self.may_retry(attempt.node) { self.retry_at(now, attempt, &failure) } else { None };
        let ExecutionInfo { execution, redelivered } = info;
        Fact::Failed { attempt, failure, retry_at, execution, redelivered, worker }
    }

    fn retry_at(&self, now: Timestamp, attempt: NodeAttempt, failure: &Failure) -> Option<Timestamp> {
        if !failure.may_retry() {
            return None;
        }
        let failed = self.node(attempt.node).consecutive_failures.saturating_add(1);
        let pause = self.policy(attempt.node).delay(failed, self.seed(attempt))?;
        Some(now.after(pause))
    }

    fn policy(&self, index: NodeIndex) -> RetryPolicy {
        self.task_called(index).map(|task| task.retry).unwrap_or_default()
    }

    /// A seed that differs between attempts and runs, and is the same at every replay: the 64-bit FNV-1a hash of the run's
    /// id with node and attempt mixed in.
    fn seed(&self, attempt: NodeAttempt) -> u64 {
        let numbers = [u64::from(attempt.node.0), attempt.firing.get(), u64::from(attempt.attempt.get())];
        let bytes = self.run.as_str().bytes().chain(numbers.into_iter().flat_map(u64::to_le_bytes));
        bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
    }

    /// The values of an apply, by the flow's names. Element values go into JSON lists, so they cannot be bytes: the first
    /// element that provides bytes fails, before the other elements are called in vain.
    fn map_outputs(&self, index: NodeIndex, task: &Task, values: &Values) -> Result<Values, Failure> {
        let provided = to_flow_names(task, values)?;
        let bytes = provided.iter().find(|(_, value)| value.is_bytes()).filter(|_| self.element(index).is_some());
        let Some((name, _)) = bytes else { return Ok(provided) };
        let message = format!(
            "it left {name:?} as bytes, and the results for a list are a list of JSON: provide the bytes as a base64 text"
        );
        Err(Failure::new(FailureKind::InvalidOutput, message))
    }

    pub(super) fn node_attempt(&self, node: NodeIndex, attempt: Attempt) -> NodeAttempt {
        NodeAttempt { node, firing: self.node(node).firing, attempt }
    }
}

/// The values of an apply, by the flow's names. Values that the flow does not use are dropped.
pub(super) fn to_flow_names(task: &Task, values: &Values) -> Result<Values, Failure> {
    let mut provided = Values::new();
    for (own_name, flow_name) in &task.provides {
        let Some(value) = values.get(own_name) else {
            let message = format!("{own_name:?} is declared and missing");
            return Err(Failure::new(FailureKind::InvalidOutput, message));
        };
        provided.insert(flow_name.clone(), value.clone());
    }
    Ok(provided)
}
