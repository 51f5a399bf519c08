//! Calls for workers, with their inputs.

use std::{borrow::Cow, time::Duration};

use crate::{Call, Command, RollbackCall};
use flow::{
    Attempt, CallId, Failure, FailureKind, FailureSummary, NodeIndex, Outcome, Task, Timestamp, Value, ValueName,
    Values, ValuesTooLarge, WorkerName,
    graph::{Input, InputUse, Source},
};

use super::{FiringMachine, node::NodeState};

/// How long a worker that has just received a call may send nothing: it takes a lease after ten seconds.
const LEASE_START_GRACE: Duration = Duration::from_secs(15);

impl FiringMachine {
    /// The commands that are still unanswered: a restarted engine sends them again. Calls under a lease are not included:
    /// their worker sends heartbeats, or the lease expires. Calls that are no longer needed are not included either.
    pub(in crate::machine) fn pending(&self) -> Vec<Command> {
        let calls = self.pending_nodes().filter_map(|index| self.call(index));
        let calls = calls.map(|call| Command::Call(Box::new(call)));
        calls.chain(self.pending_fetches().map(|fetch| Command::Fetch(Box::new(fetch)))).collect()
    }

    /// The calls of the pending commands.
    pub(in crate::machine) fn pending_calls(&self) -> impl Iterator<Item = CallId> + use<'_> {
        self.pending_nodes().map(|index| self.call_id(index))
    }

    fn pending_nodes(&self) -> impl Iterator<Item = NodeIndex> + use<'_> {
        self.outstanding.iter().copied().filter(|index| !self.is_leased(*index) && !self.is_withdrawable(*index))
    }

    /// A dispatched call that no worker has reported as started. It may be one that is about to be withdrawn.
    pub(in crate::machine) fn unstarted_call(&self, call: &CallId) -> Option<Call> {
        let index = self.node_of_call(call).filter(|index| self.is_outstanding(*index, call))?;
        if self.is_leased(index) { None } else { self.call(index) }
    }

    /// A dispatched call, whether or not a worker has reported it as started.
    pub(in crate::machine) fn outstanding_call(&self, call: &CallId) -> Option<Call> {
        self.node_of_call(call).filter(|index| self.is_outstanding(*index, call)).and_then(|index| self.call(index))
    }

    /// The time at which an apply that no worker has taken is given up: a worker that has it has answered by then, or holds
    /// a lease.
    pub(in crate::machine) fn expiry(&self, index: NodeIndex) -> Option<Timestamp> {
        self.waits_until(index).map(|until| until.after(LEASE_START_GRACE))
    }

    /// The time until which an apply may wait for a worker to start it; `None` means without limit.
    fn waits_until(&self, index: NodeIndex) -> Option<Timestamp> {
        let expires = self.task_called(index)?.expires?;
        let NodeState::Running { since, retry_at: None } = self.node(index).state else { return None };
        (!self.is_leased(index)).then(|| since.after(expires))
    }

    /// The dispatched calls that are no longer needed and that no worker has reported as started.
    pub(in crate::machine) fn withdrawable_calls(&self) -> impl Iterator<Item = CallId> + use<'_> {
        self.outstanding.iter().filter(|index| self.is_withdrawable(**index)).map(|index| self.call_id(*index))
    }

    /// The node of a dispatched call that is no longer needed and that no worker has reported as started; `None` for any other call.
    pub(in crate::machine) fn withdrawable_node(&self, call: &CallId) -> Option<NodeIndex> {
        self.node_of_call(call).filter(|index| self.is_outstanding(*index, call) && self.is_withdrawable(*index))
    }

    /// Whether a node's dispatched call is withdrawn unless a worker reports it as started: its flow is being rolled back,
    /// or its task was removed.
    pub(super) fn is_withdrawable(&self, index: NodeIndex) -> bool {
        let is_apply = self.node(index).current_action().0 == flow::Action::Apply;
        is_apply && !self.is_leased(index) && !self.may_retry(index)
    }

    /// Whether a record says that a lost worker may have executed a dispatched call: until the call is answered, no other execution of it is
    /// recorded.
    pub(in crate::machine) fn has_lost_delivery(&self, call: &CallId) -> bool {
        let index = self.node_of_call(call).filter(|index| self.is_outstanding(*index, call));
        let is_recorded = |index| self.node(index).executions.count(call.attempt) > 0;
        call.action == flow::Action::Apply && index.is_some_and(is_recorded)
    }

    /// Whether a worker holds a lease on a node's call.
    pub(super) fn is_leased(&self, index: NodeIndex) -> bool {
        let (action, count) = self.node(index).current_action();
        let is_current = |holder: &(flow::Action, Attempt, WorkerName)| (holder.0, holder.1.get()) == (action, count);
        self.node(index).rare.lease_holders.iter().any(is_current)
    }

    /// The calls under a lease, each with its worker: dispatched calls, and calls whose answer no longer matters.
    pub(in crate::machine) fn leased_calls(&self) -> impl Iterator<Item = (CallId, WorkerName)> + use<'_> {
        self.leased.iter().flat_map(move |index| {
            let node = self.node(*index);
            node.rare.lease_holders.iter().map(move |(action, attempt, worker)| {
                let task = self.name(*index);
                let (run, firing) = (self.run.clone(), node.firing);
                (CallId { run, task, firing, attempt: *attempt, action: *action }, worker.clone())
            })
        })
    }

    /// Whether a worker holds a lease on a call.
    pub(in crate::machine) fn has_lease(&self, call: &CallId, worker: &WorkerName) -> bool {
        let Some(index) = self.node_of_call(call) else { return false };
        self.node(index).rare.lease_holders.contains(&(call.action, call.attempt, worker.clone()))
    }

    /// Whether a call is with the workers and still needed: it is neither answered nor lost, and the run is not about to
    /// roll it back.
    pub(in crate::machine) fn is_needed(&self, call: &CallId) -> bool {
        let Some(index) = self.node_of_call(call) else { return false };
        let is_wanted = call.action == flow::Action::Rollback || self.may_continue(index);
        is_wanted && self.is_outstanding(index, call)
    }

    /// Whether this firing has ever dispatched a call.
    pub(in crate::machine) fn has_dispatched(&self, call: &CallId) -> bool {
        self.node_of_call(call).is_some_and(|index| {
            let node = self.node(index);
            let dispatched = match call.action {
                flow::Action::Apply => node.applies,
                flow::Action::Rollback => node.rollbacks,
            };
            call.attempt.get() <= dispatched
        })
    }

    /// Whether a worker may start a dispatched call: it is neither answered nor lost, it has not expired, and it is not
    /// about to be withdrawn.
    pub(in crate::machine) fn may_start(&self, now: Timestamp, call: &CallId) -> bool {
        let Some(index) = self.node_of_call(call).filter(|index| self.is_outstanding(*index, call)) else {
            return false;
        };
        let has_expired = || self.waits_until(index).is_some_and(|until| until <= now);
        call.action == flow::Action::Rollback || (self.may_retry(index) && !has_expired())
    }

    pub(super) fn is_outstanding(&self, index: NodeIndex, call: &CallId) -> bool {
        self.outstanding.contains(&index) && self.call_id(index) == *call
    }

    /// The calls that are dispatched to workers and not answered.
    pub(in crate::machine) fn outstanding_calls(&self) -> impl Iterator<Item = CallId> + use<'_> {
        self.outstanding.iter().map(|index| self.call_id(*index))
    }

    /// The same calls, each with the time since when it is with the workers.
    pub(in crate::machine) fn outstanding_calls_since(
        &self,
    ) -> impl Iterator<Item = (CallId, Option<Timestamp>)> + use<'_> {
        self.outstanding.iter().map(|index| (self.call_id(*index), self.node(*index).state.since()))
    }

    /// The time since when a call is with the workers.
    pub(in crate::machine) fn outstanding_since(&self, call: &CallId) -> Option<Timestamp> {
        let index = self.node_of_call(call).filter(|index| self.is_outstanding(*index, call))?;
        self.node(index).state.since()
    }

    /// The call of a node that is with the workers, and since when.
    pub(in crate::machine) fn outstanding_call_of(&self, index: NodeIndex) -> Option<(CallId, Timestamp)> {
        // A node that is no longer there has none.
        let index = self.outstanding.get(&index).copied()?;
        Some((self.call_id(index), self.node(index).state.since()?))
    }

    /// The current call of a node, if it has one.
    pub(super) fn call(&self, index: NodeIndex) -> Option<Call> {
        let task = self.task_called(index)?;
        let state = &self.node(index).state;
        let (at, rollback) = if let NodeState::Running { since, retry_at: None } = state {
            (*since, None)
        } else if let NodeState::RollingBack { since, outcome, retry_at: None } = state {
            let outcome = to_module_names(task, outcome);
            (*since, Some(RollbackCall { outcome, failures: FailureSummary::of(&self.failures) }))
        } else {
            return None;
        };
        let input_use = if rollback.is_some() { InputUse::Rollback } else { InputUse::ApplyAndRollback };
        let inputs = self.inputs(index, task, input_use).unwrap_or_else(|incomplete| incomplete.inputs);
        Some(Call { id: self.call_id(index), node: index, at, inputs, rollback })
    }

    pub(super) fn call_id(&self, index: NodeIndex) -> CallId {
        let node = self.node(index);
        let (action, count) = node.current_action();
        CallId {
            run: self.run.clone(),
            task: self.name(index),
            firing: node.firing,
            attempt: Attempt::new(count),
            action,
        }
    }

    /// The inputs of a call, by the module's names; or the missing inputs, with those that exist.
    ///
    /// A rollback receives all inputs that exist: its required inputs existed when the task applied, and are rolled back
    /// after it.
    pub(super) fn inputs(
        &self,
        index: NodeIndex,
        task: &Task,
        input_use: InputUse,
    ) -> Result<Values, IncompleteInputs> {
        let mut inputs = Values::new();
        let mut missing = Vec::new();
        for input in &task.inputs {
            if input_use == InputUse::ApplyAndRollback && input.used_by == InputUse::Rollback {
                continue;
            }
            let value = if input.source == Source::Element {
                self.element(index).and_then(|element| self.element_value(element)).map(Cow::Owned)
            } else {
                self.read(&input.source)
            };
            match value {
                Some(value) => {
                    inputs.insert(input.parameter.clone(), value.into_owned());
                }
                None if input.optional => {}
                None => missing.push((input.parameter.clone(), input.source.clone())),
            }
        }
        if missing.is_empty() { Ok(inputs) } else { Err(IncompleteInputs { inputs, missing }) }
    }

    /// Checks the bytes of the inputs of a node's call, with those for its rollback. A value counts each time that the task takes it.
    pub(super) fn check_inputs(&self, index: NodeIndex) -> Result<(), ValuesTooLarge> {
        let Some(task) = self.task_called(index) else { return Ok(()) };
        let size = |input: &Input| {
            let value = if input.source == Source::Element {
                self.element(index).and_then(|element| self.element_value(element)).map(Cow::Owned)
            } else {
                self.read(&input.source)
            };
            value.map_or(0, |value| (input.parameter.as_str().len() as u64).saturating_add(value.size() as u64))
        };
        self.flow.limits.check_inputs(task.inputs.iter().map(size).fold(0, u64::saturating_add))
    }

    /// The current value of a source.
    pub(super) fn read<'a>(&'a self, source: &'a Source) -> Option<Cow<'a, Value>> {
        match source {
            Source::Constant(value) => Some(Cow::Borrowed(value)),
            Source::RunInput(name) => self.inputs.get(name).or_else(|| self.flow.inputs.get(name)).map(Cow::Borrowed),
            Source::Node { node, value } if self.has(*node) => {
                self.node(*node).state.readable()?.get(value).map(Cow::Borrowed)
            }
            Source::Node { node, value } => self.inherited.get(node)?.get(value).map(Cow::Borrowed),
            Source::LoopCarried { nodes, value, initial } => {
                let inherited = || nodes.iter().find_map(|node| self.inherited.get(node)?.get(value));
                let value = self.inputs.get(value).or_else(inherited).map(Cow::Borrowed);
                value.or_else(|| self.read(initial))
            }
            Source::Failure(nodes) => nodes.iter().find_map(|node| {
                let name = self.name(*node);
                Some(Cow::Owned(self.failures.get(&name)?.as_value(&name)))
            }),
            Source::Element | Source::Absent => None,
        }
    }

    /// The value that a source had when the firing was triggered.
    pub(in crate::machine) fn inherited_value(&self, source: &Source) -> Option<Value> {
        match source {
            Source::Node { node, value } => self.inherited.get(node)?.get(value).cloned(),
            Source::Constant(_)
            | Source::Element
            | Source::RunInput(_)
            | Source::Failure(_)
            | Source::LoopCarried { .. }
            | Source::Absent => self.read(source).map(Cow::into_owned),
        }
    }

    /// Describes the missing inputs, for a person.
    pub(super) fn describe_missing(&self, incomplete: &IncompleteInputs) -> String {
        let missing = incomplete.missing.iter().map(|(parameter, source)| match source {
            Source::Node { node, value } => {
                let provider = self.name(*node);
                format!("{value:?} of {provider:?} (for {parameter:?})")
            }
            Source::Failure(_) => format!("{parameter:?}, since nothing that it listens to has failed"),
            Source::Constant(_)
            | Source::Element
            | Source::RunInput(_)
            | Source::LoopCarried { .. }
            | Source::Absent => {
                format!("{parameter:?}")
            }
        });
        format!("not there when the task started: {}", missing.collect::<Vec<_>>().join(", "))
    }
}

