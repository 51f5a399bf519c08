//! The order among the members of one flow, with the reason of each edge.

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use crate::ValueName;

/// The maximum number of edges and members that the search for providers visits in a flow with all its nested flows. A flow of a
/// hundred thousand tasks needs some millions; a hundred million take a few seconds.
const MAX_VISITS: usize = 100_000_000;

/// The visits that are left for the search for providers.
pub(super) struct Visits {
    left: Cell<usize>,
    /// The first values whose providers could not be found with them.
    unresolved: RefCell<Vec<ValueName>>,
}

impl Visits {
    pub(super) fn new() -> Self {
        Self::of(MAX_VISITS)
    }

    pub(super) fn of(visits: usize) -> Self {
        Self { left: Cell::new(visits), unresolved: RefCell::default() }
    }

    /// Takes some visits, as far as there are as many.
    pub(super) fn take(&self, visits: usize) {
        self.left.set(self.left.get().saturating_sub(visits));
    }

    /// Whether none is left: then no answer of a search is right.
    pub(super) fn are_spent(&self) -> bool {
        self.left.get() == 0
    }

    /// Whether none is left, and if so, remembers the values whose search it ends.
    pub(super) fn are_spent_by<'v>(&self, values: impl IntoIterator<Item = &'v ValueName>) -> bool {
        if self.are_spent() && self.unresolved.borrow().is_empty() {
            *self.unresolved.borrow_mut() = values.into_iter().cloned().collect();
        }
        self.are_spent()
    }

    /// The first values whose providers could not be found; none where all were.
    pub(super) fn unresolved(&self) -> Vec<ValueName> {
        self.unresolved.borrow().clone()
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        MAX_VISITS - self.left.get()
    }
}

/// The members of one flow, by index, and the edges between them.
pub(super) struct Graph {
    pub(super) after: Vec<Vec<usize>>,
    pub(super) before: Vec<Vec<usize>>,
    reasons: BTreeMap<(usize, usize), Reason>,
}

/// The reason why one member precedes another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// The flow is linear.
    Sequence,
    /// The link at this index among the flow's links.
    Link(usize),
    /// The successor requires this value of the predecessor.
    Value(ValueName),
}

impl Graph {
    pub(super) fn new(members: usize) -> Self {
        Self { after: vec![Vec::new(); members], before: vec![Vec::new(); members], reasons: BTreeMap::new() }
    }

    /// Adds an edge; the first edge of a pair determines the reason.
    pub(super) fn add(&mut self, from: usize, to: usize, reason: Reason) {
        self.reasons.entry((from, to)).or_insert_with(|| {
            self.after[from].push(to);
            self.before[to].push(from);
            reason
        });
    }

    /// The reason why `from` directly precedes `to`, if it does.
    pub(super) fn reason(&self, from: usize, to: usize) -> Option<&Reason> {
        self.reasons.get(&(from, to))
    }

    pub(super) fn edges(&self) -> impl Iterator<Item = (usize, usize)> {
        self.reasons.keys().copied()
    }

    /// Whether an explicit link orders `to` directly after `from`.
    pub(super) fn is_linked(&self, from: usize, to: usize) -> bool {
        matches!(self.reason(from, to), Some(Reason::Link(_)))
    }

    /// The members from which a path of explicit links leads to this one.
    pub(super) fn linked_to(&self, member: usize, visits: &Visits) -> BTreeSet<usize> {
        let mut predecessors = BTreeSet::new();
        let mut work = vec![member];
        while let Some(member) = work.pop() {
            visits.take(1 + self.before[member].len() * MAP_VISITS);
            if visits.are_spent() {
                break;
            }
            let linked = self.before[member].iter().filter(|before| self.is_linked(**before, member));
            work.extend(linked.filter(|before| predecessors.insert(**before)));
        }
        predecessors
    }

    /// The position of each member in a topological order, lower members first; `None` for a cyclic graph.
    pub(super) fn positions(&self) -> Option<Vec<usize>> {
        let mut remaining: Vec<usize> = self.before.iter().map(Vec::len).collect();
        let mut ready: BinaryHeap<_> =
            (0..remaining.len()).filter(|member| remaining[*member] == 0).map(Reverse).collect();
        let mut positions = vec![usize::MAX; remaining.len()];
        let mut next = 0;
        while let Some(Reverse(member)) = ready.pop() {
            positions[member] = next;
            next += 1;
            for after in &self.after[member] {
                remaining[*after] -= 1;
                if remaining[*after] == 0 {
                    ready.push(Reverse(*after));
                }
            }
        }
        (next == positions.len()).then_some(positions)
    }
}

/// The number of visits that a place in a map or a heap counts as.
const MAP_VISITS: usize = 4;

/// Answers which members surely precede others; each search visits only as many members as necessary. Once no visit is left, a
/// search ends early, and its answer means nothing.
pub(super) struct Reachability<'g> {
    graph: &'g Graph,
    visits: &'g Visits,
    /// The position of each member in a topological order.
    pub(super) position: Vec<usize>,
    seen: Vec<u32>,
    search: u32,
}

impl<'g> Reachability<'g> {
    /// `None` when the graph has a cycle.
    pub(super) fn of(graph: &'g Graph, visits: &'g Visits) -> Option<Self> {
        visits.take((graph.before.len() + graph.reasons.len()) * MAP_VISITS);
        let position = graph.positions()?;
        Some(Self { graph, visits, seen: vec![0; position.len()], position, search: 0 })
    }

