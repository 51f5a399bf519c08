//! Read-only questions about a run: its states, values, calls and failures. Nothing here decides or changes anything.

use std::sync::Arc;

use crate::{Call, Command, Event, ValueFetch};
use flow::{
    CallId, Failures, Firing, Flow, NodeIndex, NodeName, Revision, RunId, RunState, State, TaskResult, Timestamp,
    Values, WorkerName,
    graph::{Role, Source},
};

use super::{
    ElementState, Machine,
    firing::{FiringMachine, node::inline_size},
};

impl Machine {
    /// The id of the run.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The flow that the run executes.
    #[must_use]
    pub fn flow(&self) -> &Arc<Flow> {
        &self.flow
    }

    /// The current revision of the flow.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The state of the run.
    #[must_use]
    pub fn state(&self) -> RunState {
        match &self.triggers {
            Some(trigger_state) => trigger_state.state,
            None => self.single_firing().map_or(RunState::Pending, |firing| firing.state),
        }
    }

    /// The number of firings so far: the number of the last firing, or 0 before the first.
    #[must_use]
    pub fn firing_count(&self) -> u64 {
        self.triggers.as_ref().map_or(u64::from(!self.firings.is_empty()), |trigger_state| trigger_state.firing_count)
    }

    /// The firings that are under way or need a person, each with its state.
    pub fn firings(&self) -> impl Iterator<Item = (Firing, RunState)> {
        self.firings.iter().map(|(number, firing)| (*number, firing.state))
    }

    /// The failure of every node that failed in the last firing. Where both apply and rollback failed, this is the
    /// rollback's failure; [`Machine::apply_failure`] has the other.
    #[must_use]
    pub fn failures(&self) -> &Failures {
        static NONE: Failures = Failures::new();
        match &self.triggers {
            Some(trigger_state) => &trigger_state.failures,
            None => self.single_firing().map_or(&NONE, |firing| &firing.failures),
        }
    }

    /// The failure of an apply whose rollback failed too.
    #[must_use]
    pub fn apply_failure(&self, name: &NodeName) -> Option<&flow::Failure> {
        self.firings.values().rev().find_map(|firing| firing.apply_failure(firing.index_of(name)?))
    }

    /// Explains to people why the machine would refuse a notification of a task now; `None` when the task waits for it.
    #[must_use]
    pub fn notification_error(&self, task: &NodeName, result: &TaskResult) -> Option<String> {
        let Some(index) = self.tasks.get(task).copied() else { return Some(format!("the run has no task {task:?}")) };
        if let TaskResult::Succeeded(values) = result
            && let Err(too_large) = self.flow.limits.check_values(values)
        {
            return Some(format!("the values of the notification {too_large}"));
        }
        if let Role::Wait(wait) = &self.flow.node(index).role {
            let refusal = match self.waiting_firing(index).or_else(|| self.firings.values().next_back()) {
                Some(firing) => firing.notification_error(index, wait, result),
                None => Some(format!("task {task:?} is pending, and does not wait now")),
            };
            let values = if let TaskResult::Succeeded(values) = result { Some(values) } else { None };
            return refusal.or_else(|| self.no_room_for(values?));
        }
        self.firing_notification_error(index, result)
    }

    /// The task with a name. Look tasks up by name: an edit may have changed the index since a call was dispatched.
    #[must_use]
    pub fn task(&self, name: &NodeName) -> Option<&flow::Task> {
        let index = *self.tasks.get(&name.base())?;
        self.flow.task_called(index).or_else(|| self.flow.for_each(index).map(|each| &each.task))
    }

    /// The name of a node and the task that it calls, list elements included; `None` for a node without a guest call. A record
    /// without a firing concerns the first.
    #[must_use]
    pub fn call_of(&self, number: Option<Firing>, index: NodeIndex) -> Option<(NodeName, &flow::Task)> {
        let firing = self.firings.get(&number.unwrap_or(Firing::FIRST)).filter(|firing| firing.has_node(index))?;
        Some((firing.name(index), firing.task_called(index)?))
    }

