//! The changes of nodes and runs that a firing publishes.

use crate::{Change, Command, NodeChange, Trigger};
use flow::{Attempt, CallId, Failure, NodeIndex, NodeKind, State, Timestamp, Values, WorkerName};

use super::{FiringMachine, graph::NodeRole};

impl FiringMachine {
    pub(in crate::machine) fn publish_run(&self, at: Timestamp) -> Vec<Command> {
        vec![Command::Publish(Change::Run { state: self.state, at })]
    }

    pub(super) fn publish(&self, index: NodeIndex, at: Timestamp, details: ChangeDetails) -> Command {
        self.publish_as(index, self.node(index).state.published(), at, details)
    }

    pub(super) fn publish_as(&self, index: NodeIndex, state: State, at: Timestamp, details: ChangeDetails) -> Command {
        let (role, run) = (self.role(index), self.node(index));
        let (kind, digest) = match role {
            NodeRole::Task(task) => (NodeKind::Task, Some(task.module)),
            NodeRole::ForEach(each) => (NodeKind::Task, Some(each.task.module)),
            NodeRole::Element(_) => (NodeKind::Task, self.task_called(index).map(|task| task.module)),
            NodeRole::FanIn(each) => (NodeKind::Task, self.for_each(each).map(|each| each.task.module)),
            NodeRole::Wait(_) => (NodeKind::Task, None),
            NodeRole::Controller(_) | NodeRole::Begin | NodeRole::End => (NodeKind::Retry, None),
        };
        let attempt: Attempt = match (role, state) {
            // The rollback of a `for_each` task begins with its fan-in and ends with the task.
            (NodeRole::FanIn(each), State::RollingBack) => Attempt::new(self.node(each).rollbacks + 1),
            _ => run.attempt(),
        };
        let ChangeDetails { provides, failure, retry_in, worker, computed_by } = details;
        let change = NodeChange {
            kind,
            name: self.name(index),
            state,
            firing: run.firing,
            attempt,
            at,
            provides,
            failure,
            retry_in,
            worker,
            computed_by,
            digest,
            is_of_empty_firing: self.is_empty_after(index, state),
        };
        Command::Publish(Change::Node(change))
    }

    /// Whether a notification triggered this firing, which has called no guest and has not waited up to this change of a
    /// node. Only for the states that listeners are notified of.
    fn is_empty_after(&self, index: NodeIndex, state: State) -> bool {
        let is_notified = matches!(state, State::Success | State::Failure);
        // The node itself comes first: mostly it was called, and a firing may have many nodes.
        is_notified
            && matches!(self.by, Trigger::Notification { .. })
            && !self.was_executed(index)
            && !self.indices().any(|other| self.was_executed(other))
    }

    /// Whether a guest was called for a node, or the node has waited.
    pub(super) fn was_executed(&self, index: NodeIndex) -> bool {
        match self.role(index) {
            NodeRole::Wait(_) => self.node(index).applies > 0,
            NodeRole::Task(_) | NodeRole::Element(_) => {
                self.node(index).applies > 0 && self.may_have_been_called(index)
            }
            NodeRole::ForEach(_) | NodeRole::FanIn(_) | NodeRole::Controller(_) | NodeRole::Begin | NodeRole::End => {
                false
            }
        }
    }
}

/// The published details of a change besides the state.
#[derive(Default)]
pub(super) struct ChangeDetails {
    provides: Option<Values>,
    failure: Option<Failure>,
    retry_in: Option<std::time::Duration>,
    worker: Option<WorkerName>,
    computed_by: Option<Box<CallId>>,
}

impl ChangeDetails {
    /// The details of a success.
    pub(super) fn success(provided: Values, worker: Option<&WorkerName>) -> Self {
        Self { provides: Some(provided), ..Self::executed_by(worker) }
    }

    /// The details of a success without a call.
    pub(super) fn remembered(provided: Values, computed_by: &CallId) -> Self {
        Self { provides: Some(provided), computed_by: Some(computed_by.clone().into()), ..Self::default() }
    }

    /// The worker that executed the call.
    pub(super) fn executed_by(worker: Option<&WorkerName>) -> Self {
        Self { worker: worker.cloned(), ..Self::default() }
    }

    /// The details of a failure.
    pub(super) fn failure(
        at: Timestamp,
        failure: &Failure,
        retry_at: Option<Timestamp>,
        worker: Option<&WorkerName>,
    ) -> Self {
        Self {
            failure: Some(failure.clone()),
            retry_in: retry_at.map(|due| due.since(at)),
            ..Self::executed_by(worker)
        }
    }
}
