//! The graph of a firing with its list elements, for checks of a whole history.

use flow::{NodeIndex, NodeName};

use super::super::super::firing::{FiringMachine, graph::NodeRole};

/// The nodes of a firing: those of its flow, then its list elements.
#[derive(Clone)]
pub(in crate::machine::tests) struct Graph(Vec<GraphNode>);

#[derive(Clone)]
pub(in crate::machine::tests) struct GraphNode {
    pub(in crate::machine::tests) name: NodeName,
    /// Whether it is a list element, or collects their results.
    pub(in crate::machine::tests) is_of_a_list: bool,
    pub(in crate::machine::tests) is_failure_handler: bool,
    pub(in crate::machine::tests) can_roll_back: bool,
    pub(in crate::machine::tests) after: Vec<NodeIndex>,
}

impl Graph {
    pub(in crate::machine::tests) fn of(firing: &FiringMachine) -> Self {
        let node = |index: NodeIndex| GraphNode {
            name: firing.name(index),
            is_of_a_list: matches!(firing.role(index), NodeRole::Element(_) | NodeRole::FanIn(_)),
            is_failure_handler: firing.definition(index).is_failure_handler,
            can_roll_back: firing.task_called(index).is_some_and(|task| task.rollback),
            after: (0..).map_while(|position| firing.after(index, position)).collect(),
        };
        Self(firing.indices().map(node).collect())
    }

    pub(in crate::machine::tests) fn node(&self, index: NodeIndex) -> &GraphNode {
        &self.0[index.0 as usize]
    }

    pub(in crate::machine::tests) fn nodes(&self) -> impl Iterator<Item = (NodeIndex, &GraphNode)> {
        (0..).map(NodeIndex).zip(&self.0)
    }
}
