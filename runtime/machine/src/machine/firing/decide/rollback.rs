//! Decides what a permanent failure of an apply leads to, and how each node is rolled back.
//!
//! A rollback that fails for good is not decided here: `fail_rollback` in `evolve.rs` marks the node and rolls back the rest
//! of the run, and `end` in `tick.rs` then ends the run in failure.

use crate::{Fact, Resolution};
use flow::{Action, Attempt, Execution, NodeIndex, Otherwise, Strategy, graph::Role};

use super::super::{
    FiringMachine,
    node::{Intention, NodeState},
};

impl FiringMachine {
    /// Asks the controllers, from the nearest outward.
    pub(super) fn resolve(&self, failed: NodeIndex) -> Resolution {
        let node = self.flow.node(failed);
        let skipped = match node.role {
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
        for scope in self.enclosing(node.scope).skip(skipped) {
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
    pub(super) fn decide_rollback(&self, index: NodeIndex) -> Fact {
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
        let is_of_current_apply = |(attempt, _): (Attempt, Execution)| attempt.get() == node.applies;
        let has_failed_once = matches!(node.state, NodeState::Failure { .. }) && node.consecutive_failures <= 1;
        !has_failed_once
            || node.may_have_applied
            || node.consecutive_losses > 0
            || node.executions.iter().any(is_of_current_apply)
    }

    /// Whether only the controller's own flow, and no enclosing flow, is to run again.
    fn will_retry(&self, controller: NodeIndex) -> bool {
        let mut intentions = self.enclosing(self.flow.node(controller).scope).map(|scope| self.scope(scope).intention);
        intentions.next() == Some(Intention::Retry) && intentions.all(|intention| intention == Intention::Execute)
    }

    /// Whether the flow of a controller that is to retry still has work under way or work to roll back. The effects of a
    /// lost attempt may be rolled back after everything before it, and an edit may have put a running node after a
    /// rolled-back one.
    pub(super) fn is_unfinished(&self, index: NodeIndex) -> bool {
        let node = self.flow.node(index);
        let has_work_left = |ran: &NodeIndex| match &self.node(*ran).state {
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
            && self.ran_within(node.scope).iter().any(has_work_left)
    }
}
