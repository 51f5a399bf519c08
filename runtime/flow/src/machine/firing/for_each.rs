//! Tasks that are called for each element of a list: elements get nodes once the list is known, and a window limits how many
//! run at once.
//!
//! The task itself stands for the list. Its elements are nodes like any other, each with its own attempts and rollback; they
//! are added to the firing's own copy of the flow. The fan-in joins their results and ends the task.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    Action, CallId, Command, Element, Fact, Failure, FailureKind, FetchResult, FetchTarget, Json, MAX_INLINE_BYTES,
    Node, NodeIndex, NodeName, Role, Size, Source, State, Value, ValueFetch, ValueName, Values,
};

use super::{
    FiringMachine,
    node::{NodeRun, NodeState},
};

/// The largest list that `for_each` accepts.
const MAX_ELEMENTS: usize = 1_000_000;

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

/// The elements of a task by their progress, for scheduling.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::machine) struct Elements {
    pub(in crate::machine) known: Expansion,
    /// Elements that may start.
    waiting: BTreeSet<NodeIndex>,
    /// The number of elements that are being called, or wait for their next attempt.
    busy: usize,
    /// Elements that may be rolled back.
    unwinding: BTreeSet<NodeIndex>,
    /// The number of elements that are being rolled back.
    rolling_back: usize,
}

impl FiringMachine {
    /// The index of a task, or of one of its elements.
    pub(in crate::machine) fn index_of(&self, name: &NodeName) -> Option<NodeIndex> {
        match name.as_element() {
            Some((of, number)) => self.elements.get(self.tasks.get(&of)?)?.known.nodes.get(number as usize).copied(),
            None => self.tasks.get(name).copied(),
        }
    }

    pub(super) fn element(&self, index: NodeIndex) -> Option<Element> {
        match &self.flow.node(index).role {
            Role::Element(element) => Some(*element),
            Role::Task(_)
            | Role::Wait(_)
            | Role::ForEach(_)
            | Role::FanIn(_)
            | Role::Controller(_)
            | Role::Begin
            | Role::End => None,
        }
    }

    /// The nodes of a task's elements, as far as they exist.
    pub(super) fn elements_of(&self, each: NodeIndex) -> &[NodeIndex] {
        self.elements.get(&each).map_or(&[], |elements| &elements.known.nodes)
    }

    /// The list value that an element is called for.
    pub(super) fn element_value(&self, element: Element) -> Option<Value> {
        let list = &self.elements.get(&element.of)?.known.list;
        list.get(element.number as usize).cloned().map(Value::Json)
    }

    /// Takes the list of a task: each of its elements may be called in its turn.
    pub(super) fn expand(&mut self, index: NodeIndex, list: &Arc<[Json]>) {
        self.fetches.remove(&index);
        let was_short = self.is_short(index);
        self.elements.entry(index).or_default().known.list = list.clone();
        self.count_unexpanded(index, was_short);
        let nodes = self.elements_of(index).to_vec();
        // Elements left over from a longer earlier list, except those a lost attempt still has to roll back.
        for index in nodes.iter().skip(list.len()) {
            if self.node(*index).state == NodeState::Pending {
                self.enter(*index, NodeState::Ignored);
            }
        }
        self.enter(index, NodeState::Success { provided: Values::new() });
        // The elements of a removed task have nothing to wait for.
        self.settle(nodes);
        self.fill_window(index);
    }

    /// Whether some elements of a task have no nodes yet, and will be called.
    pub(in crate::machine) fn is_short(&self, each: NodeIndex) -> bool {
        let is_known = |elements: &Elements| elements.known.nodes.len() < elements.known.list.len();
        !self.flow.node(each).retired && self.elements.get(&each).is_some_and(is_known)
    }

    /// The number of list elements without nodes.
    pub(in crate::machine) fn elements_ahead(&self) -> usize {
        self.elements
            .values()
            .map(|elements| elements.known.list.len().saturating_sub(elements.known.nodes.len()))
            .sum()
    }

    /// The fan-in counts all elements without nodes as one node to wait for.
    fn count_unexpanded(&mut self, each: NodeIndex, was_short: bool) {
        let is_short = self.is_short(each);
        if was_short != is_short {
            let mut work = Vec::new();
            self.count_waiting(self.flow.fan_in_of(each), was_short, &mut work);
            self.settle(work);
        }
    }