    /// The name of a node, list elements included; `None` for a node that the firing does not have.
    pub(super) fn node_name(&self, number: Option<Firing>, index: NodeIndex) -> Option<NodeName> {
        match self.firings.get(&number.unwrap_or(Firing::FIRST)) {
            Some(firing) => firing.has_node(index).then(|| firing.name(index)),
            None => Some(self.flow.nodes.get(index.0 as usize)?.name.clone()),
        }
    }

    /// The number of elements of a `for_each` task, and how many of them succeeded; `None` before its list is known, and for
    /// a task that is called once.
    #[must_use]
    pub fn progress(&self, index: NodeIndex) -> Option<(usize, usize)> {
        self.firings.values().rev().find_map(|firing| firing.progress(index))
    }

    /// The firing that has the list of a `for_each` task, and the elements from a number on, with their states. Without a firing it
    /// is the last one that has the list. `None` before the list is known, and for a task that is called once.
    #[must_use]
    pub fn elements(
        &self,
        firing: Option<Firing>,
        index: NodeIndex,
        from: u32,
    ) -> Option<(Firing, impl ExactSizeIterator<Item = ElementState<'_>>)> {
        let mut firings =
            self.firings.iter().rev().filter(|(number, _)| firing.is_none_or(|firing| firing == **number));
        firings.find_map(|(number, firing)| Some((*number, firing.element_states(index, from)?)))
    }

