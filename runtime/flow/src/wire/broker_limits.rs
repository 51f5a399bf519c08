//! What one flow may need of a broker: a maximum number of objects, since the broker keeps most of them for ever and each takes it
//! some milliseconds; and names that fit into the routing keys of notifications.

use std::collections::BTreeSet;

use super::{layout::Layout, namespace::default_queue};
use crate::{
    Diagnostic, Draft, FlowName,
    draft::{DraftTask, DraftTaskKind},
    graph::excess_of_task,
};

/// Maximum number of `[[listen]]` in a flow: each has an exchange, and two bindings.
const MAX_LISTENERS: usize = 256;

/// Maximum number of different queues of a flow's tasks. A queue stands for a kind of worker, so few flows need ten.
const MAX_QUEUES: usize = 256;

/// Maximum number of tasks of a flow with `max_running` or `rate`: each has a queue, which engines consume.
const MAX_PACED_TASKS: usize = 256;

/// Reports what a flow has beyond these maxima: once each, at the first part that is too many.
pub(super) fn check_broker_limits(draft: &Draft, layout: &Layout<'_>, diagnostics: &mut Vec<Diagnostic>) {
    if let Some(listener) = draft.listeners.get(MAX_LISTENERS) {
        let message = format!("the flow has {} [[listen]], and the maximum is {MAX_LISTENERS}", draft.listeners.len());
        let hint = "listen to one task that many flows contain, or divide the listeners among several flows";
        diagnostics.push(Diagnostic::error(listener.span.clone(), message).hint(hint));
    }
    let tasks: Vec<&DraftTask> = layout.tasks().map(|(_, task)| task).collect();
    let default = default_queue();
    let mut queues = BTreeSet::new();
    let mut calls = tasks.iter().filter(|task| matches!(task.kind, DraftTaskKind::Call(_)));
    let excess = calls.find(|task| {
        queues.insert(task.queue.as_ref().unwrap_or(&default));
        queues.len() > MAX_QUEUES
    });
    if let Some(task) = excess {
        let message = format!("the tasks of the flow have more than {MAX_QUEUES} queues, which is the maximum");
        let hint = "a queue stands for a kind of worker: let tasks that the same workers may run share a queue";
        diagnostics.push(Diagnostic::error(task.span("queue"), message).hint(hint));
    }
    let paced: Vec<_> = tasks.iter().filter(|task| !task.pace.is_unlimited()).collect();
    if let Some(task) = paced.get(MAX_PACED_TASKS) {
        let count = paced.len();
        let message =
            format!("{count} tasks of the flow have max_running or rate, and the maximum is {MAX_PACED_TASKS}");
        let hint = "limit many tasks together: give them a queue, and its workers few slots";
        let part = if task.pace.max_running.is_some() { "max_running" } else { "rate" };
        diagnostics.push(Diagnostic::error(task.span(part), message).hint(hint));
    }
}

/// Reports the tasks whose names are too long for the flow's: no broker could carry their notifications.
pub(super) fn check_name_lengths(flow: &FlowName, layout: &Layout<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for (_, task) in layout.tasks() {
        let excess = excess_of_task(flow, &task.name, task.for_each.is_some());
        if excess > 0 {
            let message = format!(
                "the name of task {:?} is {excess} bytes too long for the name of flow {:?}: a notification of an element of its list has \
                 both names in its routing key, with the number of the element and the id of the run",
                task.name.as_str(),
                flow.as_str()
            );
            let hint = "shorten the name of the task, or that of the flow with its namespace";
            diagnostics.push(Diagnostic::error(task.span("name"), message).hint(hint));
        }
    }
}

#[cfg(test)]
mod tests;