    /// The maximum number of elements of a task that are called, or rolled back, at once.
    fn window(&self, each: NodeIndex) -> usize {
        let most = self.flow.for_each(each).and_then(|each| each.max_parallel);
        most.map_or(WINDOW, |most| most as usize)
    }

    /// Marks a node as ready for rollback; a list element waits for its turn.
    pub(super) fn mark_rollback_ready(&mut self, index: NodeIndex) {
        let element = self.element(index);
        match element.and_then(|element| Some((element.of, self.elements.get_mut(&element.of)?))) {
            Some((each, elements)) => {
                elements.unwinding.insert(index);
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
                elements.unwinding.remove(&index);
                if elements.unwinding.is_empty() {
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
                elements.unwinding.iter().copied().take(self.window(each).saturating_sub(elements.rolling_back))
            },
        )
    }

    /// Creates nodes for further elements of a task, up to its window.
    pub(super) fn fill_window(&mut self, each: NodeIndex) {
        let window = self.window(each);
        let gather = &self.node(self.flow.fan_in_of(each)).state;
        let is_called = *gather == NodeState::Pending && matches!(self.node(each).state, NodeState::Success { .. });
        if !is_called || !self.is_short(each) || !self.may_continue(each) {
            return;
        }
        let Some(Elements { known, waiting, busy, .. }) = self.elements.get(&each) else { return };
        let (first, room) = (known.nodes.len(), window.saturating_sub(waiting.len() + busy));
        let end = known.list.len().min(first + room);
        let numbers = (0..).take(end).skip(first);
        let new: Vec<NodeIndex> = numbers.map(|number| self.push_element(each, number)).collect();
        if let Some(elements) = self.elements.get_mut(&each) {
            elements.known.nodes.extend(&new);
        }
        self.count_unexpanded(each, true);
        self.settle(new);
    }

    /// Restores the elements of a firing; `None` where they do not fit its nodes.
    pub(in crate::machine) fn take_elements(&mut self, expansions: Vec<(NodeIndex, Expansion)>) -> Option<()> {
        let of = |(each, known): &(NodeIndex, Expansion)| {
            let each = *each;
            known.nodes.iter().zip(0..).map(move |(index, number)| (*index, each, number)).collect::<Vec<_>>()
        };
        let mut places: Vec<(NodeIndex, NodeIndex, u32)> = expansions.iter().flat_map(of).collect();
        places.sort_unstable();
        let is_for_each = |(each, _): &(NodeIndex, Expansion)| {
            self.flow.nodes.len() > each.0 as usize && self.flow.for_each(*each).is_some()
        };
        if !expansions.iter().all(is_for_each) {
            return None;
        }
        for (place, each, number) in places {
            if self.push_element(each, number) != place {
                return None;
            }
        }
        self.elements =
            expansions.into_iter().map(|(each, known)| (each, Elements { known, ..Elements::default() })).collect();
        Some(())
    }

    /// Creates the node of the next element of a list.
    fn push_element(&mut self, each: NodeIndex, number: u32) -> NodeIndex {
        let index = NodeIndex(u32::try_from(self.nodes.len()).expect("a pass has fewer than 2^32 nodes"));
        let flow = Arc::make_mut(&mut self.flow);
        let (task, gather) = (flow.node(each), flow.fan_in_of(each));
        let node = Node {
            name: task.name.element(number),
            scope: task.scope,
            role: Role::Element(Element { of: each, number }),
            starts: None,
            links: Vec::new(),
            retired: task.retired,
            is_failure_handler: task.is_failure_handler,
            before: vec![each],
            after: vec![gather],
        };
        flow.nodes.push(node);
        flow.nodes[each.0 as usize].after.push(index);
        flow.nodes[gather.0 as usize].before.push(index);
        self.nodes.push(NodeRun { firing: self.firing, ..NodeRun::new(0) });
        let is_waited_for = !self.lets_follow(each, &self.node(each).state, index);
        self.node_mut(index).waiting = usize::from(is_waited_for);
        self.node_mut(gather).waiting += 1;
        // After an edit, a node that follows the fan-in may already be running.
        if self.holds_back(gather) {
            self.count_holding(index, true, &mut Vec::new());
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

    /// Empties the queues of tasks whose flow is to be rolled back: no further element starts.
    pub(super) fn unqueue_all(&mut self) {
        let stopped: Vec<NodeIndex> = self.queued.iter().copied().filter(|each| !self.may_continue(*each)).collect();
        for each in stopped {
            self.queued.remove(&each);
            self.elements.get_mut(&each).into_iter().for_each(|elements| elements.waiting.clear());
        }
    }

    /// Updates the number of elements under way after a change of state.
    pub(super) fn update_active_count(&mut self, element: Element, old: &NodeState, new: &NodeState) {
        if let Some(elements) = self.elements.get_mut(&element.of) {
            elements.busy += usize::from(is_busy(new));
            elements.busy -= usize::from(is_busy(old));
            elements.rolling_back += usize::from(is_rolling_back(new));
            elements.rolling_back -= usize::from(is_rolling_back(old));
        }
    }

    /// The elements that may start now, within the window.
    pub(super) fn startable_elements(&self) -> impl Iterator<Item = NodeIndex> + use<'_> {
        self.queued.iter().filter_map(|each| Some((self.flow.for_each(*each)?, self.elements.get(each)?))).flat_map(
            |(each, elements)| {
                let most = each.max_parallel.map_or(usize::MAX, |most| most as usize);
                elements.waiting.iter().copied().take(most.saturating_sub(elements.busy))
            },
        )
    }

    /// The `for_each` task whose list a node begins, or whose element it is.
    pub(super) fn for_each_task_of(&self, index: NodeIndex) -> Option<NodeIndex> {
        match &self.flow.node(index).role {
            Role::ForEach(_) => Some(index),
            Role::Element(element) => Some(element.of),
            Role::Task(_) | Role::Wait(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => None,
        }
    }

    /// The record that fails a task after the permanent failure of one of its parts.
    pub(super) fn fail_for_each(&self, index: NodeIndex, each: NodeIndex) -> Fact {
        let gather = self.flow.fan_in_of(each);
        let failed = match &self.node(index).state {
            NodeState::Failure { failure, .. } => failure.clone(),
            NodeState::Pending
            | NodeState::Running { .. }
            | NodeState::Success { .. }
            | NodeState::RollingBack { .. }
            | NodeState::RolledBack
            | NodeState::RollbackFailure { .. }
            | NodeState::Retrying
            | NodeState::NotInFiring
            | NodeState::Ignored => Failure::new(FailureKind::Permanent, "it failed"),
        };
        let failure = match self.element(index) {
            Some(element) => {
                let message = format!("element {}: {}", element.number, failed.message);
                Failure { message: Failure::new(failed.kind, message).message, ..failed }
            }
            None => failed,
        };
        let attempt = crate::Attempt::new(self.node(gather).applies + 1);
        Fact::StartFailed { node: gather, attempt, failure }
    }

    /// Whether the permanent failure of a part still has to fail its task.
    pub(super) fn fails_for_each(&self, index: NodeIndex, each: NodeIndex) -> bool {
        let gather = &self.node(self.flow.fan_in_of(each)).state;
        self.may_continue(index) && !self.flow.node(index).retired && *gather == NodeState::Pending
    }

    /// The task has failed: its failed parts need no resolution any more, and no other element starts.
    pub(super) fn on_for_each_failed(&mut self, each: NodeIndex) {
        self.unresolved.remove(&each);
        self.queued.remove(&each);
        let Some(elements) = self.elements.get_mut(&each) else { return };
        elements.waiting.clear();
        for index in &elements.known.nodes {
            self.unresolved.remove(index);
        }
    }

    /// Starts the fetch of a task that stands for a list: it reads the list, or joins the results. Returns a command when
    /// values have to be fetched from the store.
    pub(in crate::machine) fn send_for(&mut self, index: NodeIndex) -> Option<Command> {
        let errand = self.value_fetch(index);
        let is_of_results = self.flow.for_each(index).is_none();
        self.fetches.insert(index, is_of_results && errand.is_some());
        errand.map(|errand| Command::Fetch(Box::new(errand)))
    }

    /// The fetches that are still unanswered.
    pub(in crate::machine) fn pending_fetches(&self) -> impl Iterator<Item = ValueFetch> + use<'_> {
        self.fetches.keys().filter(|index| self.is_fetching(**index)).filter_map(|index| self.value_fetch(*index))
    }

    /// Whether a fetch is outstanding for a task.
    pub(super) fn is_fetching(&self, index: NodeIndex) -> bool {
        match (self.fetches.get(&index), self.flow.for_each(index)) {
            (None, _) => false,
            // After an edit, the provider of the list may be rolled back meanwhile: then there is nothing to fetch.
            (Some(_), Some(each)) => matches!(self.read(&each.list).as_deref(), Some(Value::Stored(_))),
            (Some(has_to_be_brought), None) => *has_to_be_brought,
        }
    }

    /// The fetch that a task needs; `None` when all values are inline.
    fn value_fetch(&self, index: NodeIndex) -> Option<ValueFetch> {
        let what = match &self.flow.node(index).role {
            Role::ForEach(each) => match self.read(&each.list).as_deref() {
                Some(value @ Value::Stored(_)) => FetchTarget::List(value.clone()),
                Some(Value::Json(_) | Value::Bytes(_)) | None => return None,
            },
            Role::FanIn(each) => {
                let results = self.results(*each);
                let sizes = results.values().map(|values| values.iter().map(|value| value.size() + 1).sum::<usize>());
                let is_stored = |value: &Value| matches!(value, Value::Stored(_));
                let is_small = sizes.max().unwrap_or_default() < MAX_INLINE_BYTES;
                if is_small && !results.values().flatten().any(is_stored) {
                    return None;
                }
                FetchTarget::Results(results)
            }
            Role::Task(_) | Role::Wait(_) | Role::Element(_) | Role::Controller(_) | Role::Begin | Role::End => {
                return None;
            }
        };
        // A fan-in has the name of its task.
        let id = CallId { attempt: self.node(index).attempt(), action: Action::Apply, ..self.call_id(index) };
        Some(ValueFetch { id, target: what })
    }

    /// The values of a task's elements, by the flow's names, in list order.
    fn results(&self, each: NodeIndex) -> std::collections::BTreeMap<ValueName, Vec<Value>> {
        let Some(task) = self.flow.for_each(each).map(|each| &each.task) else { return Default::default() };
        let count = self.elements.get(&each).map_or(0, |elements| elements.known.list.len());
        let elements = || self.elements_of(each).iter().take(count);
        let of = |name: &ValueName| {
            elements().filter_map(|index| self.node(*index).state.readable()?.get(name).cloned()).collect()
        };
        task.provides.values().map(|name| (name.clone(), of(name))).collect()
    }

    /// The result of a fetch whose values are all inline.
    pub(super) fn fetch_inline(&self, index: NodeIndex) -> Fact {
        let brought = match &self.flow.node(index).role {
            Role::FanIn(each) => FetchResult::Results(collect_results(self.results(*each))),
            Role::ForEach(each) => FetchResult::List(self.list_of_source(&each.list)),
            Role::Task(_) | Role::Wait(_) | Role::Element(_) | Role::Controller(_) | Role::Begin | Role::End => {
                FetchResult::List(Err(Failure::new(FailureKind::Permanent, "it is called for no list")))
            }
        };
        self.apply_fetch(index, brought)
    }

    fn list_of_source(&self, source: &Source) -> Result<Arc<[Json]>, Failure> {
        let permanent = |message: String| Failure::new(FailureKind::Permanent, message);
        match self.read(source).as_deref() {
            Some(Value::Json(json)) => elements(json).map_err(permanent),
            Some(Value::Bytes(_)) => Err(permanent("the value to be called for each element of is bytes".into())),
            Some(Value::Stored(stored)) => Err(permanent(format!("the list of {:#} is not there", Size(stored.size)))),
            None => {
                let message = "the list to be called for each element of was not there when the task started";
                Err(Failure::new(FailureKind::MissingInput, message))
            }
        }
    }

    /// Turns a fetched list, or joined results, into a record.
    fn apply_fetch(&self, index: NodeIndex, brought: FetchResult) -> Fact {
        let attempt = self.node_attempt(index, self.node(index).attempt());
        match brought {
            FetchResult::List(Ok(list)) => Fact::Expanded { node: index, list },
            FetchResult::Results(Ok(provided)) => {
                Fact::Succeeded { attempt, provided, execution: crate::Execution::new(0), worker: None }
            }
            FetchResult::List(Err(failure)) | FetchResult::Results(Err(failure)) => {
                let (retry_at, execution) = (None, None);
                Fact::Failed { attempt, failure, retry_at, execution, redelivered: false, worker: None }
            }
        }
    }

    /// Decides what the result of a fetch leads to.
    pub(super) fn decide_fetched(&self, id: &CallId, brought: &FetchResult) -> Vec<Fact> {
        let Some(each) = self.node_of_call(id).filter(|each| self.flow.for_each(*each).is_some()) else {
            return Vec::new();
        };
        // Both have the task's name, and each numbers its own attempts.
        let index = match brought {
            FetchResult::List(_) => each,
            FetchResult::Results(_) => self.flow.fan_in_of(each),
        };
        if !self.is_fetching(index) || self.node(index).attempt() != id.attempt {
            return Vec::new();
        }
        vec![self.apply_fetch(index, brought.clone())]
    }

    /// The state of a `for_each` task, including its elements.
    pub(super) fn for_each_state(&self, each: NodeIndex) -> State {
        let is_stuck = |index: &NodeIndex| self.failed_rollbacks.contains(index);
        if self.elements_of(each).iter().any(is_stuck) {
            return State::RollbackFailure;
        }
        match (self.node(each).state.told(), self.node(self.flow.fan_in_of(each)).state.told()) {
            (State::Success, ended @ (State::Success | State::Failure)) => ended,
            (State::Success, _) if !self.may_continue(each) => State::RollingBack,
            // A removed task has no fan-in to join its results.
            (State::Success, State::Ignored) => self.state_of_elements(each),
            (State::Success, _) => State::Running,
            (begun, _) => begun,
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
        let (all, nodes) = (elements.known.list.len(), &elements.known.nodes);
        let succeeded = |index: &&NodeIndex| matches!(self.node(**index).state, NodeState::Success { .. });
        Some((all, nodes.iter().take(all).filter(succeeded).count()))
    }

    /// Counts an element again that was under way when the firing was saved.
    pub(in crate::machine) fn recount(&mut self, index: NodeIndex) {
        let element = self.element(index);
        if let Some(elements) = element.and_then(|element| self.elements.get_mut(&element.of)) {
            let state = &self.nodes[index.0 as usize].state;
            elements.busy += usize::from(is_busy(state));
            elements.rolling_back += usize::from(is_rolling_back(state));
        }
    }
}

/// Whether an element occupies the rollback window.
fn is_rolling_back(state: &NodeState) -> bool {
    match state {
        NodeState::RollingBack { .. } => true,
        NodeState::Pending
        | NodeState::Running { .. }
        | NodeState::Success { .. }
        | NodeState::Failure { .. }
        | NodeState::RolledBack
        | NodeState::RollbackFailure { .. }
        | NodeState::Retrying
        | NodeState::NotInFiring
        | NodeState::Ignored => false,
    }
}

/// Whether an element occupies the call window.
fn is_busy(state: &NodeState) -> bool {
    match state {
        NodeState::Running { .. } | NodeState::Failure { retry_at: Some(_), .. } => true,
        NodeState::Pending
        | NodeState::Success { .. }
        | NodeState::Failure { retry_at: None, .. }
        | NodeState::RollingBack { .. }
        | NodeState::RolledBack
        | NodeState::RollbackFailure { .. }
        | NodeState::Retrying
        | NodeState::NotInFiring
        | NodeState::Ignored => false,
    }
}

/// The elements of a `for_each` list.
///
/// # Errors
/// A description of the invalid list, for people.
pub fn elements(list: &Json) -> Result<Arc<[Json]>, String> {
    let elements = list.elements().ok_or("the value to be called for each element of is not a list")?;
    if elements.len() > MAX_ELEMENTS {
        return Err(format!(
            "the list has {} elements, and a task is called for {MAX_ELEMENTS} at most",
            elements.len()
        ));
    }
    Ok(elements.into())
}

/// Joins the values of a task's elements into lists.
///
/// # Errors
/// Why the values cannot be joined.
pub fn collect_results(results: std::collections::BTreeMap<ValueName, Vec<Value>>) -> Result<Values, Failure> {
    let list = |(name, values): (ValueName, Vec<Value>)| {
        let mut text = String::from("[");
        for (number, value) in values.iter().enumerate() {
            let Value::Json(json) = value else {
                let message = format!("element {number} left {name:?} as bytes, and a list of JSON can hold none");
                return Err(Failure::new(FailureKind::InvalidOutput, message));
            };
            if number > 0 {
                text.push(',');
            }
            text.push_str(json.as_str());
        }
        text.push(']');
        let list = Json::parse(text).map_err(|error| Failure::new(FailureKind::InvalidOutput, error.to_string()))?;
        Ok((name, Value::Json(list)))
    };
    results.into_iter().map(list).collect()
}
