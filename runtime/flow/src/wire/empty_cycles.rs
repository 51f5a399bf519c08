//! Cycles without calls: nothing would slow them down, and they would have no effect.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::Layout;
use crate::{BackEdge, Diagnostic, DraftLink, Flow, Json, Role, ScopeIndex, Source, Value};

/// Refuses back edges that form a cycle without a call. A list that is not known yet may be empty too; the machine slows
/// such a cycle down.
pub(super) fn check_empty_cycles(layout: &Layout<'_>, flow: &Flow, diagnostics: &mut Vec<Diagnostic>) {
    let turns = flow.triggers.iter().flat_map(|living| &living.back_edges);
    let idle: Vec<&BackEdge> = turns.filter(|turn| !calls(flow, turn)).collect();
    let leads_to = |one: &BackEdge, other: &BackEdge| {
        flow.nodes_of_firing(Some(one.to)).is_some_and(|members| members.contains(&other.link.from))
    };
    let places = 0..idle.len();
    let next: BTreeMap<usize, Vec<usize>> = places
        .clone()
        .map(|place| (place, places.clone().filter(|other| leads_to(idle[place], idle[*other])).collect()))
        .collect();
    for place in places.filter(|place| is_cycle(&next, *place)) {
        let turn = idle[place];
        let (from, to) = (&flow.node(turn.link.from).name, &flow.node(turn.to).name);
        let message = format!("the link {from:?} -> {to:?} goes round for ever, and no task on the way calls anybody");
        let links = &layout.flow(ScopeIndex::ROOT).body.links;
        let is_it = |link: &&DraftLink| link.from == *from && link.to == *to;
        let span = links.iter().find(is_it).and_then(|link| link.spans.from.clone());
        let hint = "their lists are empty: give for_each a list with elements, or leave the link out";
        diagnostics.push(Diagnostic::error(span, message).hint(hint));
    }
}

/// Whether the firing that a back edge triggers may call a guest.
fn calls(flow: &Flow, turn: &BackEdge) -> bool {
    flow.nodes_of_firing(Some(turn.to)).into_iter().flatten().any(|index| match &flow.node(index).role {
        Role::Task(_) | Role::Wait(_) | Role::Element(_) => true,
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

fn is_cycle(next: &BTreeMap<usize, Vec<usize>>, place: usize) -> bool {
    let (mut seen, mut work) = (BTreeSet::new(), next[&place].clone());
    while let Some(other) = work.pop() {
        if other == place {
            return true;
        }
        if seen.insert(other) {
            work.extend(&next[&other]);
        }
    }
    false
}
