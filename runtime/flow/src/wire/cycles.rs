//! Finds cycles of members that wait for one another, and reports them with the reason of each step.

use std::collections::BTreeMap;

use super::{
    graph::{Graph, Reason},
    layout::Layout,
};
use crate::{Diagnostic, ScopeIndex, Span};

/// Reports the cycles of a flow; each member is in at most one of them.
pub(super) fn report_cycles(layout: &Layout<'_>, scope: ScopeIndex, graph: &Graph, diagnostics: &mut Vec<Diagnostic>) {
    if graph.positions().is_some() {
        return;
    }
    let flow = layout.flow(scope);
    let name = |member: usize| format!("{:?}", flow.members[member].name);
    let mut remains = CycleFinder::of(graph);
    while let Some(circle) = remains.take_cycle() {
        let steps: Vec<(usize, usize)> = circle.iter().copied().zip(circle.iter().copied().cycle().skip(1)).collect();
        let mut names: Vec<String> = circle.iter().map(|member| name(*member)).collect();
        names.push(name(circle[0]));
        let why = steps.iter().map(|(from, to)| match graph.reason(*from, *to) {
            Some(Reason::Value(value)) => format!("{} requires {value:?} of {}", name(*to), name(*from)),
            Some(Reason::Link(_) | Reason::Sequence) | None => format!("{} is linked to {}", name(*from), name(*to)),
        });
        let way_out = if scope == ScopeIndex::ROOT { ", or the flow says cyclic = true" } else { "" };
        let hint = format!("{}: one of these must go{way_out}", why.collect::<Vec<_>>().join(", "));
        let message = format!("nodes wait for one another: {}", names.join(" -> "));
        let span = steps.iter().find_map(|(from, to)| span(layout, scope, graph, *from, *to));
        diagnostics.push(Diagnostic::error(span, message).hint(hint));
    }
}

/// The span of the reason of a step.
fn span(layout: &Layout<'_>, scope: ScopeIndex, graph: &Graph, from: usize, to: usize) -> Span {
    let flow = layout.flow(scope);
    match graph.reason(from, to)? {
        Reason::Link(place) => flow.body.links[*place].spans.from.clone(),
        Reason::Value(_) => layout.span(flow.members[to].first, "requires"),
        Reason::Sequence => None,
    }
}

/// The members that are in cycles, or between two of them.
struct CycleFinder<'g> {
    graph: &'g Graph,
    remaining: Vec<bool>,
    befores: Vec<usize>,
    afters: Vec<usize>,
    lowest: usize,
}

impl<'g> CycleFinder<'g> {
    fn of(graph: &'g Graph) -> Self {
        let members = graph.after.len();
        let befores: Vec<usize> = graph.before.iter().map(Vec::len).collect();
        let afters: Vec<usize> = graph.after.iter().map(Vec::len).collect();
        let ends = (0..members).filter(|member| befores[*member] == 0 || afters[*member] == 0).collect();
        let mut remains = Self { graph, remaining: vec![true; members], befores, afters, lowest: 0 };
        remains.remove(ends);
        remains
    }

    /// Removes members, and then all that are in no cycle any more.
    fn remove(&mut self, mut work: Vec<usize>) {
        while let Some(member) = work.pop() {
            if !std::mem::take(&mut self.remaining[member]) {
                continue;
            }
            for after in &self.graph.after[member] {
                self.befores[*after] -= 1;
                if self.befores[*after] == 0 {
                    work.push(*after);
                }
            }
            for before in &self.graph.before[member] {
                self.afters[*before] -= 1;
                if self.afters[*before] == 0 {
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
        let begins = loop {
            let last = *walk.last().expect("a walk begins somewhere");
            if let Some(before) = step.insert(last, walk.len() - 1) {
                break before;
            }
            let left = |after: &&usize| self.remaining[**after];
            let next = self.graph.after[last].iter().filter(left).min();
            walk.push(*next.expect("whoever has no one after it was taken out"));
        };
        walk.pop();
        let mut circle = walk.split_off(begins);
        let lowest = (0..circle.len()).min_by_key(|place| circle[*place]).unwrap_or_default();
        circle.rotate_left(lowest);
        self.remove(circle.clone());
        Some(circle)
    }
}
