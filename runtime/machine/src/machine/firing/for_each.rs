//! Tasks that are called for each element of a list: elements get nodes once the list is known, and a window limits how many
//! run at once.
//!
//! The task itself stands for the list. Its elements are nodes like any other, each with its own attempts and rollback; they
//! are added to the firing's own copy of the flow. The fan-in joins their results and ends the task.

mod fetch;

use std::{collections::BTreeSet, sync::Arc};

use crate::Fact;
use flow::{Attempt, Failure, FailureKind, Json, NodeIndex, NodeName, State, Value};

use super::{
    FiringMachine,
    graph::{Element, NodeRole},
    held::list_bytes,
    node::{NodeRun, NodeState, ProvidedValues},
};

pub use fetch::{collect_results, elements};

/// The maximum number of elements of a task that are called, or about to be, at the same time, where `max_parallel` does not
/// set it. It also bounds the elements that are prepared ahead, in memory and in messages. Small in tests, so that random
/// flows reach it.
const WINDOW: usize = if cfg!(test) { 6 } else { 1_000 };

/// The elements of a `for_each` task.
#[derive(Debug, Clone, PartialEq)]
pub struct Expansion {
    /// The nodes of elements, from the first element on, including those of earlier, longer lists. An element gets its node
    /// when it is about to be called.
    pub nodes: Vec<NodeIndex>,
    /// The list. Shared with the record that contains it.
    pub list: Arc<[Json]>,
}

impl Default for Expansion {
    fn default() -> Self {
        Self { nodes: Vec::new(), list: Arc::new([]) }
    }
}

/// An element of a list, as others see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ElementState<'m> {
    /// Its number, from 0.
    pub number: u32,
    /// Its state.
    pub state: State,
    /// Its last attempt; `None` before the first.
    pub attempt: Option<Attempt>,
    /// Why it failed last.
    pub failure: Option<&'m Failure>,
}

/// The elements of a task by their progress, for scheduling.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::machine) struct Elements {
    pub(in crate::machine) expansion: Expansion,
    /// Elements that may start.
    waiting: BTreeSet<NodeIndex>,
    /// The number of elements that are being called, or wait for their next attempt.
    busy: usize,
    /// Elements that may be rolled back.
    rollback_ready: BTreeSet<NodeIndex>,
    /// The number of elements that are being rolled back.
    rolling_back: usize,
}

impl FiringMachine {
    /// The index of a task, or of one of its elements.
    pub(in crate::machine) fn index_of(&self, name: &NodeName) -> Option<NodeIndex> {
        match name.as_element() {
            Some((of, number)) => {
                self.elements.get(self.tasks.get(&of)?)?.expansion.nodes.get(number as usize).copied()
            }
            None => self.tasks.get(name).copied(),
        }
    }

    /// The nodes of a task's elements, as far as they exist.
    pub(super) fn elements_of(&self, each: NodeIndex) -> &[NodeIndex] {
        self.elements.get(&each).map_or(&[], |elements| &elements.expansion.nodes)
    }

    /// The list value that an element is called for.
    pub(super) fn element_value(&self, element: Element) -> Option<Value> {
        let list = &self.elements.get(&element.of)?.expansion.list;
        list.get(element.number as usize).cloned().map(Value::Json)
    }

    /// Takes the list of a task: each of its elements may be called in its turn.
    pub(super) fn expand(&mut self, index: NodeIndex, list: &Arc<[Json]>) {
        self.fetches.remove(&index);
        let was_short = self.has_unexpanded_elements(index);
        let old = std::mem::replace(&mut self.elements.entry(index).or_default().expansion.list, list.clone());
        self.count_held(list_bytes(&old), list_bytes(list));
        self.count_unexpanded(index, was_short);
        let nodes = self.elements_of(index).to_vec();
        // Elements left over from a longer earlier list, except those a lost attempt still has to roll back.
        for index in nodes.iter().skip(list.len()) {
            if self.node(*index).state == NodeState::Pending {
                self.enter(*index, NodeState::Ignored);
            }
        }
        self.enter(index, NodeState::Success { provided: ProvidedValues::default() });
        // The elements of a removed task have nothing to wait for.
        self.update_readiness(nodes);
        self.fill_window(index);
    }

