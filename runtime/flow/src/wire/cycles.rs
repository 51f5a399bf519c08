//! Finds cycles of members that wait for one another, and reports them with the reason of each step.

use std::collections::BTreeMap;

use super::{
    graph::{Graph, Reason},
    layout::Layout,
};
use crate::{Diagnostic, draft::Span, graph::ScopeIndex};

/// The maximum number of cycles that are reported. Nobody reads more, and each may take a walk through the whole flow.
const MAX_CYCLES: usize = 100;

/// Reports the first cycles of a flow; each member is in at most one of them.
pub(super) fn report_cycles(layout: &Layout<'_>, scope: ScopeIndex, graph: &Graph, diagnostics: &mut Vec<Diagnostic>) {
    if graph.positions().is_some() {
        return;
    }
    let flow = layout.flow(scope);
    let name = |member: usize| format!("{:?}", flow.members[member].name);
    let mut finder = CycleFinder::of(graph);
    for cycle in std::iter::from_fn(|| finder.take_cycle()).take(MAX_CYCLES) {
        let steps: Vec<(usize, usize)> = cycle.iter().copied().zip(cycle.iter().copied().cycle().skip(1)).collect();
        let mut names: Vec<String> = cycle.iter().map(|member| name(*member)).collect();
        names.push(name(cycle[0]));
        let reasons = steps.iter().map(|(from, to)| match graph.reason(*from, *to) {
            Some(Reason::Value(value)) => format!("{} requires {value:?} of {}", name(*to), name(*from)),
            Some(Reason::Link(_) | Reason::Sequence) | None => format!("{} is linked to {}", name(*from), name(*to)),
        });
        let way_out = if scope == ScopeIndex::ROOT { ", or the flow says cyclic = true" } else { "" };
        let hint = format!("{}: one of these must go{way_out}", reasons.collect::<Vec<_>>().join(", "));
        let message = format!("nodes wait for one another: {}", names.join(" -> "));
        let span = steps.iter().find_map(|(from, to)| span(layout, scope, graph, *from, *to));
        diagnostics.push(Diagnostic::error(span, message).hint(hint));
    }
}

/// The span of the reason of a step.
fn span(layout: &Layout<'_>, scope: ScopeIndex, graph: &Graph, from: usize, to: usize) -> Span {
    let flow = layout.flow(scope);
    match graph.reason(from, to)? {
        Reason::Link(index) => flow.body.links[*index].spans.from.clone(),
        Reason::Value(_) => layout.span(flow.members[to].first, "requires"),
        Reason::Sequence => None,
    }
}

/// The members that are in cycles, or between two of them.
struct CycleFinder<'g> {
    graph: &'g Graph,
    remaining: Vec<bool>,
    predecessors: Vec<usize>,
    successors: Vec<usize>,
    lowest: usize,
}

impl<'g> CycleFinder<'g> {
    fn of(graph: &'g Graph) -> Self {
        let members = graph.after.len();
        let predecessors: Vec<usize> = graph.before.iter().map(Vec::len).collect();
        let successors: Vec<usize> = graph.after.iter().map(Vec::len).collect();
        let ends = (0..members).filter(|member| predecessors[*member] == 0 || successors[*member] == 0).collect();
        let mut finder = Self { graph, remaining: vec![true; members], predecessors, successors, lowest: 0 };
        finder.remove(ends);
        finder
    }

    /// Removes members, and then all that are in no cycle any more.
    fn remove(&mut self, mut work: Vec<usize>) {
        while let Some(member) = work.pop() {
            if !std::mem::take(&mut self.remaining[member]) {
                continue;
            }
            for after in &self.graph.after[member] {
                self.predecessors[*after] -= 1;
                if self.predecessors[*after] == 0 {
                    work.push(*after);
                }
            }
            for before in &self.graph.before[member] {
                self.successors[*before] -= 1;
                if self.successors[*before] == 0 {
                    work.push(*before);
                }
            }
        }
    }

    /// The first cycle that a walk from the lowest member closes, its lowest member first.
    fn take_cycle(&mut self) -> Option<Vec<usize>> {
        while !*self.remaining.get(self.lowest)? {
            self.lowest += 1;
        }
        let mut walk = vec![self.lowest];
        let mut step = BTreeMap::new();
        let start = loop {
            let last = *walk.last().expect("a walk has a start");
            if let Some(before) = step.insert(last, walk.len() - 1) {
                break before;
            }
            let is_remaining = |after: &&usize| self.remaining[**after];
            let next = self.graph.after[last].iter().filter(is_remaining).min();
            walk.push(*next.expect("a member without a successor was removed"));
        };
        walk.pop();
        let mut cycle = walk.split_off(start);
        let lowest = (0..cycle.len()).min_by_key(|index| cycle[*index]).unwrap_or_default();
        cycle.rotate_left(lowest);
        self.remove(cycle.clone());
        Some(cycle)
    }
}
