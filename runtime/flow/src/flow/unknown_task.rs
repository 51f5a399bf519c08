//! A name that is said to be a task of a flow, and is none.

use crate::{Flow, FlowName, NodeName, suggest};

/// A flow does not have a task that is named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("flow {flow} has no task {:?}", task.as_str())]
pub struct UnknownTask {
    flow: FlowName,
    task: NodeName,
    known: Vec<NodeName>,
}

impl Flow {
    /// The mistake in the name of a task, if the flow has none of that name. Elements of a list are of their task.
    #[must_use]
    pub fn unknown_task(&self, task: &NodeName) -> Option<UnknownTask> {
        let name = task.base();
        if self.nodes.iter().any(|node| node.name == name) {
            return None;
        }
        let known = self.tasks().map(|(_, name, _)| name.clone()).collect();
        Some(UnknownTask { flow: self.name.clone(), task: task.clone(), known })
    }
}

impl UnknownTask {
    /// What was most likely meant, or else which tasks there are.
    #[must_use]
    pub fn hint(&self) -> String {
        let known = self.known.iter().map(NodeName::as_str);
        suggest::did_you_mean(self.task.as_str(), known.clone())
            .unwrap_or_else(|| format!("its tasks are {}", known.collect::<Vec<_>>().join(", ")))
    }
}