    /// Whether some elements of a task have no nodes yet, and will be called.
    pub(in crate::machine) fn has_unexpanded_elements(&self, each: NodeIndex) -> bool {
        let has_unexpanded = |elements: &Elements| elements.expansion.nodes.len() < elements.expansion.list.len();
        !self.definition(each).retired && self.elements.get(&each).is_some_and(has_unexpanded)
    }

    /// The number of list elements without nodes.
    pub(in crate::machine) fn unexpanded_elements(&self) -> usize {
        self.elements
            .values()
            .map(|elements| elements.expansion.list.len().saturating_sub(elements.expansion.nodes.len()))
            .sum()
    }

    /// The fan-in counts all elements without nodes as one node to wait for.
    fn count_unexpanded(&mut self, each: NodeIndex, was_short: bool) {
        let is_short = self.has_unexpanded_elements(each);
        if was_short != is_short {
            let mut work = Vec::new();
            self.count_waiting(self.flow.fan_in_of(each), was_short, &mut work);
            self.update_readiness(work);
        }
    }

    /// The maximum number of elements of a task that are called, or rolled back, at once.
    fn window(&self, each: NodeIndex) -> usize {
        let max = self.for_each(each).and_then(|each| each.max_parallel);
        max.map_or(WINDOW, |max| max as usize)
    }

    /// Marks a node as ready for rollback; a list element waits for its turn.
    pub(super) fn mark_rollback_ready(&mut self, index: NodeIndex) {
        let element = self.element(index);
        match element.and_then(|element| Some((element.of, self.elements.get_mut(&element.of)?))) {
            Some((each, elements)) => {
                elements.rollback_ready.insert(index);
                self.rollback_ready_lists.insert(each);
            }
            None => drop(self.rollback_ready.insert(self.start_order(index))),
        }
    }

    /// Clears the rollback mark of a node that may not be rolled back any more, or is about to be.
    pub(super) fn clear_rollback_ready(&mut self, index: NodeIndex) {
        let element = self.element(index);
        match element.and_then(|element| Some((element.of, self.elements.get_mut(&element.of)?))) {
            Some((each, elements)) => {
                elements.rollback_ready.remove(&index);
                if elements.rollback_ready.is_empty() {
                    self.rollback_ready_lists.remove(&each);
                }
            }
            None => drop(self.rollback_ready.remove(&self.start_order(index))),
        }
    }