/// The existing and the missing inputs of a call.
pub(super) struct IncompleteInputs {
    inputs: Values,
    missing: Vec<(ValueName, Source)>,
}

impl std::fmt::Debug for IncompleteInputs {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "missing {:?}", self.missing)
    }
}

/// The dispatch time and deadline of a call, for tests and displays.
impl Call {
    /// The time by which the worker must have stopped the call, given the task's timeout.
    #[must_use]
    pub fn deadline(&self, task: &Task) -> Timestamp {
        self.at.after(task.limits.timeout)
    }
}

fn to_module_names(task: &Task, outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Provided(provided) => {
            let rename = |(own_name, flow_name): (&ValueName, &ValueName)| {
                Some((own_name.clone(), provided.get(flow_name)?.clone()))
            };
            Outcome::Provided(task.provides.iter().filter_map(rename).collect())
        }
        Outcome::Failed(failure) => Outcome::Failed(failure.clone()),
        Outcome::Unknown => Outcome::Unknown,
    }
}

/// The failure that is recorded for a lost attempt.
pub(super) fn lost(worker: Option<&WorkerName>) -> Failure {
    let worker = worker.map_or_else(|| "its worker".into(), |worker| format!("worker {worker}"));
    Failure::new(
        FailureKind::Transient,
        format!("{worker} was lost while it called the task; what it did is not known"),
    )
}
