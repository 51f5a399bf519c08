//! Cycles without calls: nothing would slow them down, and they would have no effect.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::Layout;
use crate::{
    Diagnostic, Flow, Json, Value,
    draft::DraftLink,
    graph::{BackEdge, Role, ScopeIndex, Source},
};

/// Refuses back edges that form a cycle without a call. A list that is not known yet may be empty too; the machine slows
/// such a cycle down.
pub(super) fn check_empty_cycles(layout: &Layout<'_>, flow: &Flow, diagnostics: &mut Vec<Diagnostic>) {
    let back_edges = flow.triggers.iter().flat_map(|triggers| &triggers.back_edges);
    let empty: Vec<&BackEdge> = back_edges.filter(|edge| !calls(flow, edge)).collect();
    let leads_to = |one: &BackEdge, other: &BackEdge| {
        flow.nodes_of_firing(Some(one.to)).is_some_and(|members| members.contains(&other.link.from))
    };
    let indices = 0..empty.len();
    let next: BTreeMap<usize, Vec<usize>> = indices
        .clone()
        .map(|index| (index, indices.clone().filter(|other| leads_to(empty[index], empty[*other])).collect()))
        .collect();
    for index in indices.filter(|index| is_cycle(&next, *index)) {
        let edge = empty[index];
        let (from, to) = (&flow.node(edge.link.from).name, &flow.node(edge.to).name);
        let message = format!("the link {from:?} -> {to:?} closes a cycle without any call");
        let links = &layout.flow(ScopeIndex::ROOT).body.links;
        let is_same = |link: &&DraftLink| link.from == *from && link.to == *to;
        let span = links.iter().find(is_same).and_then(|link| link.spans.from.clone());
        let hint = "their lists are empty: give for_each a list with elements, or leave the link out";
        diagnostics.push(Diagnostic::error(span, message).hint(hint));
    }
}

/// Whether the firing that a back edge triggers may call a guest.
fn calls(flow: &Flow, edge: &BackEdge) -> bool {
    flow.nodes_of_firing(Some(edge.to)).into_iter().flatten().any(|index| match &flow.node(index).role {
        Role::Task(_) | Role::Wait(_) => true,
        Role::ForEach(each) => !is_empty(&each.list),
        Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => false,
    })
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

fn is_cycle(next: &BTreeMap<usize, Vec<usize>>, index: usize) -> bool {
    let (mut seen, mut work) = (BTreeSet::new(), next[&index].clone());
    while let Some(other) = work.pop() {
        if other == index {
            return true;
        }
        if seen.insert(other) {
            work.extend(&next[&other]);
        }
    }
    false
}
