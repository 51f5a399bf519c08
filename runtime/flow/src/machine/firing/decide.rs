//! Turns an event into records. Nothing here changes the machine.

use crate::{
    Action, Attempt, CallId, Event, Execution, Fact, Failure, FailureKind, InputUse, Json, NodeAttempt, NodeIndex,
    NodeName, Otherwise, Resolution, RetryPolicy, Role, RunState, Signal, Size, StartTime, Strategy, Task,
    TaskNotification, TaskResult, Timestamp, Value, ValueName, Values, Wait,
};

use super::{
    super::MAX_STEP_RECORDS,
    FiringMachine,
    late_outcomes::lost,
    node::{Intention, NodeState},
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
    pub(in crate::machine) fn decide(&self, now: Timestamp, event: &Event) -> Vec<Fact> {
        match (self.state, event) {
            (RunState::Running, Event::Cancel) if !self.rolling_back() => vec![Fact::CancelRequested],
            // The first firing of a persistent flow stays until the run is told to end.
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
            (
                RunState::Running
                | RunState::Suspending
                | RunState::Suspended
                | RunState::Success
                | RunState::Failure
                | RunState::RolledBack,
                Event::Leased { call, worker },
            ) => self.decide_lease(call, worker),
            (
                RunState::Running
                | RunState::Suspending
                | RunState::Suspended
                | RunState::Success
                | RunState::Failure
                | RunState::RolledBack,
                Event::Lost { call, worker },
            ) => self.decide_lost(now, call, worker),
            (RunState::Running | RunState::Suspending, Event::Fetched { id, result: brought }) => {
                self.decide_fetched(id, brought)
            }
            (RunState::Running | RunState::Suspending, Event::Withdrawn { call }) => self.decide_withdrawn(now, call),
            (RunState::Failure, Event::Retry) => {
                self.failed_rollbacks.iter().map(|node| Fact::RollbackRetried { node: *node }).collect()
            }
            (RunState::RolledBack, Event::Retry) => vec![Fact::Reset],
            (RunState::Failure, Event::Skip { task, reason }) => match self.index_of(task) {
                Some(node) if self.failed_rollbacks.contains(&node) => {
                    vec![Fact::RollbackSkipped { node, reason: reason.clone() }]
                }
                Some(_) | None => Vec::new(),
            },
            (RunState::Running | RunState::Suspending, Event::Notify { task, result: answer, .. }) => {
                self.decide_notify(task, answer)
            }
            (RunState::Running, Event::Tick) => self.decide_tick(now),
            (RunState::Suspending, Event::Abandon) => vec![Fact::RunStateChanged { state: RunState::Suspended }],
            (RunState::Suspending, Event::Tick)
                if self.outstanding.is_empty()
                    && self.missing_inputs.is_empty()
                    && !self.fetches.keys().any(|index| self.is_fetching(*index)) =>
            {
                vec![Fact::RunStateChanged { state: self.end().unwrap_or(RunState::Suspended) }]
            }
            (
                RunState::Pending
                | RunState::Running
                | RunState::Suspending
                | RunState::Suspended
                | RunState::Success
                | RunState::Failure
                | RunState::RolledBack,
                Event::Start
                | Event::Signal(_)
                | Event::Cancel
                | Event::Suspend
                | Event::Abandon
                | Event::Resume
                | Event::Leased { .. }
                | Event::Lost { .. }
                | Event::Retry
                | Event::Skip { .. }
                | Event::Notify { .. }
                | Event::Fetched { .. }
                | Event::Withdrawn { .. }
                | Event::TaskNotification(_)
                | Event::Edit { .. }
                | Event::ClockSet { .. }
                | Event::Tick,
            ) => Vec::new(),
        }
    }

    fn decide_notify(&self, task: &NodeName, answer: &TaskResult) -> Vec<Fact> {
        let Some(index) = self.tasks.get(task).copied().filter(|index| self.waiting_tasks.contains(index)) else {
            return Vec::new();
        };
        let Role::Wait(wait) = &self.flow.node(index).role else { return Vec::new() };
        let attempt = self.node_attempt(index, self.node(index).attempt());
        match answer {
            TaskResult::Succeeded(values) => match brought(wait, values) {
                // No worker executes this, so it cannot execute twice.
                Ok(provided) => {
                    vec![Fact::Succeeded { attempt, provided, execution: Execution::new(0), worker: None }]
                }
                Err(_) => Vec::new(),
            },
            TaskResult::Failed(failure) => {
                let (failure, retry_at, execution) = (failure.clone(), None, None);
                vec![Fact::Failed { attempt, failure, retry_at, execution, redelivered: false, worker: None }]
            }
        }
    }

    /// A notification of a task in another flow completes the tasks that wait for it here, if it contains their values.
    pub(in crate::machine) fn decide_task_notification(&self, heard: &TaskNotification) -> Vec<Fact> {
        if self.state.is_final() {
            return Vec::new();
        }
        let mut facts = Vec::new();
        for listen in self.flow.listeners.iter().filter(|listen| listen.is_for(heard)) {
            let node = self.flow.node(listen.to);
            let Role::Wait(wait) = &node.role else { continue };
            let values = heard.values().into_iter().filter(|(name, _)| wait.provides.contains_key(name)).collect();
            let answer = TaskResult::Succeeded(values);
            facts.extend(self.decide_notify(&node.name, &answer));
        }
        facts
    }

    pub(in crate::machine) fn rolling_back(&self) -> bool {
        self.scopes[0].intention == Intention::Rollback
    }

    fn decide_signal(&self, now: Timestamp, signal: &Signal) -> Vec<Fact> {
        let Some(index) = self.node_of_call(&signal.call) else { return Vec::new() };
        if !self.is_outstanding(index, &signal.call) {
            return self.decide_late(signal);
        }
        let Some(task) = self.flow.task_called(index) else { return Vec::new() };
        let attempt = self.node_attempt(index, signal.call.attempt);
        let worker = signal.worker.clone();
        let fact = match (signal.call.action, &signal.answer) {
            (Action::Apply, TaskResult::Succeeded(left)) => match self.map_outputs(index, task, left) {
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

    /// No worker has started the call, so it needs no rollback. A worker that started it unnoticed sends a late outcome.
    fn decide_withdrawn(&self, now: Timestamp, call: &CallId) -> Vec<Fact> {
        let index =
            self.node_of_call(call).filter(|index| self.is_outstanding(*index, call) && self.is_withdrawable(*index));
        let failure = || Failure::new(FailureKind::Cancelled, "it was withdrawn before any worker began it");
        let fact =
            |index| self.failed(now, self.node_attempt(index, call.attempt), failure(), ExecutionInfo::NONE, None);
        index.map(fact).into_iter().collect()
    }

    pub(super) fn failed(
        &self,
        now: Timestamp,
        attempt: NodeAttempt,
        failure: Failure,
        told: ExecutionInfo,
        worker: Option<crate::WorkerName>,
    ) -> Fact {
        // Once the flow is to be rolled back, another attempt would only delay the rollback.
        let retry_at = if self.may_retry(attempt.node) { self.retry_at(now, attempt, &failure) } else { None };
        let ExecutionInfo { execution, redelivered } = told;
        Fact::Failed { attempt, failure, retry_at, execution, redelivered, worker }
    }

    fn retry_at(&self, now: Timestamp, attempt: NodeAttempt, failure: &Failure) -> Option<Timestamp> {
        if !failure.kind.may_retry() {
            return None;
        }
        let failed = self.node(attempt.node).consecutive_failures.saturating_add(1);
        let pause = self.policy(attempt.node).delay(failed, self.seed(attempt))?;
        Some(now.after(pause))
    }

    fn policy(&self, index: NodeIndex) -> RetryPolicy {
        self.flow.task_called(index).map(|task| task.retry).unwrap_or_default()
    }

    /// A seed that differs between attempts and runs, and is the same at every replay: the 64-bit FNV-1a hash of the run's
    /// id with node and attempt mixed in.
    fn seed(&self, attempt: NodeAttempt) -> u64 {
        let counts = [u64::from(attempt.node.0), attempt.firing.get(), u64::from(attempt.attempt.get())];
        let bytes = self.run.as_str().bytes().chain(counts.into_iter().flat_map(u64::to_le_bytes));
        bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
    }

    /// Decides what follows from a time. The next step decides what exceeds the limit of this one.
    fn decide_tick(&self, now: Timestamp) -> Vec<Fact> {
        if self.has_missing_input() {
            return self.missing_inputs.iter().map(|index| self.fail_missing_inputs(now, *index)).collect();
        }
        if let Some(node) = self.unresolved.first() {
            if let Some(each) = self.for_each_task_of(*node) {
                return vec![self.fail_for_each(*node, each)];
            }
            return vec![Fact::FailureResolved { node: *node, resolution: self.resolve(*node) }];
        }
        if self.expires_at.is_some_and(|at| at <= now) && !self.rolling_back() && !self.is_done() {
            return vec![Fact::Expired];
        }
        // Listeners to a failure start before the rollback of anything that led to it.
        let mut facts: Vec<Fact> = self
            .ready
            .iter()
            .map(|turn| turn.1)
            .chain(self.startable_elements())
            .filter(|index| self.flow.node(*index).is_failure_handler)
            .map(|index| self.decide_start(now, index))
            .take(MAX_STEP_RECORDS)
            .collect();
        if !facts.is_empty() {
            return facts;
        }
        let at_hand =
            self.fetches.keys().filter(|index| !self.is_fetching(**index)).map(|index| self.fetch_inline(*index));
        let given_up = self
            .waiting_tasks
            .iter()
            .filter(|index| !self.may_retry(**index))
            .map(|index| self.fail_waiting_task(now, *index));
        let unwinding = self
            .rollback_ready
            .iter()
            .map(|turn| turn.1)
            .filter(|index| !self.is_unfinished(*index))
            .chain(self.rollback_ready_elements());
        let unwinding = unwinding.map(|index| self.decide_rollback(index));
        let due = self.retries.range(..=(now, NodeIndex(u32::MAX))).map(|(_, index)| *index);
        let due = due.filter(|index| !self.waiting_tasks.contains(index) || self.may_retry(*index));
        let due = due.map(|index| self.decide_retry(now, index));
        let starting = self
            .ready
            .iter()
            .map(|turn| turn.1)
            .chain(self.startable_elements())
            .map(|index| self.decide_start(now, index));
        facts.extend(at_hand.chain(given_up).chain(unwinding).chain(due).chain(starting).take(MAX_STEP_RECORDS));
        if facts.is_empty() && self.is_idle() {
            // The effects of a lost apply that is no longer needed are rolled back before the end.
            facts.extend(
                self.late_outcomes
                    .iter()
                    .filter(|index| self.node(**index).state == NodeState::Ignored)
                    .map(|index| self.decide_rollback(*index)),
            );
        }
        if facts.is_empty() {
            facts.extend(self.end().map(|state| Fact::RunStateChanged { state }));
        }
        facts
    }

    /// Asks the controllers, from the nearest outward.
    fn resolve(&self, failed: NodeIndex) -> Resolution {
        let node = self.flow.node(failed);
        let own = match node.role {
            Role::Controller(_) => 1,
            Role::Task(_)
            | Role::Wait(_)
            | Role::ForEach(_)
            | Role::Element(_)
            | Role::FanIn(_)
            | Role::Begin
            | Role::End => 0,
        };
        // A failed controller does not resolve its own failure.
        for scope in self.enclosing(node.scope).skip(own) {
            let begin = self.flow.scope(scope).begin;
            let Role::Controller(controller) = &self.flow.node(begin).role else { continue };
            let tried = self.node(begin).applies;
            let tries_again = match &controller.strategy {
                Strategy::Times(times) => tried < *times,
                Strategy::ForEach(list) => (tried as usize) < list.len(),
                Strategy::ForEachOf(_) => {
                    self.node(begin).list.as_ref().is_some_and(|list| (tried as usize) < list.len())
                }
                Strategy::Always => false,
            };
            match controller.otherwise {
                Otherwise::Rollback | Otherwise::RollbackAll if tries_again => return Resolution::Retry(scope),
                Otherwise::Rollback => {}
                Otherwise::RollbackAll => return Resolution::RollbackRun,
            }
        }
        Resolution::RollbackRun
    }

    /// The next rollback action of a node that may be rolled back now.
    fn decide_rollback(&self, index: NodeIndex) -> Fact {
        let node = self.flow.node(index);
        if self.flow.task_called(index).is_some_and(|task| task.rollback) && self.may_have_been_called(index) {
            let attempt = self.node_attempt(index, Attempt::new(self.node(index).rollbacks + 1));
            return Fact::Started { attempt, action: Action::Rollback };
        }
        match &node.role {
            Role::Controller(_) if self.will_retry(index) => Fact::Retrying { node: index },
            Role::Task(_)
            | Role::Wait(_)
            | Role::ForEach(_)
            | Role::Element(_)
            | Role::FanIn(_)
            | Role::Controller(_)
            | Role::Begin
            | Role::End => Fact::RollbackNotNeeded { node: index },
        }
    }

    /// Whether a guest may have been called for a node since it was last pending. With a missing input, or a condition that
    /// could not be evaluated, none was.
    fn may_have_been_called(&self, index: NodeIndex) -> bool {
        let node = self.node(index);
        let is_of_this = |(attempt, _): &(Attempt, Execution)| attempt.get() == node.applies;
        let failed_first = matches!(node.state, NodeState::Failure { .. }) && node.consecutive_failures <= 1;
        !failed_first || node.may_have_applied || node.consecutive_losses > 0 || node.executions.iter().any(is_of_this)
    }

    /// Whether only the controller's own flow, and no enclosing flow, is to run again.
    fn will_retry(&self, controller: NodeIndex) -> bool {
        let mut around = self.enclosing(self.flow.node(controller).scope).map(|scope| self.scope(scope).intention);
        around.next() == Some(Intention::Retry) && around.all(|intention| intention == Intention::Execute)
    }

    /// Whether the flow of a controller that is to retry still has work under way or work to roll back. The effects of a
    /// lost attempt may be rolled back after everything before it, and an edit may have put a running node after a
    /// rolled-back one.
    fn is_unfinished(&self, index: NodeIndex) -> bool {
        let node = self.flow.node(index);
        let is_left = |ran: &NodeIndex| match &self.node(*ran).state {
            NodeState::Running { .. }
            | NodeState::RollingBack { .. }
            | NodeState::Failure { retry_at: Some(_), .. } => true,
            NodeState::Success { .. } | NodeState::Failure { .. } => *ran != index && !self.may_continue(*ran),
            NodeState::Pending
            | NodeState::NotInFiring
            | NodeState::RolledBack
            | NodeState::RollbackFailure { .. }
            | NodeState::Ignored
            | NodeState::Retrying => false,
        };
        matches!(node.role, Role::Controller(_))
            && self.will_retry(index)
            && self.ran_within(node.scope).iter().any(is_left)
    }

    /// Ends the wait of a task.
    fn fail_waiting_task(&self, now: Timestamp, index: NodeIndex) -> Fact {
        let failure = Failure::new(
            FailureKind::Cancelled,
            "nobody has to answer any more: its flow is rolled back, or it was removed",
        );
        self.failed(now, self.node_attempt(index, self.node(index).attempt()), failure, ExecutionInfo::NONE, None)
    }

    fn decide_retry(&self, now: Timestamp, index: NodeIndex) -> Fact {
        match (&self.flow.node(index).role, &self.node(index).state) {
            // The wait is over.
            (_, NodeState::Pending) => return self.start(index),
            (Role::Wait(wait), NodeState::Running { .. }) => {
                let message = format!("nobody has notified it of {:?} in time", wait.waits_for);
                let attempt = self.node_attempt(index, self.node(index).attempt());
                return self.failed(
                    now,
                    attempt,
                    Failure::new(FailureKind::Timeout, message),
                    ExecutionInfo::NONE,
                    None,
                );
            }
            (Role::Task(_) | Role::Element(_), NodeState::Running { retry_at: None, .. }) => {
                let attempt = self.node_attempt(index, self.node(index).attempt());
                let failure = Failure::new(FailureKind::Timeout, "no worker has taken it in time: it has expired");
                return self.failed(now, attempt, failure, ExecutionInfo::NONE, None);
            }
            _ => {}
        }
        let (action, count) = self.node(index).is_active();
        if action == Action::Apply && !self.may_retry(index) {
            // The loss is recorded, and no retry follows: the flow is being rolled back.
            return self.failed(
                now,
                self.node_attempt(index, Attempt::new(count)),
                lost(None),
                ExecutionInfo::NONE,
                None,
            );
        }
        Fact::Started { attempt: self.node_attempt(index, Attempt::new(count + 1)), action }
    }

    /// Decides whether a node that may start starts now or waits first.
    fn decide_start(&self, now: Timestamp, index: NodeIndex) -> Fact {
        let until = match self.flow.node(index).starts {
            // A controller that retries has waited already.
            Some(StartTime::After(pause)) if self.node(index).state == NodeState::Pending => Some(now.after(pause)),
            Some(StartTime::At(at)) if at > now => Some(at),
            Some(_) | None => None,
        };
        until.map_or_else(|| self.start(index), |until| Fact::Delayed { node: index, until })
    }

    /// Decides by its incoming links whether a node that may start does start.
    fn start(&self, index: NodeIndex) -> Fact {
        // A controller that retries passed its conditions earlier.
        if self.node(index).state == NodeState::Retrying {
            return self.execute(index);
        }
        match self.evaluate_links(index) {
            Ok(None) => self.execute(index),
            Ok(Some(reach)) => Fact::Ignored { node: index, reach },
            Err(undecided) => Fact::StartFailed {
                node: index,
                attempt: Attempt::new(self.node(index).applies + 1),
                failure: Failure::new(FailureKind::Permanent, undecided.to_string()),
            },
        }
    }

    fn execute(&self, index: NodeIndex) -> Fact {
        let next = Attempt::new(self.node(index).applies + 1);
        match &self.flow.node(index).role {
            Role::Controller(controller) => match self.next_value(index, controller) {
                Ok((value, list)) => Fact::ControllerRan { node: index, attempt: next, value, list },
                Err(message) => Fact::StartFailed {
                    node: index,
                    attempt: next,
                    failure: Failure::new(FailureKind::Permanent, message),
                },
            },
            Role::Begin | Role::End => Fact::ScopeStarted { node: index },
            Role::Task(_) | Role::Wait(_) | Role::ForEach(_) | Role::Element(_) | Role::FanIn(_) => {
                Fact::Started { attempt: self.node_attempt(index, next), action: Action::Apply }
            }
        }
    }

    /// The value that a controller provides at its next attempt, and the list that it read for that, if it had not read it
    /// before.
    fn next_value(
        &self,
        index: NodeIndex,
        controller: &crate::Controller,
    ) -> Result<(Option<Value>, Option<Vec<Json>>), String> {
        let tried = self.node(index).applies as usize;
        let pick = |list: &[Json]| list.get(tried).cloned().map(Value::Json);
        match &controller.strategy {
            Strategy::Times(_) => Ok((Some(Value::json(&(tried + 1).into())), None)),
            Strategy::ForEach(list) => Ok((pick(list), None)),
            Strategy::Always => Ok((None, None)),
            Strategy::ForEachOf(name) => {
                if let Some(list) = &self.node(index).list {
                    return Ok((pick(list), None));
                }
                let value = controller.list.as_ref().and_then(|source| self.read(source));
                let list = read_list(name, value.as_deref())?;
                Ok((pick(&list), Some(list)))
            }
        }
    }

    /// Whether an attempt has started without its inputs, and is to fail in the same step.
    pub(in crate::machine) fn has_missing_input(&self) -> bool {
        !self.missing_inputs.is_empty()
    }

    fn fail_missing_inputs(&self, now: Timestamp, index: NodeIndex) -> Fact {
        let attempt = self.node_attempt(index, self.node(index).attempt());
        let inputs = self.flow.task_called(index).map(|task| self.inputs(index, task, InputUse::ApplyAndRollback));
        let message = match inputs {
            Some(Err(starved)) => self.describe_missing(&starved),
            Some(Ok(_)) | None => "not all inputs were there when the task started".into(),
        };
        self.failed(now, attempt, Failure::new(FailureKind::MissingInput, message), ExecutionInfo::NONE, None)
    }

    /// The final state of the run, once nothing is under way and nothing can start.
    fn end(&self) -> Option<RunState> {
        if !self.is_idle() {
            return None;
        }
        if !self.failed_rollbacks.is_empty() {
            return Some(RunState::Failure);
        }
        if self.rolling_back() {
            return Some(RunState::RolledBack);
        }
        let end = self.flow.scopes[0].end;
        let done = self.node(end).state.lets_follow();
        assert!(done, "a run without work left has reached its end: {}", self.run);
        Some(RunState::Success)
    }

    /// The values of an apply, by the flow's names. Element values go into JSON lists, so they cannot be bytes: the first
    /// element that provides bytes fails, before the other elements are called in vain.
    fn map_outputs(&self, index: NodeIndex, task: &Task, left: &Values) -> Result<Values, Failure> {
        let provided = to_flow_names(task, left)?;
        let bytes = provided.iter().find(|(_, value)| value.is_bytes()).filter(|_| self.element(index).is_some());
        let Some((name, _)) = bytes else { return Ok(provided) };
        let message = format!(
            "it left {name:?} as bytes, and the results for a list are a list of JSON: leave the bytes as a base64 text"
        );
        Err(Failure::new(FailureKind::InvalidOutput, message))
    }

    /// Whether the run has reached its end, and only the record of it is missing.
    fn is_done(&self) -> bool {
        self.is_idle() && self.late_outcomes.is_empty()
    }

    /// Whether nothing is under way and nothing can start.
    fn is_idle(&self) -> bool {
        self.outstanding.is_empty()
            && self.waiting_tasks.is_empty()
            && self.missing_inputs.is_empty()
            && self.fetches.is_empty()
            && self.queued.is_empty()
            && self.ready.is_empty()
            && self.rollback_ready.is_empty()
            && self.rollback_ready_lists.is_empty()
            && self.unresolved.is_empty()
            && self.retries.is_empty()
    }

    pub(super) fn node_attempt(&self, node: NodeIndex, attempt: Attempt) -> NodeAttempt {
        NodeAttempt { node, firing: self.node(node).firing, attempt }
    }
}

/// The values of a notification, by the flow's names: exactly the expected values, and no others.
pub(in crate::machine) fn brought(wait: &Wait, values: &Values) -> Result<Values, String> {
    let quoted = |names: &mut dyn Iterator<Item = &ValueName>| {
        names.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
    };
    let unknown: Vec<&ValueName> = values.keys().filter(|name| !wait.provides.contains_key(*name)).collect();
    if !unknown.is_empty() {
        let known = quoted(&mut wait.provides.keys());
        let known = if known.is_empty() { "nothing".into() } else { known };
        return Err(format!("{} is not waited for: it takes {known}", quoted(&mut unknown.into_iter())));
    }
    let missing: Vec<&ValueName> = wait.provides.keys().filter(|name| !values.contains_key(*name)).collect();
    if !missing.is_empty() {
        return Err(format!("{} is missing", quoted(&mut missing.into_iter())));
    }
    let provided = wait.provides.iter().filter_map(|(own, flows)| Some((flows.clone(), values.get(own)?.clone())));
    Ok(provided.collect())
}

fn read_list(name: &ValueName, value: Option<&Value>) -> Result<Vec<Json>, String> {
    let json = match value {
        None => return Err(format!("value {name:?} is not there, and the retry controller tries its elements")),
        Some(Value::Bytes(_)) => return Err(format!("value {name:?} is bytes, not a list to try the elements of")),
        Some(Value::Stored(stored)) => {
            let size = Size(stored.size);
            return Err(format!("value {name:?} is too large ({size:#}) to try the elements of"));
        }
        Some(Value::Json(json)) => json,
    };
    let elements = json.elements().ok_or_else(|| format!("value {name:?} is not a list to try the elements of"))?;
    if elements.is_empty() {
        return Err(format!("value {name:?} is an empty list: there is nothing to try"));
    }
    Ok(elements)
}

/// The values of an apply, by the flow's names. Values that the flow does not use are dropped.
pub(super) fn to_flow_names(task: &Task, left: &Values) -> Result<Values, Failure> {
    let mut provided = Values::new();
    for (own, flows) in &task.provides {
        let Some(value) = left.get(own) else {
            let message = format!("{own:?} was promised and is missing");
            return Err(Failure::new(FailureKind::InvalidOutput, message));
        };
        provided.insert(flows.clone(), value.clone());
    }
    Ok(provided)
}
