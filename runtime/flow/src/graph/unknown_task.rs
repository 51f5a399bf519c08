//! The error for a task name that the flow does not have.

use super::{Node, Role};
use crate::{Flow, FlowName, NodeName, suggest};

/// The flow has no task with this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("flow {flow} has no task {:?}", task.as_str())]
pub struct UnknownTask {
    flow: FlowName,
    task: NodeName,
    known: Vec<NodeName>,
}

impl Flow {
    /// The error for the name of a task, if the flow has no such task. The names of list elements count as their task.
    #[must_use]
    pub fn unknown_task(&self, task: &NodeName) -> Option<UnknownTask> {
        let name = task.base();
        if self.nodes.iter().any(|node| node.name == name) {
            return None;
        }
        let is_task = |node: &&Node| match node.role {
            Role::Task(_) | Role::Wait(_) | Role::ForEach(_) => true,
            Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => false,
        };
        let known = self.nodes.iter().filter(is_task).map(|node| node.name.clone()).collect();
        Some(UnknownTask { flow: self.name.clone(), task: task.clone(), known })
    }
}

impl UnknownTask {
    /// The most likely intended name, or else the existing tasks.
    #[must_use]
    pub fn hint(&self) -> String {
        let known = self.known.iter().map(NodeName::as_str);
        suggest::did_you_mean(self.task.as_str(), known.clone())
            .unwrap_or_else(|| format!("its tasks are {}", known.collect::<Vec<_>>().join(", ")))
    }
}
