//! The maximum that an operator allows for the limits and retries of tasks.

use std::collections::BTreeMap;

use crate::{
    Diagnostic, Draft, Flow, Limits, NodeName, RetryLimits, Strategy,
    draft::{DraftNode, DraftTask, FlowBody},
    graph::Role,
};

/// What an operator allows at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maximum {
    /// The limits of a call.
    pub call: Limits,
    /// The retries of a task.
    pub retries: RetryLimits,
}

/// Reports every task of a wired flow whose limits or retries are above a maximum, whether the flow or the module of the task
/// sets them.
#[must_use]
pub fn check_limits(draft: &Draft, flow: &Flow, maximum: &Maximum) -> Vec<Diagnostic> {
    let mut tasks = BTreeMap::new();
    collect(&draft.body, &mut tasks);
    let mut diagnostics = Vec::new();
    for (_, name, task) in flow.tasks() {
        let mut report = |key: &'static str, reason: String| {
            let span = tasks.get(name).and_then(|task| task.span(key));
            let error = Diagnostic::error(span, format!("task \"{name}\": {reason}"));
            let hint = "the flow or the module of the task sets it; an operator changes the maximum under [limits] in the settings";
            diagnostics.push(error.hint(hint));
        };
        for exceeded in task.limits.exceeding(&maximum.call) {
            report(exceeded.name, exceeded.to_string());
        }
        if let Err(refused) = maximum.retries.check(&task.retry) {
            report("retry", refused.to_string());
        }
    }
    for index in flow.indices() {
        let node = flow.node(index);
        if let Role::Controller(controller) = &node.role
            && let Strategy::Times(times) = controller.strategy
            && times > maximum.retries.attempts
        {
            let allowed = maximum.retries.attempts;
            let message =
                format!("flow \"{}\": its retry runs it {times} times, and the maximum here is {allowed}", node.name);
            let hint = "an operator changes the maximum under [limits] in the settings";
            diagnostics.push(Diagnostic::error(None, message).hint(hint));
        }
    }
    diagnostics
}

/// The tasks of a flow and of its nested flows, by name.
fn collect<'a>(body: &'a FlowBody, tasks: &mut BTreeMap<&'a NodeName, &'a DraftTask>) {
    for node in &body.nodes {
        match node {
            DraftNode::Task(task) => drop(tasks.insert(&task.name, task)),
            DraftNode::Flow(nested) => collect(&nested.body, tasks),
        }
    }
}
