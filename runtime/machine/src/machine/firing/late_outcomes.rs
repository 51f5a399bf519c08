//! Lost attempts and their late outcomes, and second executions of answered attempts, whose job was delivered twice.
//!
//! A lost attempt may have applied, or may still apply. The next attempt of its firing covers that: it has the same
//! idempotency key. Only an effect that is rolled back before the lost attempt answers is not covered; it is rolled back
//! again.

use crate::{Command, Fact, NodeAttempt};
use flow::{
    Action, Attempt, CallId, DELIVERY_LIMIT, Execution, Failure, FailureKind, NodeIndex, Outcome, Role, RunState,
    Signal, State, TaskResult, Timestamp, WorkerName,
};

use super::{
    FiringMachine,
    decide::{ExecutionInfo, to_flow_names},
    node::{Intention, NodeState},
    publish::ChangeDetails,
};

/// The end of an execution that no longer decides its attempt.
pub(super) struct LateOutcome<'a> {
    pub(super) attempt: NodeAttempt,
    pub(super) action: Action,
    pub(super) execution: Option<Execution>,
    pub(super) outcome: Option<&'a Outcome>,
    pub(super) worker: Option<&'a WorkerName>,
}

/// No worker reported what the attempt did.
const LOST: ExecutionInfo = ExecutionInfo { execution: None, redelivered: true };

impl FiringMachine {
    pub(super) fn decide_lease(&self, call: &CallId, worker: &WorkerName) -> Vec<Fact> {
        let Some(index) = self.node_of_call(call) else { return Vec::new() };
        let node = self.node(index);
        let dispatched = match call.action {
            Action::Apply => node.applies,
            Action::Rollback => node.rollbacks,
        };
        let holder = (call.action, call.attempt, worker.clone());
        if node.firing != call.firing || call.attempt.get() > dispatched || node.lease_holders.contains(&holder) {
            return Vec::new();
        }
        let (attempt, action) = (self.node_attempt(index, call.attempt), call.action);
        if self.is_outstanding(index, call) {
            return vec![Fact::Leased { attempt, action, worker: worker.clone() }];
        }
        // Nothing waits for this execution, and by now it may have applied. If it answers later, that is a new late outcome.
        match action {
            Action::Apply => {
                let (outcome, worker) = (Some(Outcome::Unknown), Some(worker.clone()));
                vec![Fact::LateOutcome { attempt, action, execution: None, outcome, worker }]
            }
            Action::Rollback => Vec::new(),
        }
    }

    pub(super) fn decide_lost(&self, now: Timestamp, call: &CallId, worker: &WorkerName) -> Vec<Fact> {
        let Some(index) = self.node_of_call(call) else { return Vec::new() };
        let node = self.node(index);
        let attempt = self.node_attempt(index, call.attempt);
        let (action, worker) = (call.action, worker.clone());
        let is_of_call = |holder: &&(Action, Attempt, WorkerName)| (holder.0, holder.1) == (action, call.attempt);
        let is_held_by_another = node.lease_holders.iter().filter(is_of_call).any(|holder| holder.2 != worker);
        if !self.is_outstanding(index, call) || is_held_by_another {
            if !node.lease_holders.contains(&(action, call.attempt, worker.clone())) {
                return Vec::new();
            }
            // Another execution has answered or will; the effects of this one are unknown.
            let outcome = (action == Action::Apply).then_some(Outcome::Unknown);
            return vec![Fact::LateOutcome { attempt, action, execution: None, outcome, worker: Some(worker) }];
        }
        let worker = Some(worker);
        let limit = self.flow.task_called(index).and_then(|task| task.delivery_limit).unwrap_or(DELIVERY_LIMIT);
        if node.consecutive_losses + 1 >= limit.get() {
            let message = match limit.get() {
                1 => "its worker was lost while it called it".to_owned(),
                limit => format!("{limit} workers were lost one after the other while they called it"),
            };
            let failure = Failure::new(FailureKind::Poison, message);
            return vec![match action {
                Action::Apply => self.failed(now, attempt, failure, LOST, worker),
                Action::Rollback => Fact::RollbackFailed { attempt, failure, retry_at: None, worker },
            }];
        }
        if action == Action::Apply && !self.may_retry(index) {
            // No retry follows: the flow is being rolled back.
            return vec![self.failed(now, attempt, lost(worker.as_ref()), LOST, worker)];
        }
        vec![Fact::Lost { attempt, action, worker }]
    }

