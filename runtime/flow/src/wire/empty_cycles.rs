//! Cycles without calls: nothing would slow them down, and they would have no effect.

use std::collections::BTreeMap;

use super::{components::Components, layout::Layout};
use crate::{
    Diagnostic, Flow, Json, NodeIndex, NodeName, Value,
    draft::Span,
    graph::{BackEdge, Role, ScopeIndex, Source},
};

/// Refuses back edges that form a cycle without a call. A list that is not known yet may be empty too; the machine slows
/// such a cycle down.
pub(super) fn check_empty_cycles(layout: &Layout<'_>, flow: &Flow, diagnostics: &mut Vec<Diagnostic>) {
    let calling = leading_to_calls(flow);
    let back_edges = flow.triggers.iter().flat_map(|triggers| &triggers.back_edges);
    let empty: Vec<&BackEdge> = back_edges.filter(|edge| !calling[edge.to.0 as usize]).collect();
    if empty.is_empty() {
        return;
    }
    let index = |node: &NodeIndex| node.0 as usize;
    let mut successors: Vec<Vec<usize>> =
        flow.nodes.iter().map(|node| node.after.iter().map(index).collect()).collect();
    empty.iter().for_each(|edge| successors[index(&edge.link.from)].push(index(&edge.to)));
    let components = Components::of(&successors);
    let links = &layout.flow(ScopeIndex::ROOT).body.links;
    let spans = links.iter().rev().map(|link| ((&link.from, &link.to), &link.spans.from));
    let spans: BTreeMap<(&NodeName, &NodeName), &Span> = spans.collect();
    for edge in empty.into_iter().filter(|edge| components.is_same(index(&edge.link.from), index(&edge.to))) {
        let (from, to) = (&flow.node(edge.link.from).name, &flow.node(edge.to).name);
        let message = format!("the link {from:?} -> {to:?} closes a cycle without any call");
        let span = spans.get(&(from, to)).copied().cloned().flatten();
        let hint = "their lists are empty: give for_each a list with elements, or leave the link out";
        diagnostics.push(Diagnostic::error(span, message).hint(hint));
    }
}

/// For each node, whether a firing that starts with it may call a guest.
fn leading_to_calls(flow: &Flow) -> Vec<bool> {
    let calls = |index: &NodeIndex| match &flow.node(*index).role {
        Role::Task(_) | Role::Wait(_) => true,
        Role::ForEach(each) => !is_empty(&each.list),
        Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => false,
    };
    let mut leading = vec![false; flow.nodes.len()];
    let mut work: Vec<NodeIndex> = flow.indices().filter(calls).collect();
    while let Some(index) = work.pop() {
        if !std::mem::replace(&mut leading[index.0 as usize], true) {
            work.extend(&flow.node(index).before);
        }
    }
    leading
}

fn is_empty(list: &Source) -> bool {
    match list {
        Source::Constant(Value::Json(json)) => json.elements().as_ref().is_some_and(Vec::<Json>::is_empty),
        Source::Constant(Value::Bytes(_) | Value::Stored(_))
        | Source::Node { .. }
        | Source::Element
        | Source::RunInput(_)
        | Source::LoopCarried { .. }
        | Source::Failure(_)
        | Source::Absent => false,
    }
}
