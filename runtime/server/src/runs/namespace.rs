//! Keeps the flow of a sender that is limited to a namespace within it.

use flow::{Diagnostic, Draft, Flow, Namespace, Severity};

use crate::problem::Problem;

/// Puts a flow into the namespace that its sender is limited to, if there is one.
///
/// # Errors
/// [`Problem`] when the flow names another namespace, or its name gets too long.
pub(super) fn enter(draft: &mut Draft, namespace: Option<&Namespace>) -> Result<(), Problem> {
    let (Some(name), Some(namespace)) = (&draft.name, namespace) else { return Ok(()) };
    let qualified = name.within(Some(namespace));
    let qualified =
        qualified.map_err(|error| Problem::bad_request(format!("in the namespace {namespace}, {error}")))?;
    if qualified.namespace().as_ref() != Some(namespace) {
        let detail = format!("the flow is named {name}, and the token is limited to the namespace {namespace}");
        return Err(Problem::forbidden(detail).hint("name the flow without a namespace"));
    }
    draft.name = Some(qualified);
    Ok(())
}

/// Reports what a flow uses outside the namespace that its sender is limited to.
pub(super) fn foreign_names(flow: &Flow, namespace: Option<&Namespace>) -> Vec<Diagnostic> {
    let Some(namespace) = namespace else { return Vec::new() };
    let is_foreign = |of: Option<Namespace>| of.as_ref() != Some(namespace);
    let queues = flow.tasks().filter(|(_, _, task)| is_foreign(task.queue.namespace()));
    let queues = queues.map(|(_, name, task)| format!("task {:?} uses the queue {}", name.as_str(), task.queue));
    let listeners = flow.listeners.iter().filter(|listener| is_foreign(listener.flow.namespace()));
    let listeners = listeners.map(|listener| format!("the flow listens to the flow {}", listener.flow));
    let diagnostic = |use_of_other: String| Diagnostic {
        severity: Severity::Error,
        message: format!("{use_of_other}, and the token is limited to the namespace {namespace}"),
        hint: Some("name it without a namespace".into()),
        span: None,
    };
    queues.chain(listeners).map(diagnostic).collect()
}
