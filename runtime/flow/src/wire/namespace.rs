//! Puts the names that a flow uses into the namespace of the flow: its queues, and the flows that it listens to.

use std::borrow::Cow;

use crate::{
    Diagnostic, Draft, Namespace, QueueName,
    draft::{DraftNode, FlowBody, Span},
    name::InvalidName,
};

/// The queue of a task that names none.
pub(super) fn default_queue() -> QueueName {
    QueueName::new("default").expect("it is a valid name")
}

/// The draft of a flow in a namespace, in which each queue and each flow that is listened to has a namespace. Those that name
/// one stay as they are.
pub(super) fn qualify<'d>(draft: &'d Draft, diagnostics: &mut Vec<Diagnostic>) -> Cow<'d, Draft> {
    let Some(namespace) = draft.namespace() else { return Cow::Borrowed(draft) };
    let mut draft = draft.clone();
    for listener in &mut draft.listeners {
        let qualified = listener.flow.within(Some(&namespace));
        put(&mut listener.flow, qualified, listener.span.clone(), diagnostics);
    }
    qualify_queues(&mut draft.body, &namespace, diagnostics);
    Cow::Owned(draft)
}

fn qualify_queues(body: &mut FlowBody, namespace: &Namespace, diagnostics: &mut Vec<Diagnostic>) {
    for node in &mut body.nodes {
        match node {
            DraftNode::Task(task) => {
                let queue = task.queue.get_or_insert_with(default_queue);
                let qualified = queue.within(Some(namespace));
                put(queue, qualified, task.spans.get("queue").cloned(), diagnostics);
            }
            DraftNode::Flow(flow) => qualify_queues(&mut flow.body, namespace, diagnostics),
        }
    }
}

/// Replaces a name by the one in the namespace, or says why it cannot be there.
fn put<Name>(name: &mut Name, qualified: Result<Name, InvalidName>, span: Span, diagnostics: &mut Vec<Diagnostic>) {
    match qualified {
        Ok(qualified) => *name = qualified,
        Err(error) => diagnostics.push(
            Diagnostic::error(span, format!("in the namespace of the flow, {error}")).hint("choose a shorter name"),
        ),
    }
}
