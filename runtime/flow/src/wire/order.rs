//! The explicit order of a flow: its pattern, and its links.

use super::{
    graph::{Graph, Reason},
    layout::{Layout, MemberPosition},
};
use crate::{Diagnostic, NodeName, Pattern, draft::Span, graph::ScopeIndex, suggest};

/// The explicit order of a flow's members.
///
/// Links that trigger another firing give no order.
pub(super) fn explicit(
    layout: &Layout<'_>,
    scope: ScopeIndex,
    is_back_edge: impl Fn(usize) -> bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> Graph {
    let flow = layout.flow(scope);
    let mut graph = Graph::new(flow.members.len());
    if flow.body.pattern == Pattern::Linear {
        for next in 1..flow.members.len() {
            graph.add(next - 1, next, Reason::Sequence);
        }
    }
    for (index, link) in flow.body.links.iter().enumerate() {
        let from = end(layout, scope, &link.from, &link.spans.from, diagnostics);
        let to = end(layout, scope, &link.to, &link.spans.to, diagnostics);
        let (Some(from), Some(to)) = (from, to) else { continue };
        if is_back_edge(index) {
            continue;
        }
        if from == to {
            let diagnostic = Diagnostic::error(link.spans.to.clone(), format!("{:?} is linked to itself", link.to));
            diagnostics.push(diagnostic.hint("link two nodes, or leave the link out"));
        } else if flow.body.pattern != Pattern::Linear {
            graph.add(from, to, Reason::Link(index));
        } else if from > to {
            let message = format!(
                "the link {:?} -> {:?} is against the order of the linear flow {:?}",
                link.from, link.to, flow.name
            );
            let hint = "change the order of the flow, or leave the link out";
            diagnostics.push(Diagnostic::error(link.spans.from.clone(), message).hint(hint));
        }
    }
    graph
}

/// The member of the flow that an end of a link names.
fn end(
    layout: &Layout<'_>,
    scope: ScopeIndex,
    name: &NodeName,
    span: &Span,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<usize> {
    let flow = layout.flow(scope);
    let refuse = |reason: String| {
        Diagnostic::error(span.clone(), format!("a link of flow {:?} names {name:?}, {reason}", flow.name))
    };
    let diagnostic = match layout.position(name) {
        Some(position) if position.scope == scope => return Some(position.member),
        Some(position) if flow.parent != Some(position) => {
            let actual_flow = layout.flow(position.scope);
            refuse(format!("which is in flow {:?}", actual_flow.name))
                .hint(linkable_ends(layout, scope, name, position))
        }
        Some(_) | None if *name == flow.name => refuse("which is the flow itself".into()).hint("link the nodes in it"),
        Some(_) | None => {
            let names = flow.members.iter().map(|member| member.name.as_str());
            let is_read = diagnostics.len() < suggest::MAX_SUGGESTIONS;
            let hint = is_read.then(|| suggest::did_you_mean(name.as_str(), names)).flatten();
            refuse("which the flow does not have".into())
                .hint(hint.unwrap_or_else(|| "a link joins two tasks or nested flows by name".into()))
        }
    };
    diagnostics.push(diagnostic);
    None
}

/// The two nodes that a link could join instead of one inside another flow, or outside its own.
fn linkable_ends(layout: &Layout<'_>, scope: ScopeIndex, name: &NodeName, position: MemberPosition) -> String {
    let container = |scope| {
        let member = layout.member_with(scope, layout.flow(position.scope).begin)?;
        Some(layout.flow(scope).members[member].name)
    };
    if let Some(container) = container(scope) {
        return format!("a link joins nodes of one flow: link {container:?}, which contains it");
    }
    let mut inner = scope;
    while let Some(parent) = layout.flow(inner).parent {
        let flow = layout.flow(parent.scope);
        let end = if parent.scope == position.scope { Some(name) } else { container(parent.scope) };
        if let Some(end) = end {
            let member = flow.members[parent.member].name;
            return format!("a link joins nodes of one flow: link {end:?} and {member:?} in flow {:?}", flow.name);
        }
        inner = parent.scope;
    }
    "a link joins nodes of one flow".into()
}
