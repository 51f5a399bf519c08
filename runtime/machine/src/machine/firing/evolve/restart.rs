//! Applies records by which a run continues that had stopped: a person retries or skips a failed rollback, or the whole run.

use crate::Command;
use flow::{NodeIndex, Outcome, RunState, Timestamp};

use super::super::{
    FiringMachine,
    graph::NodeRole,
    node::{Intention, NodeState},
    publish::ChangeDetails,
};

impl FiringMachine {
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
        self.node_mut(index).may_have_applied = false;
        self.set_late_outcome(index, None);
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
    pub(super) fn reopen(&mut self, at: Timestamp) -> Vec<Command> {
        if self.state == RunState::Running {
            return Vec::new();
        }
        self.state = RunState::Running;
        self.publish_run(at)
    }

    /// Restarts a rolled-back run: attempt numbers continue, so that no two calls share an identity.
    pub(super) fn reset(&mut self, at: Timestamp) -> Vec<Command> {
        let mut commands = self.reopen(at);
        let root = flow::graph::ScopeIndex::ROOT;
        // While the intention is to roll back, no pending node may start.
        for index in self.ran_within(root) {
            commands.extend(self.make_pending(at, index));
        }
        for scope in &mut self.scopes {
            scope.intention = Intention::Execute;
        }
        self.clear_failures();
        self.expires_at = self.flow.expires.map(|expires| at.after(expires));
        self.update_readiness(vec![self.flow.scope(root).begin]);
        commands
    }

    /// Makes a node pending as if it had never run, except for its attempt counts.
    pub(in crate::machine::firing) fn make_pending(&mut self, at: Timestamp, index: NodeIndex) -> Option<Command> {
        self.clear_failure(index);
        let node = self.node_mut(index);
        node.consecutive_failures = 0;
        node.consecutive_losses = 0;
        self.enter(index, NodeState::Pending);
        match self.role(index) {
            NodeRole::Task(_) | NodeRole::Wait(_) | NodeRole::ForEach(_) | NodeRole::Element(_) => {
                Some(self.publish(index, at, ChangeDetails::default()))
            }
            NodeRole::Controller(_) => {
                let pending = self.publish(index, at, ChangeDetails::default());
                self.node_mut(index).applies = 0;
                self.set_controller_list(index, None);
                Some(pending)
            }
            NodeRole::FanIn(_) | NodeRole::Begin | NodeRole::End => None,
        }
    }
}
