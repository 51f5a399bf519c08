//! Decides about lost attempts and their late outcomes, and about second executions of answered attempts, whose job was
//! delivered twice. `evolve/late.rs` applies the records.
//!
//! A lost attempt may have applied, or may still apply. The next attempt of its firing covers that: it has the same
//! idempotency key. Only an effect that is rolled back before the lost attempt answers is not covered; it is rolled back
//! again.

use crate::Fact;
use flow::{
    Action, Attempt, CallId, DELIVERY_LIMIT, Execution, Failure, FailureKind, MAX_DELIVERY_LIMIT, NodeIndex, Outcome,
    Signal, TaskResult, Timestamp, WorkerName,
};

use super::{
    super::{FiringMachine, calls::lost},
    ExecutionInfo,
    answer::bounded_answer,
    to_flow_names,
};

/// No worker reported what the attempt did.
const LOST: ExecutionInfo = ExecutionInfo { execution: None, redelivered: true };

/// The maximum number of executions of one attempt whose answers are recorded, and of those that are recorded without an answer.
/// A worker gives a job up that was delivered more often than this, so no honest worker adds another execution. Only the holder
/// of the job can, with invented numbers: each would be a record, and would roll an ended run back once more.
const MAX_EXECUTIONS: usize = MAX_DELIVERY_LIMIT as usize;

/// The maximum number of workers that hold a lease on one attempt at the same time. More than one holds it only if the job was
/// delivered again while its worker was still alive.
const MAX_LEASE_HOLDERS: usize = 8;

impl FiringMachine {
    pub(super) fn decide_lease(&self, call: &CallId, worker: &WorkerName) -> Vec<Fact> {
        let Some(index) = self.node_of_call(call) else { return Vec::new() };
        let node = self.node(index);
        let dispatched = match call.action {
            Action::Apply => node.applies,
            Action::Rollback => node.rollbacks,
        };
        let holder = (call.action, call.attempt, worker.clone());
        if node.firing != call.firing || call.attempt.get() > dispatched || node.rare.lease_holders.contains(&holder) {
            return Vec::new();
        }
        if !self.may_record_lease(index, call) {
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

    /// Whether another worker may hold a lease on a call, or is recorded as one that has started it too late.
    fn may_record_lease(&self, index: NodeIndex, call: &CallId) -> bool {
        let rare = &self.node(index).rare;
        let key = (call.action, call.attempt);
        let holders = rare.lease_holders.iter().filter(|holder| (holder.0, holder.1) == key).count();
        let unanswered = rare.unanswered.get(&key).map_or(0, |count| *count as usize);
        if self.is_outstanding(index, call) && holders == 0 {
            // Without a lease nobody would notice that the only worker of the call is lost.
            return true;
        }
        holders < MAX_LEASE_HOLDERS && unanswered < MAX_EXECUTIONS
    }

    pub(super) fn decide_lost(&self, now: Timestamp, call: &CallId, worker: &WorkerName) -> Vec<Fact> {
        let Some(index) = self.node_of_call(call) else { return Vec::new() };
        let node = self.node(index);
        let attempt = self.node_attempt(index, call.attempt);
        let (action, worker) = (call.action, worker.clone());
        let is_of_call = |holder: &&(Action, Attempt, WorkerName)| (holder.0, holder.1) == (action, call.attempt);
        let is_held_by_another = node.rare.lease_holders.iter().filter(is_of_call).any(|holder| holder.2 != worker);
        if !self.is_outstanding(index, call) || is_held_by_another {
            if !node.rare.lease_holders.contains(&(action, call.attempt, worker.clone())) {
                return Vec::new();
            }
            // Another execution has answered or will; the effects of this one are unknown.
            let outcome = (action == Action::Apply).then_some(Outcome::Unknown);
            return vec![Fact::LateOutcome { attempt, action, execution: None, outcome, worker: Some(worker) }];
        }
        let worker = Some(worker);
        let limit = self.task_called(index).and_then(|task| task.delivery_limit).unwrap_or(DELIVERY_LIMIT);
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

    /// Decides about an execution that a lost worker may have made, and that it never reports. The record makes the effects of the node
    /// unknown, whatever ends the attempt afterwards: so a call that is withdrawn, or expires, is rolled back. As long as the attempt is
    /// outstanding, one such record says all.
    pub(super) fn decide_lost_delivery(&self, call: &CallId, execution: Execution) -> Vec<Fact> {
        let Some(index) = self.node_of_call(call).filter(|_| call.action == Action::Apply) else { return Vec::new() };
        let node = self.node(index);
        let max = if self.is_outstanding(index, call) { 1 } else { MAX_EXECUTIONS };
        let is_new = node.executions.count(call.attempt) < max && !node.executions.contains(call.attempt, execution);
        if node.firing != call.firing || call.attempt.get() > node.applies || !is_new {
            return Vec::new();
        }
        let (attempt, action, outcome) = (self.node_attempt(index, call.attempt), call.action, Some(Outcome::Unknown));
        vec![Fact::LateOutcome { attempt, action, execution: Some(execution), outcome, worker: None }]
    }

    /// Decides about an answer of an attempt that is not outstanding. It matters only if the attempt was lost, or if no
    /// other message has reported this execution.
    pub(super) fn decide_late(&self, signal: &Signal) -> Vec<Fact> {
        let call = &signal.call;
        let Some(index) = self.node_of_call(call) else { return Vec::new() };
        let node = self.node(index);
        let Some(task) = self.task_called(index) else { return Vec::new() };
        let answer = bounded_answer(task, signal);
        let outcome = match (call.action, &*answer) {
            (Action::Apply, TaskResult::Succeeded(values)) => {
                Some(to_flow_names(task, values).map_or_else(Outcome::Failed, Outcome::Provided))
            }
            // An earlier execution may have applied.
            (Action::Apply, TaskResult::Failed(_)) if signal.redelivered => Some(Outcome::Unknown),
            (Action::Apply, TaskResult::Failed(failure)) => Some(Outcome::Failed(failure.clone())),
            (Action::Rollback, TaskResult::Succeeded(_) | TaskResult::Failed(_)) => None,
        };
        let is_lost = node.rare.lost.contains(&(call.action, call.attempt));
        let is_new = outcome.is_some()
            && call.attempt.get() <= node.applies
            && !node.executions.contains(call.attempt, signal.execution)
            && node.executions.count(call.attempt) < MAX_EXECUTIONS;
        if node.firing != call.firing || !(is_lost || is_new) {
            return Vec::new();
        }
        let (attempt, action) = (self.node_attempt(index, call.attempt), call.action);
        let (execution, worker) = (Some(signal.execution), signal.worker.clone());
        vec![Fact::LateOutcome { attempt, action, execution, outcome, worker }]
    }

    /// Whether an answer is ignored only because the attempt has as many executions as an attempt may have.
    pub(in crate::machine) fn has_too_many_executions(&self, signal: &Signal) -> bool {
        let call = &signal.call;
        self.node_of_call(call).is_some_and(|index| {
            let node = self.node(index);
            call.action == Action::Apply
                && !self.is_outstanding(index, call)
                && !node.executions.contains(call.attempt, signal.execution)
                && node.executions.count(call.attempt) >= MAX_EXECUTIONS
        })
    }

    /// Whether a heartbeat is ignored only because the attempt has as many leases as an attempt may have.
    pub(in crate::machine) fn has_too_many_leases(&self, call: &CallId, worker: &WorkerName) -> bool {
        let index = self.node_of_call(call);
        index.is_some_and(|index| !self.has_lease(call, worker) && !self.may_record_lease(index, call))
    }
}
