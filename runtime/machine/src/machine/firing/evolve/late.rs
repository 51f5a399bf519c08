//! Applies records of lost attempts, of leases and of late outcomes. `decide/late.rs` decides them.

use crate::{Command, NodeAttempt};
use flow::{Action, Execution, FailureKind, NodeIndex, Outcome, State, Timestamp, WorkerName};

use super::super::{FiringMachine, calls::lost, node::NodeState, publish::ChangeDetails};

/// The end of an execution that no longer decides its attempt.
pub(super) struct LateOutcome<'a> {
    pub(super) attempt: NodeAttempt,
    pub(super) action: Action,
    pub(super) execution: Option<Execution>,
    pub(super) outcome: Option<&'a Outcome>,
    pub(super) worker: Option<&'a WorkerName>,
}

impl FiringMachine {
    pub(super) fn lease(&mut self, attempt: NodeAttempt, action: Action, worker: &WorkerName) {
        let expiry = self.expiry(attempt.node);
        self.node_mut(attempt.node).rare.lease_holders.insert((action, attempt.attempt, worker.clone()));
        self.leased.insert(attempt.node);
        if self.expiry(attempt.node) != expiry {
            self.remove_retry(expiry, attempt.node);
        }
    }

    /// Ends the lease that a worker may have held on a call.
    pub(super) fn end_lease(&mut self, attempt: NodeAttempt, action: Action, worker: Option<&WorkerName>) {
        if let Some(worker) = worker {
            let holder = (action, attempt.attempt, worker.clone());
            self.node_mut(attempt.node).rare.remove(|rare| rare.lease_holders.remove(&holder));
            if self.node(attempt.node).rare.lease_holders.is_empty() {
                self.leased.remove(&attempt.node);
            }
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
        node.rare.lost.insert((action, attempt.attempt));
        node.may_have_applied |= action == Action::Apply;
        if let NodeState::Running { retry_at, .. } | NodeState::RollingBack { retry_at, .. } = &mut node.state {
            *retry_at = Some(at);
        }
        vec![interrupt, lost]
    }

    pub(super) fn on_late_outcome(&mut self, at: Timestamp, late: LateOutcome<'_>) -> Vec<Command> {
        let LateOutcome { attempt, action, execution, outcome, worker } = late;
        let index = attempt.node;
        self.end_lease(attempt, action, worker);
        let node = self.node_mut(index);
        node.rare.remove(|rare| rare.lost.remove(&(action, attempt.attempt)));
        if let Some(execution) = execution.filter(|_| outcome.is_some()) {
            node.executions.insert(attempt.attempt, execution);
        }
        if execution.is_none() {
            let unanswered = node.rare.unanswered.entry((action, attempt.attempt)).or_default();
            *unanswered = unanswered.saturating_add(1);
        }
        let can_roll_back = self.task_called(index).is_some_and(|task| task.rollback);
        let Some(outcome) = outcome.filter(|outcome| can_roll_back && may_have_applied(outcome)) else {
            return Vec::new();
        };
        let state = &self.node(index).state;
        // An ignored node is rolled back before the run ends.
        let waits = matches!(state, NodeState::Pending | NodeState::Ignored);
        if waits && self.may_continue(index) && !self.state.is_final() {
            self.set_late_outcome(index, Some(outcome.clone()));
            self.late_outcomes.insert(index);
        } else if state.is_rolling_back() {
            self.set_late_outcome(index, Some(outcome.clone()));
        } else if waits || *state == NodeState::RolledBack {
            self.repeat_rollback(at, index, outcome.clone());
            return if self.state.is_final() { self.reopen(at) } else { Vec::new() };
        } else if matches!(state, NodeState::Running { .. } | NodeState::Failure { .. } | NodeState::Success { .. }) {
            // This attempt or the following one covers it, until that one fails. One that has succeeded with a remembered result has called
            // no guest, so its rollback would call none either.
            self.node_mut(index).may_have_applied = true;
        }
        // Otherwise the pending rollback covers it, or a person does.
        Vec::new()
    }

    /// Rolls back the effects of a lost apply that answered after its task was rolled back.
    pub(super) fn repeat_rollback(&mut self, at: Timestamp, index: NodeIndex, outcome: Outcome) {
        self.late_outcomes.remove(&index);
        self.set_late_outcome(index, None);
        self.node_mut(index).consecutive_failures = 0;
        self.retries.insert((at, index));
        self.enter(index, NodeState::RollingBack { since: at, outcome: outcome.into(), retry_at: Some(at) });
    }

    /// Rolls back pending nodes for which a lost apply has answered, and that will not run any more.
    pub(in crate::machine) fn roll_back_late_outcomes(&mut self, at: Timestamp) {
        for index in self.late_outcomes.clone() {
            if !self.may_continue(index)
                && let Some(outcome) = self.node(index).rare.late_outcome.clone()
            {
                self.repeat_rollback(at, index, outcome);
            }
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
