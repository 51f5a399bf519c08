//! The graph of a firing: the nodes of its flow, and behind them the elements of its lists.
//!
//! A list may have a million elements, so an element has no node of its own in the flow: its task says what is true of all of
//! them.

use flow::{
    NodeIndex, NodeName, Task,
    graph::{Controller, ForEach, Node, Role, ScopeIndex, Wait},
};

use super::FiringMachine;

/// One list element of a `for_each` task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::machine) struct Element {
    /// The task.
    pub(in crate::machine) of: NodeIndex,
    /// The index of the element, from 0.
    pub(in crate::machine) number: u32,
}

/// The role of a node in a firing: that of a node of the flow, or an element of a list.
#[derive(Clone, Copy)]
pub(in crate::machine) enum NodeRole<'f> {
    /// Calls a guest.
    Task(&'f Task),
    /// Waits for a notification.
    Wait(&'f Wait),
    /// Stands for a list, and calls a guest for each element.
    ForEach(&'f ForEach),
    /// Calls the guest for one element.
    Element(Element),
    /// Collects the values of the elements of this task.
    FanIn(NodeIndex),
    /// Begins a flow and resolves its failures.
    Controller(&'f Controller),
    /// Begins a flow without a controller.
    Begin,
    /// Ends a flow.
    End,
}

impl FiringMachine {
    /// The indices of all nodes, in order.
    pub(in crate::machine) fn indices(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..u32::try_from(self.nodes.len()).expect("a firing has fewer than 2^32 nodes")).map(NodeIndex)
    }

    /// Whether the firing has a node with this index.
    pub(in crate::machine) fn has_node(&self, index: NodeIndex) -> bool {
        self.nodes.len() > index.0 as usize
    }

    /// The list element that a node is.
    pub(in crate::machine) fn element(&self, index: NodeIndex) -> Option<Element> {
        self.list_elements.get((index.0 as usize).checked_sub(self.flow.nodes.len())?).copied()
    }

    /// The node of the flow that defines a node: itself, or the task of an element. Scope, removal and failure handling of an
    /// element are those of its task; its links and its start time are not.
    pub(in crate::machine) fn definition(&self, index: NodeIndex) -> &Node {
        self.flow.node(self.element(index).map_or(index, |element| element.of))
    }

    pub(in crate::machine) fn role(&self, index: NodeIndex) -> NodeRole<'_> {
        if let Some(element) = self.element(index) {
            return NodeRole::Element(element);
        }
        match &self.flow.node(index).role {
            Role::Task(task) => NodeRole::Task(task),
            Role::Wait(wait) => NodeRole::Wait(wait),
            Role::ForEach(each) => NodeRole::ForEach(each),
            Role::FanIn(each) => NodeRole::FanIn(*each),
            Role::Controller(controller) => NodeRole::Controller(controller),
            Role::Begin => NodeRole::Begin,
            Role::End => NodeRole::End,
        }
    }

    /// The name of a node in calls and notifications.
    pub(in crate::machine) fn name(&self, index: NodeIndex) -> NodeName {
        match self.element(index) {
            Some(Element { of, number }) => self.flow.node(of).name.element(number),
            None => self.flow.node(index).name.clone(),
        }
    }

    /// The task that a node calls, or whose notification it waits for; for a list element, the task of its list.
    pub(in crate::machine) fn attempted_task(&self, index: NodeIndex) -> Option<&NodeName> {
        match self.role(index) {
            NodeRole::Task(_) | NodeRole::Wait(_) | NodeRole::Element(_) => Some(&self.definition(index).name),
            NodeRole::ForEach(_) | NodeRole::FanIn(_) | NodeRole::Controller(_) | NodeRole::Begin | NodeRole::End => {
                None
            }
        }
    }

    pub(in crate::machine) fn scope_of(&self, index: NodeIndex) -> ScopeIndex {
        self.definition(index).scope
    }

    /// The task that a node calls; `None` when it calls no guest itself.
    pub(in crate::machine) fn task_called(&self, index: NodeIndex) -> Option<&Task> {
        match self.role(index) {
            NodeRole::Task(task) => Some(task),
            NodeRole::Element(element) => self.for_each(element.of).map(|each| &each.task),
            NodeRole::Wait(_)
            | NodeRole::ForEach(_)
            | NodeRole::FanIn(_)
            | NodeRole::Controller(_)
            | NodeRole::Begin
            | NodeRole::End => None,
        }
    }

    /// The definition of a `for_each` task; `None` for another node.
    pub(in crate::machine) fn for_each(&self, index: NodeIndex) -> Option<&ForEach> {
        match self.role(index) {
            NodeRole::ForEach(each) => Some(each),
            NodeRole::Task(_)
            | NodeRole::Element(_)
            | NodeRole::Wait(_)
            | NodeRole::FanIn(_)
            | NodeRole::Controller(_)
            | NodeRole::Begin
            | NodeRole::End => None,
        }
    }

    /// The retry controller that a node is; `None` for another node.
    pub(super) fn controller(&self, index: NodeIndex) -> Option<&Controller> {
        match self.role(index) {
            NodeRole::Controller(controller) => Some(controller),
            NodeRole::Task(_)
            | NodeRole::Element(_)
            | NodeRole::Wait(_)
            | NodeRole::ForEach(_)
            | NodeRole::FanIn(_)
            | NodeRole::Begin
            | NodeRole::End => None,
        }
    }

    /// Whether one node listens to the failure of another.
    pub(super) fn handles_failure_of(&self, to: NodeIndex, from: NodeIndex) -> bool {
        self.element(to).is_none() && self.flow.handles_failure_of(to, from)
    }

    /// The node at a position among those that a node waits for; `None` after the last. Positions allow a walk that changes the
    /// nodes.
    pub(in crate::machine) fn before(&self, index: NodeIndex, position: usize) -> Option<NodeIndex> {
        if let Some(element) = self.element(index) {
            return (position == 0).then_some(element.of);
        }
        let node = self.flow.node(index);
        match &node.role {
            Role::FanIn(each) => self.neighbor(&node.before, *each, position),
            Role::Task(_) | Role::Wait(_) | Role::ForEach(_) | Role::Controller(_) | Role::Begin | Role::End => {
                node.before.get(position).copied()
            }
        }
    }

    /// The node at a position among those that wait for a node; `None` after the last.
    pub(in crate::machine) fn after(&self, index: NodeIndex, position: usize) -> Option<NodeIndex> {
        if let Some(element) = self.element(index) {
            return (position == 0).then(|| self.flow.fan_in_of(element.of));
        }
        let node = self.flow.node(index);
        match &node.role {
            Role::ForEach(_) => self.neighbor(&node.after, index, position),
            Role::Task(_) | Role::Wait(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => {
                node.after.get(position).copied()
            }
        }
    }

    /// The node at a position among neighbours in the flow, followed by the elements of a task.
    fn neighbor(&self, in_flow: &[NodeIndex], each: NodeIndex, position: usize) -> Option<NodeIndex> {
        match position.checked_sub(in_flow.len()) {
            None => in_flow.get(position).copied(),
            Some(number) => self.elements_of(each).get(number).copied(),
        }
    }

    /// The nodes that a node waits for.
    pub(in crate::machine) fn all_before(&self, index: NodeIndex) -> impl Iterator<Item = NodeIndex> + use<'_> {
        (0..).map_while(move |position| self.before(index, position))
    }
}