    /// Sorts members so that each one precedes those that surely follow it.
    pub(super) fn sort(&self, members: &mut [usize]) {
        self.visits.take(members.len());
        members.sort_by_key(|member| self.position[*member]);
    }

    /// Whether `from` surely precedes `to`.
    pub(super) fn is_before(&mut self, from: usize, to: usize) -> bool {
        let last = self.position[to];
        self.begin();
        let mut work = vec![from];
        while let Some(member) = self.take_next(&mut work, |graph, member| &graph.after[member]) {
            for after in &self.graph.after[member] {
                if *after == to {
                    return true;
                }
                if self.position[*after] < last && self.seen[*after] != self.search {
                    self.seen[*after] = self.search;
                    work.push(*after);
                }
            }
        }
        false
    }

    /// Whether each member of a sorted list surely precedes the next. Each search stays between two neighbours.
    pub(super) fn is_chain(&mut self, sorted: &[usize]) -> bool {
        self.first_gap(sorted).is_none()
    }

    /// The first two neighbours of a sorted list without an order between them.
    pub(super) fn first_gap(&mut self, sorted: &[usize]) -> Option<(usize, usize)> {
        sorted.windows(2).map(|pair| (pair[0], pair[1])).find(|(one, other)| !self.is_before(*one, *other))
    }

    /// The members of a sorted list that surely precede a member.
    pub(super) fn before(&mut self, member: usize, sorted: &[usize]) -> Vec<usize> {
        let first = sorted.first().map_or(usize::MAX, |first| self.position[*first]);
        self.visit_before(vec![member], first, |_| {});
        self.visits.take(sorted.len());
        sorted.iter().copied().filter(|other| *other != member && self.seen[*other] == self.search).collect()
    }

    /// Visits all predecessors of these members down to a position.
    fn visit_before(&mut self, mut work: Vec<usize>, first: usize, mut visit: impl FnMut(usize)) {
        self.begin();
        while let Some(member) = self.take_next(&mut work, |graph, member| &graph.before[member]) {
            for before in &self.graph.before[member] {
                if self.position[*before] >= first && self.seen[*before] != self.search {
                    self.seen[*before] = self.search;
                    visit(*before);
                    work.push(*before);
                }
            }
        }
    }

    /// For each member from a position on, the lowest member of a chain that surely follows it.
    pub(super) fn first_of_chain(&mut self, chain: &[usize], earliest: usize) -> BTreeMap<usize, usize> {
        self.begin();
        let mut first = BTreeMap::new();
        for (index, link) in chain.iter().enumerate() {
            let mut work = vec![*link];
            while let Some(member) = self.take_next(&mut work, |graph, member| &graph.before[member]) {
                for before in &self.graph.before[member] {
                    if self.position[*before] >= earliest && self.seen[*before] != self.search {
                        self.seen[*before] = self.search;
                        first.insert(*before, index);
                        work.push(*before);
                    }
                }
            }
        }
        first
    }

    /// For each member up to a position, the highest member of a chain that surely precedes it.
    pub(super) fn last_of_chain(&mut self, chain: &[usize], latest: usize) -> BTreeMap<usize, usize> {
        self.begin();
        let mut last = BTreeMap::new();
        for (index, link) in chain.iter().enumerate().rev() {
            let mut work = vec![*link];
            while let Some(member) = self.take_next(&mut work, |graph, member| &graph.after[member]) {
                for after in &self.graph.after[member] {
                    if self.position[*after] <= latest && self.seen[*after] != self.search {
                        self.seen[*after] = self.search;
                        last.insert(*after, index);
                        work.push(*after);
                    }
                }
            }
        }
        last
    }

    /// For each member, which of up to 64 others surely follow it, as bits; members without such followers are left out.
    pub(super) fn followers(&mut self, others: &[usize]) -> BTreeMap<usize, u64> {
        let mut ancestors = Vec::new();
        self.visit_before(others.to_vec(), 0, |member| ancestors.push(member));
        let edges = ancestors.iter().map(|member| self.graph.after[*member].len()).sum::<usize>();
        self.visits.take((ancestors.len() + edges) * MAP_VISITS);
        ancestors.sort_by_key(|member| Reverse(self.position[*member]));
        let own_bits: BTreeMap<usize, u64> =
            others.iter().enumerate().map(|(index, member)| (*member, 1 << index)).collect();
        let mut bits: BTreeMap<usize, u64> = BTreeMap::new();
        for member in ancestors {
            let bits_after = |after: &usize| bits.get(after).unwrap_or(&0) | own_bits.get(after).unwrap_or(&0);
            let followers = self.graph.after[member].iter().map(bits_after).fold(0, |bits, more| bits | more);
            bits.insert(member, followers);
        }
        bits
    }

    fn begin(&mut self) {
        self.search += 1;
    }

    /// The next member of a search, if visits are left for its edges.
    fn take_next(&self, work: &mut Vec<usize>, edges: impl Fn(&Graph, usize) -> &Vec<usize>) -> Option<usize> {
        let member = work.pop()?;
        self.visits.take(1 + edges(self.graph, member).len());
        (!self.visits.are_spent()).then_some(member)
    }
}
