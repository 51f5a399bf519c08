//! The maximum that an operator allows for the limits of tasks.

use std::collections::BTreeMap;

use crate::{
    Diagnostic, Draft, Flow, Limits, NodeName,
    draft::{DraftNode, DraftTask, FlowBody},
};

/// Reports every task of a wired flow whose limits are above a maximum, whether the flow or the module of the task sets
/// them.
#[must_use]
pub fn check_limits(draft: &Draft, flow: &Flow, maximum: &Limits) -> Vec<Diagnostic> {
    let mut tasks = BTreeMap::new();
    collect(&draft.body, &mut tasks);
    let mut diagnostics = Vec::new();
    for (_, name, task) in flow.tasks() {
        for exceeded in task.limits.exceeding(maximum) {
            let span = tasks.get(name).and_then(|task| task.span(exceeded.name));
            let error = Diagnostic::error(span, format!("task \"{name}\": {exceeded}"));
            let hint = "the flow or the module of the task sets it; an operator raises the maximum under [limits] in the settings";
            diagnostics.push(error.hint(hint));
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