    /// Decides about an answer of an attempt that is not outstanding. It matters only if the attempt was lost, or if no
    /// other message has reported this execution.
    pub(super) fn decide_late(&self, signal: &Signal) -> Vec<Fact> {
        let call = &signal.call;
        let Some(index) = self.node_of_call(call) else { return Vec::new() };
        let node = self.node(index);
        let Some(task) = self.flow.task_called(index) else { return Vec::new() };
        let outcome = match (call.action, &signal.answer) {
            (Action::Apply, TaskResult::Succeeded(values)) => {
                Some(to_flow_names(task, values).map_or_else(Outcome::Failed, Outcome::Provided))
            }
            // An earlier execution may have applied.
            (Action::Apply, TaskResult::Failed(_)) if signal.redelivered => Some(Outcome::Unknown),
            (Action::Apply, TaskResult::Failed(failure)) => Some(Outcome::Failed(failure.clone())),
            (Action::Rollback, TaskResult::Succeeded(_) | TaskResult::Failed(_)) => None,
        };
        let is_lost = node.lost.contains(&(call.action, call.attempt));
        let is_new = outcome.is_some()
            && call.attempt.get() <= node.applies
            && !node.executions.contains(call.attempt, signal.execution);
        if node.firing != call.firing || !(is_lost || is_new) {
            return Vec::new();
        }
        let (attempt, action) = (self.node_attempt(index, call.attempt), call.action);
        let (execution, worker) = (Some(signal.execution), signal.worker.clone());
        vec![Fact::LateOutcome { attempt, action, execution, outcome, worker }]
    }

    pub(super) fn lease(&mut self, attempt: NodeAttempt, action: Action, worker: &WorkerName) {
        let expiry = self.expiry(attempt.node);
        self.node_mut(attempt.node).lease_holders.insert((action, attempt.attempt, worker.clone()));
        if self.expiry(attempt.node) != expiry {
            self.remove_retry(expiry, attempt.node);
        }
    }

    /// Ends the lease that a worker may have held on a call.
    pub(super) fn end_lease(&mut self, attempt: NodeAttempt, action: Action, worker: Option<&WorkerName>) {
        if let Some(worker) = worker {
            self.node_mut(attempt.node).lease_holders.remove(&(action, attempt.attempt, worker.clone()));
        }
    }

    /// Gives up an attempt as lost: the next one is due at once.
    pub(super) fn lose_attempt(
        &mut self,
        at: Timestamp,
        attempt: NodeAttempt,
        action: Action,
        worker: Option<&WorkerName>,
    ) -> Vec<Command> {
        let index = attempt.node;
        let interrupt = Command::Interrupt(self.call_id(index));
        let lost =
            self.publish_as(index, State::Failure, at, ChangeDetails::failure(at, &lost(worker), Some(at), worker));
        self.remove_retry(self.expiry(index), index);
        self.outstanding.remove(&index);
        self.retries.insert((at, index));
        self.end_lease(attempt, action, worker);
        let node = self.node_mut(index);
        node.consecutive_losses += 1;
        node.lost.insert((action, attempt.attempt));
        node.may_have_applied |= action == Action::Apply;
        match &mut node.state {
            NodeState::Running { retry_at, .. } | NodeState::RollingBack { retry_at, .. } => *retry_at = Some(at),
            NodeState::Pending
            | NodeState::Success { .. }
            | NodeState::Failure { .. }
            | NodeState::RolledBack
            | NodeState::RollbackFailure { .. }
            | NodeState::Retrying
            | NodeState::NotInFiring
            | NodeState::Ignored => {}
        }
        vec![interrupt, lost]
    }

    pub(super) fn on_late_outcome(&mut self, at: Timestamp, late: LateOutcome<'_>) -> Vec<Command> {
        let LateOutcome { attempt, action, execution, outcome, worker } = late;
        let index = attempt.node;
        self.end_lease(attempt, action, worker);
        let node = self.node_mut(index);
        node.lost.remove(&(action, attempt.attempt));
        if let Some(execution) = execution.filter(|_| outcome.is_some()) {
            node.executions.insert(attempt.attempt, execution);
        }
        let can_roll_back = self.flow.task_called(index).is_some_and(|task| task.rollback);
        let Some(outcome) = outcome.filter(|outcome| can_roll_back && may_have_applied(outcome)) else {
            return Vec::new();
        };
        match self.node(index).state {
            // An ignored node is rolled back before the run ends.
            NodeState::Pending | NodeState::Ignored if self.may_continue(index) && !self.state.is_final() => {
                self.node_mut(index).late_outcome = Some(outcome.clone());
                self.late_outcomes.insert(index);
                Vec::new()
            }
            NodeState::RollingBack { .. } => {
                self.node_mut(index).late_outcome = Some(outcome.clone());
                Vec::new()
            }
            NodeState::Pending | NodeState::RolledBack | NodeState::Ignored => {
                self.repeat_rollback(at, index, outcome.clone());
                if self.state.is_final() { self.reopen(at) } else { Vec::new() }
            }
            // The following attempt covers it, until that attempt fails.
            NodeState::Running { .. } | NodeState::Failure { .. } => {
                self.node_mut(index).may_have_applied = true;
                Vec::new()
            }
            // The pending rollback covers it, or a person does.
            NodeState::Success { .. }
            | NodeState::NotInFiring
            | NodeState::RollbackFailure { .. }
            | NodeState::Retrying => Vec::new(),
        }
    }