    /// The elements that may be rolled back now, within the window.
    pub(super) fn rollback_ready_elements(&self) -> impl Iterator<Item = NodeIndex> + use<'_> {
        self.rollback_ready_lists.iter().filter_map(|each| Some((*each, self.elements.get(each)?))).flat_map(
            |(each, elements)| {
                elements.rollback_ready.iter().copied().take(self.window(each).saturating_sub(elements.rolling_back))
            },
        )
    }

    /// Creates nodes for further elements of a task, up to its window.
    pub(super) fn fill_window(&mut self, each: NodeIndex) {
        let window = self.window(each);
        let fan_in = &self.node(self.flow.fan_in_of(each)).state;
        let is_called = *fan_in == NodeState::Pending && matches!(self.node(each).state, NodeState::Success { .. });
        if !is_called || !self.has_unexpanded_elements(each) || !self.may_continue(each) {
            return;
        }
        let Some(Elements { expansion, waiting, busy, .. }) = self.elements.get(&each) else { return };
        let (first, free) = (expansion.nodes.len(), window.saturating_sub(waiting.len() + busy));
        let end = expansion.list.len().min(first + free);
        let numbers = (0..).take(end).skip(first);
        let new: Vec<NodeIndex> = numbers.map(|number| self.push_element(each, number)).collect();
        if let Some(elements) = self.elements.get_mut(&each) {
            elements.expansion.nodes.extend(&new);
        }
        self.count_unexpanded(each, true);
        self.update_readiness(new);
    }

    /// Restores the elements of a firing; `None` where they do not fit its nodes.
    pub(in crate::machine) fn restore_elements(&mut self, expansions: Vec<(NodeIndex, Expansion)>) -> Option<()> {
        let elements_of = |(each, expansion): &(NodeIndex, Expansion)| {
            let each = *each;
            expansion.nodes.iter().zip(0..).map(move |(index, number)| (*index, each, number)).collect::<Vec<_>>()
        };
        let mut elements: Vec<(NodeIndex, NodeIndex, u32)> = expansions.iter().flat_map(elements_of).collect();
        elements.sort_unstable();
        let has_list = |(each, _): &(NodeIndex, Expansion)| {
            self.flow.nodes.len() > each.0 as usize && self.for_each(*each).is_some()
        };
        if !expansions.iter().all(has_list) {
            return None;
        }
        for (index, each, number) in elements {
            if self.push_element(each, number) != index {
                return None;
            }
        }
        self.elements = expansions
            .into_iter()
            .map(|(each, expansion)| (each, Elements { expansion, ..Elements::default() }))
            .collect();
        Some(())
    }

    /// Creates the node of the next element of a list.
    fn push_element(&mut self, each: NodeIndex, number: u32) -> NodeIndex {
        let index = NodeIndex(u32::try_from(self.nodes.len()).expect("a firing has fewer than 2^32 nodes"));
        self.list_elements.push(Element { of: each, number });
        self.nodes.push(NodeRun { firing: self.firing, ..NodeRun::untouched() });
        let waits_for_task = !self.unblocks_successors(each, &self.node(each).state, index);
        self.node_mut(index).waiting = u32::from(waits_for_task);
        let fan_in = self.flow.fan_in_of(each);
        self.node_mut(fan_in).waiting += 1;
        // After an edit, a node that follows the fan-in may already be running.
        if self.delays_rollback(fan_in) {
            self.update_rollback_blockers(index, true, &mut Vec::new());
        }
        index
    }

    /// Queues an element; it starts when the window allows.
    pub(super) fn queue(&mut self, index: NodeIndex, element: Element) {
        if let Some(elements) = self.elements.get_mut(&element.of) {
            elements.waiting.insert(index);
            self.queued.insert(element.of);
        }
    }

    /// Removes an element from the queue: it may not start any more.
    pub(super) fn unqueue(&mut self, index: NodeIndex, element: Element) {
        if let Some(elements) = self.elements.get_mut(&element.of)
            && elements.waiting.remove(&index)
            && elements.waiting.is_empty()
        {
            self.queued.remove(&element.of);
        }
    }

    /// Empties the queue of every task in a flow that will be rolled back: no further element starts.
    pub(super) fn unqueue_all(&mut self) {
        let stopped: Vec<NodeIndex> = self.queued.iter().copied().filter(|each| !self.may_continue(*each)).collect();
        for each in stopped {
            self.queued.remove(&each);
            self.elements.get_mut(&each).into_iter().for_each(|elements| elements.waiting.clear());
        }
    }

    /// Updates the number of elements under way after a change of state.
    pub(super) fn update_active_count(&mut self, index: NodeIndex, element: Element, new: &NodeState) {
        let old = &self.nodes[index.0 as usize].state;
        if let Some(elements) = self.elements.get_mut(&element.of) {
            elements.busy += usize::from(new.is_applying());
            elements.busy -= usize::from(old.is_applying());
            elements.rolling_back += usize::from(new.is_rolling_back());
            elements.rolling_back -= usize::from(old.is_rolling_back());
        }
    }

    /// The elements that may start now, within the window.
    pub(super) fn startable_elements(&self) -> impl Iterator<Item = NodeIndex> + use<'_> {
        let lists = self.queued.iter().filter_map(|each| Some((*each, self.elements.get(each)?)));
        lists.flat_map(|(each, elements)| {
            elements.waiting.iter().copied().take(self.window(each).saturating_sub(elements.busy))
        })
    }

    /// The `for_each` task whose list a node begins, or whose element it is.
    pub(super) fn for_each_task_of(&self, index: NodeIndex) -> Option<NodeIndex> {
        match self.role(index) {
            NodeRole::ForEach(_) => Some(index),
            NodeRole::Element(element) => Some(element.of),
            NodeRole::Task(_)
            | NodeRole::Wait(_)
            | NodeRole::FanIn(_)
            | NodeRole::Controller(_)
            | NodeRole::Begin
            | NodeRole::End => None,
        }
    }

    /// The record that fails a task after the permanent failure of one of its parts.
    pub(super) fn fail_for_each(&self, index: NodeIndex, each: NodeIndex) -> Fact {
        let fan_in = self.flow.fan_in_of(each);
        let failed = if let NodeState::Failure { failure, .. } = &self.node(index).state {
            (**failure).clone()
        } else {
            Failure::new(FailureKind::Permanent, "it failed")
        };
        let failure = match self.element(index) {
            Some(element) => {
                let message = format!("element {}: {}", element.number, failed.message);
                Failure { message: Failure::new(failed.kind, message).message, ..failed }
            }
            None => failed,
        };
        let attempt = flow::Attempt::new(self.node(fan_in).applies + 1);
        Fact::StartFailed { node: fan_in, attempt, failure }
    }

    /// Whether the permanent failure of a part still has to fail its task.
    pub(super) fn fails_for_each(&self, index: NodeIndex, each: NodeIndex) -> bool {
        let fan_in = &self.node(self.flow.fan_in_of(each)).state;
        self.may_continue(index) && !self.definition(index).retired && *fan_in == NodeState::Pending
    }

    /// The task has failed: its failed parts need no resolution any more, and no other element starts.
    pub(super) fn on_for_each_failed(&mut self, each: NodeIndex) {
        self.unresolved.remove(&each);
        self.queued.remove(&each);
        let Some(elements) = self.elements.get_mut(&each) else { return };
        elements.waiting.clear();
        for index in &elements.expansion.nodes {
            self.unresolved.remove(index);
        }
    }

    /// The state of a `for_each` task, including its elements.
    pub(super) fn for_each_state(&self, each: NodeIndex) -> State {
        let is_stuck = |index: &NodeIndex| self.failed_rollbacks.contains(index);
        if self.elements_of(each).iter().any(is_stuck) {
            return State::RollbackFailure;
        }
        match (self.node(each).state.published(), self.node(self.flow.fan_in_of(each)).state.published()) {
            (State::Success, final_state @ (State::Success | State::Failure)) => final_state,
            (State::Success, _) if !self.may_continue(each) => State::RollingBack,
            // A removed task has no fan-in to join its results.
            (State::Success, State::Ignored) => self.state_of_elements(each),
            (State::Success, _) => State::Running,
            (state, _) => state,
        }
    }

    /// The combined state of a task's elements when no fan-in joins their results.
    fn state_of_elements(&self, each: NodeIndex) -> State {
        let has_failed = |index: &NodeIndex| matches!(self.node(*index).state, NodeState::Failure { .. });
        if self.elements.get(&each).is_some_and(|elements| elements.busy > 0) {
            State::Running
        } else if self.elements_of(each).iter().any(has_failed) {
            State::Failure
        } else {
            State::Success
        }
    }

    /// The number of elements of a task, and how many of them succeeded.
    pub(in crate::machine) fn progress(&self, each: NodeIndex) -> Option<(usize, usize)> {
        let elements = self.elements.get(&each)?;
        let (all, nodes) = (elements.expansion.list.len(), &elements.expansion.nodes);
        let succeeded = |index: &&NodeIndex| matches!(self.node(**index).state, NodeState::Success { .. });
        Some((all, nodes.iter().take(all).filter(succeeded).count()))
    }

    /// The elements of a task from a number on, in their order; `None` before its list is known.
    pub(in crate::machine) fn element_states(
        &self,
        each: NodeIndex,
        from: u32,
    ) -> Option<impl ExactSizeIterator<Item = ElementState<'_>>> {
        let expansion = &self.elements.get(&each)?.expansion;
        let count = u32::try_from(expansion.list.len()).unwrap_or(u32::MAX);
        let state_of = move |number: u32| match expansion.nodes.get(number as usize) {
            Some(index) => {
                let node = self.node(*index);
                let failure =
                    if let NodeState::Failure { failure, .. } = &node.state { Some(&**failure) } else { None };
                let failure = failure.or_else(|| self.failures.get(&self.name(*index)));
                let attempt = (node.applies > 0).then(|| node.attempt());
                ElementState { number, state: node.state.published(), attempt, failure }
            }
            None => ElementState { number, state: State::Pending, attempt: None, failure: None },
        };
        Some((from.min(count)..count).map(state_of))
    }

    /// Counts an element again that was under way when the firing was saved.
    pub(in crate::machine) fn recount(&mut self, index: NodeIndex) {
        let element = self.element(index);
        if let Some(elements) = element.and_then(|element| self.elements.get_mut(&element.of)) {
            let state = &self.nodes[index.0 as usize].state;
            elements.busy += usize::from(state.is_applying());
            elements.rolling_back += usize::from(state.is_rolling_back());
        }
    }
}
