//! Tasks that wait: they call no guest, and a notification from a person, a program or another flow completes them.

use crate::Fact;
use flow::{
    Execution, Failure, FailureKind, NodeIndex, NodeName, TaskNotification, TaskResult, Timestamp, ValueName, Values,
    graph::{Listener, Wait},
};

use super::{FiringMachine, decide::ExecutionInfo, graph::NodeRole, node::NodeState};

impl FiringMachine {
    /// A task starts to wait for a notification.
    pub(in crate::machine) fn wait_for_notification(&mut self, index: NodeIndex) {
        self.waiting_tasks.insert(index);
        self.retries.extend(self.deadline(index).map(|at| (at, index)));
    }

    /// The tasks that wait for a notification, each with its deadline if it has one.
    pub(in crate::machine) fn awaited_tasks(&self) -> impl Iterator<Item = (NodeIndex, Option<Timestamp>)> + use<'_> {
        self.waiting_tasks.iter().map(|index| (*index, self.deadline(*index)))
    }

    /// The time at which a waiting task fails.
    pub(in crate::machine) fn deadline(&self, index: NodeIndex) -> Option<Timestamp> {
        let (NodeRole::Wait(wait), NodeState::Running { since, .. }) = (self.role(index), &self.node(index).state)
        else {
            return None;
        };
        wait.deadline.map(|deadline| since.after(deadline))
    }

    /// Explains to people why a waiting task would refuse a notification now.
    pub(in crate::machine) fn notification_error(
        &self,
        index: NodeIndex,
        wait: &Wait,
        result: &TaskResult,
    ) -> Option<String> {
        if !self.waiting_tasks.contains(&index) {
            let name = self.name(index);
            return Some(format!("task {name:?} is {}, and does not wait now", self.node_state(index)));
        }
        match result {
            TaskResult::Succeeded(values) => match map_notification(wait, values) {
                Ok(values) => self.flow.wait_mismatch(index, &values),
                Err(reason) => Some(reason),
            },
            TaskResult::Failed(_) => None,
        }
    }

    pub(super) fn decide_notify(&self, task: &NodeName, result: &TaskResult) -> Vec<Fact> {
        let Some(index) = self.tasks.get(task).copied().filter(|index| self.waiting_tasks.contains(index)) else {
            return Vec::new();
        };
        let NodeRole::Wait(wait) = self.role(index) else { return Vec::new() };
        let attempt = self.node_attempt(index, self.node(index).attempt());
        match result {
            TaskResult::Succeeded(values) => match map_notification(wait, values) {
                // No worker executes this, so it cannot execute twice.
                Ok(provided) => {
                    vec![Fact::Succeeded { attempt, provided, execution: Execution::new(0), worker: None }]
                }
                Err(_) => Vec::new(),
            },
            TaskResult::Failed(failure) => {
                let (failure, retry_at, execution) = (failure.clone(), None, None);
                vec![Fact::Failed { attempt, failure, retry_at, execution, redelivered: false, worker: None }]
            }
        }
    }

    /// A notification of a task in another flow completes the task of a listener, if it waits here and the notification contains its values.
    pub(in crate::machine) fn decide_task_notification(
        &self,
        listener: &Listener,
        notification: &TaskNotification,
    ) -> Option<Fact> {
        // Most of the firings that are asked do not wait.
        if self.state.is_final() || !self.waiting_tasks.contains(&listener.to) {
            return None;
        }
        let NodeRole::Wait(wait) = self.role(listener.to) else { return None };
        let values = notification.values().into_iter().filter(|(name, _)| wait.provides.contains_key(name)).collect();
        self.decide_notify(&self.name(listener.to), &TaskResult::Succeeded(values)).into_iter().next()
    }

    /// Fails a task that was not notified before its deadline.
    pub(super) fn fail_late_wait(&self, now: Timestamp, index: NodeIndex, wait: &Wait) -> Fact {
        let message = format!("it was not notified of {:?} in time", wait.waits_for);
        let attempt = self.node_attempt(index, self.node(index).attempt());
        self.failed(now, attempt, Failure::new(FailureKind::Timeout, message), ExecutionInfo::NONE, None)
    }

    /// Ends the wait of a task.
    pub(super) fn fail_waiting_task(&self, now: Timestamp, index: NodeIndex) -> Fact {
        let failure = Failure::new(
            FailureKind::Cancelled,
            "no answer is needed any more: its flow is rolled back, or it was removed",
        );
        self.failed(now, self.node_attempt(index, self.node(index).attempt()), failure, ExecutionInfo::NONE, None)
    }
}

/// The values of a notification, by the flow's names: exactly the expected values, and no others.
pub(in crate::machine) fn map_notification(wait: &Wait, values: &Values) -> Result<Values, String> {
    let quoted = |names: &mut dyn Iterator<Item = &ValueName>| {
        names.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
    };
    let unknown: Vec<&ValueName> = values.keys().filter(|name| !wait.provides.contains_key(*name)).collect();
    if !unknown.is_empty() {
        let known = quoted(&mut wait.provides.keys());
        let known = if known.is_empty() { "nothing".into() } else { known };
        return Err(format!("{} is not waited for: it takes {known}", quoted(&mut unknown.into_iter())));
    }
    let missing: Vec<&ValueName> = wait.provides.keys().filter(|name| !values.contains_key(*name)).collect();
    if !missing.is_empty() {
        return Err(format!("{} is missing", quoted(&mut missing.into_iter())));
    }
    let provided = wait
        .provides
        .iter()
        .filter_map(|(own_name, flow_name)| Some((flow_name.clone(), values.get(own_name)?.clone())));
    Ok(provided.collect())
}