    /// The number of nodes and list elements that its firings have, with or without a node yet. Each firing has all nodes of the flow.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.firings.values().map(|firing| firing.nodes.len() + firing.unexpanded_elements()).sum()
    }

    /// The index of the task with a name; `None` if the flow has none.
    #[must_use]
    pub fn task_index(&self, name: &NodeName) -> Option<NodeIndex> {
        self.tasks.get(name).copied()
    }

    /// The number of nodes and list elements of all firings, with or without a node yet: the cost of a snapshot of the machine.
    #[must_use]
    pub fn size(&self) -> usize {
        self.node_count().max(self.flow.nodes.len())
    }

    /// The bytes of its values, its lists and the text of its flow, approximately. It looks at each of them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let text = self.flow.origin.as_ref().map_or(0, |origin| origin.text.len() as u64);
        let constants = self.flow.tasks().flat_map(|(_, _, task)| &task.inputs).map(|input| match &input.source {
            Source::Constant(value) => inline_size(value),
            Source::Element
            | Source::RunInput(_)
            | Source::Node { .. }
            | Source::LoopCarried { .. }
            | Source::Failure(_)
            | Source::Absent => 0,
        });
        let inputs = self.flow.inputs.values().map(inline_size);
        let latest = self.triggers.iter().map(|trigger_state| trigger_state.latest_values.bytes());
        text + constants.sum::<u64>()
            + inputs.sum::<u64>()
            + latest.sum::<u64>()
            + self.firings.values().map(firing_bytes).sum::<u64>()
    }

    /// The tasks that wait for a notification, each with its deadline if it has one.
    pub fn waiting_tasks(&self) -> impl Iterator<Item = (NodeIndex, Option<Timestamp>)> + use<'_> {
        self.firings.values().flat_map(FiringMachine::awaited_tasks)
    }

    /// Whether a task is one of [`Machine::waiting_tasks`]. It costs a look at each firing, however many tasks wait.
    #[must_use]
    pub fn is_waiting(&self, index: NodeIndex) -> bool {
        self.waiting_firing(index).is_some()
    }

    /// The deadline of a waiting task, if it has one: that of the first firing in which it waits.
    #[must_use]
    pub fn wait_deadline(&self, index: NodeIndex) -> Option<Timestamp> {
        self.waiting_firing(index)?.deadline(index)
    }

    fn waiting_firing(&self, index: NodeIndex) -> Option<&FiringMachine> {
        self.firings.values().find(|firing| firing.waiting_tasks.contains(&index))
    }

    /// The calls that are dispatched to workers and not answered.
    pub fn outstanding_calls(&self) -> impl Iterator<Item = CallId> + use<'_> {
        self.firings.values().flat_map(FiringMachine::outstanding_calls)
    }

    /// The same calls, each with the time since when it is with the workers.
    pub fn outstanding_calls_since(&self) -> impl Iterator<Item = (CallId, Option<Timestamp>)> + use<'_> {
        self.firings.values().flat_map(FiringMachine::outstanding_calls_since)
    }

    /// The time since when a call is with the workers; `None` when it is not.
    #[must_use]
    pub fn outstanding_since(&self, call: &CallId) -> Option<Timestamp> {
        self.firings.get(&call.firing)?.outstanding_since(call)
    }

    /// The commands that are still unanswered: a restarted engine sends them again. Calls under a lease are not included:
    /// their worker sends heartbeats, or the lease expires.
    #[must_use]
    pub fn pending(&self) -> Vec<Command> {
        self.firings.values().flat_map(FiringMachine::pending).collect()
    }

    /// The calls of the pending commands, without their inputs: a run may have as many calls as a list has elements.
    pub fn pending_calls(&self) -> impl Iterator<Item = CallId> + use<'_> {
        self.firings.values().flat_map(FiringMachine::pending_calls)
    }

    /// The fetches of the pending commands.
    pub fn pending_fetches(&self) -> impl Iterator<Item = ValueFetch> + use<'_> {
        self.firings.values().flat_map(FiringMachine::pending_fetches)
    }

    /// A dispatched call that no worker has reported as started: an engine sends it again when a worker returns its job. It may
    /// be about to be withdrawn. `None` for any other call.
    #[must_use]
    pub fn unstarted_call(&self, call: &CallId) -> Option<Call> {
        self.firings.get(&call.firing)?.unstarted_call(call)
    }

    /// A dispatched call that is not answered, whether or not a worker has reported it as started; `None` for any other call.
    #[must_use]
    pub fn outstanding_call(&self, call: &CallId) -> Option<Call> {
        self.firings.get(&call.firing)?.outstanding_call(call)
    }

    /// The calls under a lease, each with its worker: dispatched calls, and calls whose answer no longer matters.
    pub fn leased_calls(&self) -> impl Iterator<Item = (CallId, WorkerName)> + use<'_> {
        self.firings.values().flat_map(FiringMachine::leased_calls)
    }

    /// Whether a worker holds a recorded lease on a call.
    #[must_use]
    pub fn has_lease(&self, call: &CallId, worker: &WorkerName) -> bool {
        self.firings.get(&call.firing).is_some_and(|firing| firing.has_lease(call, worker))
    }

    /// Whether a command to fetch something is pending. It copies no inputs of pending calls.
    #[must_use]
    pub fn has_pending_fetch(&self) -> bool {
        self.firings.values().any(|firing| firing.pending_fetches().next().is_some())
    }

    /// Whether a heartbeat of a worker would be recorded: as its lease, or as a start of a call that has ended.
    #[must_use]
    pub fn would_record_lease(&self, call: &CallId, worker: &WorkerName) -> bool {
        let event = Event::Leased { call: call.clone(), worker: worker.clone() };
        !self.decide(self.latest, &event).is_empty()
    }

    /// The call of an event that is ignored only because the call has as many executions or leases as a call may have: no
    /// worker that follows the rules causes that.
    #[must_use]
    pub fn excess_execution<'a>(&self, event: &'a Event) -> Option<&'a CallId> {
        match event {
            Event::Signal(signal) => {
                let firing = self.firings.get(&signal.call.firing)?;
                firing.has_too_many_executions(signal).then_some(&signal.call)
            }
            Event::Leased { call, worker } => {
                self.firings.get(&call.firing)?.has_too_many_leases(call, worker).then_some(call)
            }
            Event::Start
            | Event::Cancel
            | Event::Suspend
            | Event::Abandon
            | Event::Resume
            | Event::Retry
            | Event::Skip { .. }
            | Event::Notify { .. }
            | Event::TaskNotification { .. }
            | Event::Lost { .. }
            | Event::LostDelivery { .. }
            | Event::Fetched { .. }
            | Event::Remembered { .. }
            | Event::Withdrawn { .. }
            | Event::ClockSet { .. }
            | Event::Edit { .. }
            | Event::Tick => None,
        }
    }

    /// Whether a record says that a lost worker may have executed a call that is with the workers and not answered.
    #[must_use]
    pub fn may_have_been_executed(&self, call: &CallId) -> bool {
        self.firings.get(&call.firing).is_some_and(|firing| firing.has_lost_delivery(call))
    }

    /// The dispatched calls that the run no longer needs and that no worker has reported as started: the engine withdraws
    /// them, unless a worker reports one as started. None of them is needed again, so the engine sends none.
    pub fn withdrawable_calls(&self) -> impl Iterator<Item = CallId> + use<'_> {
        self.firings.values().flat_map(FiringMachine::withdrawable_calls)
    }

    /// Whether a call is one of [`Machine::withdrawable_calls`]. It costs no more in a run with many calls.
    #[must_use]
    pub fn is_withdrawable(&self, call: &CallId) -> bool {
        self.firings.get(&call.firing).is_some_and(|firing| firing.withdrawable_node(call).is_some())
    }

    /// Whether a call is with the workers and still needed: it is neither answered nor lost, and the run is not about to
    /// roll it back.
    #[must_use]
    pub fn is_wanted(&self, call: &CallId) -> bool {
        self.firings.get(&call.firing).is_some_and(|firing| firing.is_needed(call))
    }

    /// Whether a worker that has the job of a call may start it. It may not when the call was answered, withdrawn or given
    /// up, or is about to be, or when it waited longer than its task allows. In a suspended run no call starts: the run
    /// sends its dispatched calls again when it resumes.
    #[must_use]
    pub fn may_start(&self, now: Timestamp, call: &CallId) -> bool {
        match self.firings.get(&call.firing) {
            Some(firing) if firing.has_dispatched(call) => {
                self.state() != RunState::Suspended && firing.may_start(now, call)
            }
            Some(_) => true,
            None => call.firing.get() > self.firing_count(),
        }
    }

    /// All current values: the inputs, and the values of nodes in success, failure or rolling-back.
    #[must_use]
    pub fn values(&self) -> Values {
        let mut values = self.flow.inputs.clone();
        values.extend(self.provided());
        values
    }

    /// The values of nodes in success, failure or rolling-back.
    #[must_use]
    pub fn provided(&self) -> Values {
        let mut values = Values::new();
        if let Some(trigger_state) = &self.triggers {
            trigger_state.latest_values.values().for_each(|provided| values.extend(provided.clone()));
        }
        values.extend(self.firings.values().flat_map(FiringMachine::values).flat_map(|(_, provided)| provided));
        values
    }

    /// The published state of a node; in a run that fires more than once, its state in the last firing that contains it.
    #[must_use]
    pub fn node_state(&self, index: NodeIndex) -> State {
        match self.firings.values().rev().find(|firing| firing.has(index)) {
            Some(firing) => firing.node_state(index),
            None => self
                .triggers
                .as_ref()
                .and_then(|trigger_state| trigger_state.last_states.get(&index))
                .copied()
                .unwrap_or(State::Pending),
        }
    }
}

/// The bytes of the values and lists of a firing.
fn firing_bytes(firing: &FiringMachine) -> u64 {
    let inputs = firing.inputs.values().map(inline_size).sum::<u64>();
    let provided = firing.nodes.iter().filter_map(|node| node.state.readable()).map(|values| values.bytes());
    let lists = firing.elements.values().flat_map(|elements| elements.expansion.list.iter());
    inputs
        + firing.inherited.bytes()
        + provided.sum::<u64>()
        + lists.map(|json| json.as_str().len() as u64).sum::<u64>()
}
