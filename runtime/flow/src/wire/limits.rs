//! The maximum that an operator allows for the limits and retries of tasks, and for the values and retries of a flow.

use std::collections::BTreeMap;

use crate::{
    Diagnostic, Draft, Flow, Limits, ModuleContent, NodeName, RetryLimits, RunLimits,
    draft::{DraftNode, DraftTask, FlowBody},
    graph::{Scope, Source},
};

/// What a person can do about most of the diagnostics.
const HINT: &str = "an operator changes the maximum under [limits] in the settings";

/// The maximum number of modules that a flow names: each is read and asked for its tasks.
pub const MAX_MODULES: usize = 1_000;

/// What an operator allows at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maximum {
    /// The limits of a call.
    pub call: Limits,
    /// The retries of a task.
    pub retries: RetryLimits,
    /// The limits of a run.
    pub run: RunLimits,
}

/// Reports the first module beyond the maximum.
pub(super) fn check_module_count(draft: &Draft, diagnostics: &mut Vec<Diagnostic>) {
    if let Some(reference) = draft.modules.values().nth(MAX_MODULES) {
        let count = draft.modules.len();
        let message = format!("the flow names {count} modules, and the maximum is {MAX_MODULES}");
        let hint = "name each module once, for all tasks that use it, or divide the flow";
        diagnostics.push(Diagnostic::error(reference.span.clone(), message).hint(hint));
    }
}

/// Reports everything in a wired flow that is above a maximum: the limits and retries of tasks, whether the flow or the module
/// sets them, the retries of its flows, its inputs and its constants.
#[must_use]
pub fn check_limits(draft: &Draft, flow: &Flow, maximum: &Maximum) -> Vec<Diagnostic> {
    let mut diagnostics = check_tasks(draft, flow, maximum);
    diagnostics.extend(check_controllers(flow, maximum.run.attempts));
    if let Err(too_large) = maximum.run.check_values(&flow.inputs) {
        let message = format!("the inputs of flow \"{}\" {too_large}", flow.name);
        diagnostics.push(Diagnostic::error(None, message).hint(HINT));
    }
    diagnostics
}

/// Every limit and retry policy in the description of a module that is above a maximum, with its task, for people.
#[must_use]
pub fn check_description(content: &ModuleContent, maximum: &Maximum) -> Vec<String> {
    let tasks = match content {
        ModuleContent::Tasks(tasks) => &tasks[..],
        ModuleContent::Command => &[],
    };
    let of_task = |task: &crate::TaskInfo| {
        let limits = Limits::default().with(&task.limits).exceeding(&maximum.call);
        let retries = task.retry.and_then(|retry| maximum.retries.check(&retry).err());
        let reasons = limits.iter().map(ToString::to_string).chain(retries.map(|refused| refused.to_string()));
        reasons.map(|reason| format!("task \"{}\": {reason}", task.name)).collect::<Vec<_>>()
    };
    tasks.iter().flat_map(of_task).collect()
}

fn check_tasks(draft: &Draft, flow: &Flow, maximum: &Maximum) -> Vec<Diagnostic> {
    let mut tasks = BTreeMap::new();
    collect(&draft.body, &mut tasks);
    let mut diagnostics = Vec::new();
    for (index, name, task) in flow.tasks() {
        let mut report = |key: &'static str, reason: String, hint: &str| {
            let span = tasks.get(name).and_then(|task| task.span(key));
            diagnostics.push(Diagnostic::error(span, format!("task \"{name}\": {reason}")).hint(hint));
        };
        let of_module = format!("the flow or the module of the task sets it; {HINT}");
        for exceeded in task.limits.exceeding(&maximum.call) {
            report(exceeded.name, exceeded.to_string(), &of_module);
        }
        if let Err(refused) = maximum.retries.check(&task.retry) {
            report("retry", refused.to_string(), &of_module);
        }
        let list = flow.for_each(index).map(|each| &each.list);
        let sources = task.inputs.iter().map(|input| &input.source).chain(list);
        let size = |source: &Source| match source {
            Source::Constant(value) => value.size() as u64,
            Source::Node { .. }
            | Source::Element
            | Source::RunInput(_)
            | Source::Failure(_)
            | Source::LoopCarried { .. }
            | Source::Absent => 0,
        };
        if let Err(too_large) = maximum.run.check_size(sources.map(size).fold(0, u64::saturating_add)) {
            report("with", format!("its constants {too_large}"), HINT);
        }
    }
    diagnostics
}

/// Reports flows that their retry controllers would run too often.
fn check_controllers(flow: &Flow, allowed: u32) -> Vec<Diagnostic> {
    let allowed = u64::from(allowed);
    // The machine checks the length of a list when a controller reads it.
    let products = flow.attempts(|_| None);
    let mut diagnostics = Vec::new();
    for (scope, product) in flow.scopes.iter().zip(&products) {
        let of_parent = scope.parent.map_or(1, |parent| products[parent.0 as usize]);
        // The flows in a reported flow are not reported too.
        if *product > allowed && of_parent <= allowed {
            diagnostics.push(too_many_runs(flow, scope, *product, allowed));
        }
    }
    diagnostics
}

/// The diagnostic for a flow that runs too often; it names the flows whose retries multiply.
fn too_many_runs(flow: &Flow, scope: &Scope, product: u64, allowed: u64) -> Diagnostic {
    let name = |scope: &Scope| &flow.node(scope.begin).name;
    let own = |scope: &Scope| flow.attempts_of(scope, None);
    let enclosing = std::iter::successors(Some(scope), |scope| scope.parent.map(|parent| flow.scope(parent)));
    let mut chain: Vec<&Scope> = enclosing.filter(|scope| own(scope) > 1).collect();
    chain.reverse();
    let message = if let [only] = chain[..] {
        format!("flow \"{}\": its retry runs it {product} times, and the maximum here is {allowed}", name(only))
    } else {
        let each: Vec<String> = chain.iter().map(|scope| format!("\"{}\" {} times", name(scope), own(scope))).collect();
        let each = each.join(", and each time ");
        format!(
            "the retries of nested flows multiply: {each}; that is {product} times, and the maximum here is {allowed}"
        )
    };
    Diagnostic::error(None, message).hint(HINT)
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

#[cfg(test)]
mod tests;