    /// Rolls back the effects of a lost apply that answered after its task was rolled back.
    pub(super) fn repeat_rollback(&mut self, at: Timestamp, index: NodeIndex, outcome: Outcome) {
        self.late_outcomes.remove(&index);
        let node = self.node_mut(index);
        node.late_outcome = None;
        node.consecutive_failures = 0;
        self.retries.insert((at, index));
        self.enter(index, NodeState::RollingBack { since: at, outcome, retry_at: Some(at) });
    }

    /// Rolls back pending nodes for which a lost apply has answered, and that will not run any more.
    pub(super) fn roll_back_late_outcomes(&mut self, at: Timestamp) {
        for index in self.late_outcomes.clone() {
            if !self.may_continue(index)
                && let Some(outcome) = self.node(index).late_outcome.clone()
            {
                self.repeat_rollback(at, index, outcome);
            }
        }
    }

    /// Retries a permanently failed rollback at a person's request.
    pub(super) fn retry_rollback(&mut self, at: Timestamp, index: NodeIndex) -> Vec<Command> {
        let NodeState::RollbackFailure { outcome } = self.node(index).state.clone() else { return Vec::new() };
        self.settle_rollback(index, &outcome);
        let node = self.node_mut(index);
        node.consecutive_failures = 0;
        node.consecutive_losses = 0;
        self.retries.insert((at, index));
        self.enter(index, NodeState::RollingBack { since: at, outcome, retry_at: Some(at) });
        self.reopen(at)
    }

    /// Skips a permanently failed rollback that a person has settled.
    pub(super) fn skip_rollback(&mut self, at: Timestamp, index: NodeIndex) -> Vec<Command> {
        let NodeState::RollbackFailure { outcome } = self.node(index).state.clone() else { return Vec::new() };
        self.settle_rollback(index, &outcome);
        let node = self.node_mut(index);
        node.may_have_applied = false;
        node.late_outcome = None;
        self.enter(index, NodeState::RolledBack);
        let mut commands = self.reopen(at);
        commands.push(self.publish(index, at, ChangeDetails::default()));
        commands
    }

    fn settle_rollback(&mut self, index: NodeIndex, outcome: &Outcome) {
        self.failed_rollbacks.remove(&index);
        match outcome {
            Outcome::Failed(failure) => self.record_failure(index, failure),
            Outcome::Provided(_) | Outcome::Unknown => self.clear_failure(index),
        }
    }

    /// Reopens a run that had ended.
    fn reopen(&mut self, at: Timestamp) -> Vec<Command> {
        if self.state == RunState::Running {
            return Vec::new();
        }
        self.state = RunState::Running;
        self.publish_run(at)
    }

    /// Restarts a rolled-back run: attempt numbers continue, so that no two calls share an identity.
    pub(super) fn reset(&mut self, at: Timestamp) -> Vec<Command> {
        let mut commands = self.reopen(at);
        let root = flow::ScopeIndex::ROOT;
        // While the intention is to roll back, no pending node may start.
        for index in self.ran_within(root) {
            commands.extend(self.make_pending(at, index));
        }
        for scope in &mut self.scopes {
            scope.intention = Intention::Execute;
        }
        self.failures = std::sync::Arc::default();
        self.expires_at = self.flow.expires.map(|expires| at.after(expires));
        self.update_readiness(vec![self.flow.scope(root).begin]);
        commands
    }

    /// Makes a node pending as if it had never run, except for its attempt counts.
    pub(super) fn make_pending(&mut self, at: Timestamp, index: NodeIndex) -> Option<Command> {
        self.clear_failure(index);
        let node = self.node_mut(index);
        node.consecutive_failures = 0;
        node.consecutive_losses = 0;
        self.enter(index, NodeState::Pending);
        match &self.flow.node(index).role {
            Role::Task(_) | Role::Wait(_) | Role::ForEach(_) | Role::Element(_) => {
                Some(self.publish(index, at, ChangeDetails::default()))
            }
            Role::Controller(_) => {
                let pending = self.publish(index, at, ChangeDetails::default());
                let controller = self.node_mut(index);
                controller.applies = 0;
                controller.list = None;
                Some(pending)
            }
            Role::FanIn(_) | Role::Begin | Role::End => None,
        }
    }
}

/// Whether an apply with this outcome may have had effects.
fn may_have_applied(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Provided(_) | Outcome::Unknown => true,
        // Its guest was never called.
        Outcome::Failed(failure) => failure.kind != FailureKind::Module,
    }
}

/// The failure that is recorded for a lost attempt.
pub(super) fn lost(worker: Option<&WorkerName>) -> Failure {
    let worker = worker.map_or_else(|| "its worker".into(), |worker| format!("worker {worker}"));
    Failure::new(
        FailureKind::Transient,
        format!("{worker} was lost while it called the task; what it did is not known"),
    )
}
