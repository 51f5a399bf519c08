//! Decides what a permanent failure of an apply leads to, and how each node is rolled back.
//!
//! A rollback that fails for good is not decided here: `fail_rollback` in `evolve.rs` marks the node and rolls back the rest
//! of the run, and `end` in `tick.rs` then ends the run in failure.

use crate::Fact;
use flow::{Action, Attempt, Execution, NodeIndex};

use super::super::{FiringMachine, graph::NodeRole, node::NodeState};

impl FiringMachine {
    /// The next rollback action of a node that may be rolled back now.
    pub(super) fn decide_rollback(&self, index: NodeIndex) -> Fact {
        if self.task_called(index).is_some_and(|task| task.rollback) && self.may_have_been_called(index) {
            let attempt = self.node_attempt(index, Attempt::new(self.node(index).rollbacks + 1));
            return Fact::Started { attempt, action: Action::Rollback };
        }
        match self.role(index) {
            NodeRole::Controller(_) if self.will_retry(index) => Fact::Retrying { node: index },
            NodeRole::Task(_)
            | NodeRole::Wait(_)
            | NodeRole::ForEach(_)
            | NodeRole::Element(_)
            | NodeRole::FanIn(_)
            | NodeRole::Controller(_)
            | NodeRole::Begin
            | NodeRole::End => Fact::RollbackNotNeeded { node: index },
        }
    }

    /// Whether a guest may have been called for a node since it was last pending. With a missing input, a condition that
    /// could not be evaluated, or a remembered result, none was.
    pub(in crate::machine::firing) fn may_have_been_called(&self, index: NodeIndex) -> bool {
        let node = self.node(index);
        let is_of_current_apply = |(attempt, _): (Attempt, Execution)| attempt.get() == node.applies;
        let has_failed_once = matches!(node.state, NodeState::Failure { .. }) && node.consecutive_failures <= 1;
        let has_succeeded_at_once = matches!(node.state, NodeState::Success { .. }) && node.consecutive_failures == 0;
        !(has_failed_once || has_succeeded_at_once)
            || node.may_have_applied
            || node.consecutive_losses > 0
            || node.executions.iter().any(is_of_current_apply)
    }
}
