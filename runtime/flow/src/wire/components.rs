//! Which nodes of a graph lead to one another: in time proportional to the graph, whatever its cycles.

/// The strongly connected components of a graph: two nodes are in the same one if each leads to the other.
pub(super) struct Components<'g> {
    successors: &'g [Vec<usize>],
    /// The component of each node. A component leads only to itself and to those with lower numbers.
    component: Vec<usize>,
    /// The nodes, those of lower components first.
    order: Vec<usize>,
}

/// A node that the search has not reached, or that has no component yet.
const UNKNOWN: usize = usize::MAX;

impl<'g> Components<'g> {
    /// Finds the components with Tarjan's algorithm, without recursion.
    pub(super) fn of(successors: &'g [Vec<usize>]) -> Self {
        let nodes = successors.len();
        let (mut reached, mut lowest) = (vec![UNKNOWN; nodes], vec![UNKNOWN; nodes]);
        let (mut next_reached, mut components) = (0, 0);
        let (mut open, mut path) = (Vec::new(), Vec::new());
        let mut found = Self { successors, component: vec![UNKNOWN; nodes], order: Vec::with_capacity(nodes) };
        for start in 0..nodes {
            if reached[start] == UNKNOWN {
                path.push((start, 0));
            }
            while let Some((node, next)) = path.last_mut() {
                let node = *node;
                if *next == 0 {
                    (reached[node], lowest[node]) = (next_reached, next_reached);
                    next_reached += 1;
                    open.push(node);
                }
                if let Some(after) = successors[node].get(*next) {
                    *next += 1;
                    if reached[*after] == UNKNOWN {
                        path.push((*after, 0));
                    } else if found.component[*after] == UNKNOWN {
                        lowest[node] = lowest[node].min(reached[*after]);
                    }
                    continue;
                }
                path.pop();
                if let Some((before, _)) = path.last() {
                    lowest[*before] = lowest[*before].min(lowest[node]);
                }
                if lowest[node] == reached[node] {
                    while let Some(member) = open.pop() {
                        found.component[member] = components;
                        found.order.push(member);
                        if member == node {
                            break;
                        }
                    }
                    components += 1;
                }
            }
        }
        found
    }

    /// Whether each of two nodes leads to the other. A node leads to itself.
    pub(super) fn is_same(&self, one: usize, other: usize) -> bool {
        self.component[one] == self.component[other]
    }

    /// The pairs whose first node leads to the second, in order.
    pub(super) fn leading(&self, mut pairs: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
        let mut leads = Vec::with_capacity(pairs.len());
        // One pass answers as many pairs as a number has bits.
        for chunk in pairs.chunks(64) {
            let mut targets = vec![0_u64; self.successors.len()];
            for (bit, (_, to)) in chunk.iter().enumerate() {
                targets[self.component[*to]] |= 1 << bit;
            }
            // Of each component, the targets that it leads to.
            for node in &self.order {
                let after = self.successors[*node].iter().map(|after| targets[self.component[*after]]);
                targets[self.component[*node]] |= after.fold(0, |all, more| all | more);
            }
            leads.extend(
                chunk.iter().enumerate().map(|(bit, (from, _))| targets[self.component[*from]] & (1 << bit) != 0),
            );
        }
        let mut leads = leads.into_iter();
        pairs.retain(|_| leads.next().unwrap_or_default());
        pairs
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The nodes that a walk from a node reaches, itself included.
    fn reached(successors: &[Vec<usize>], from: usize) -> BTreeSet<usize> {
        let (mut seen, mut work) = (BTreeSet::from([from]), vec![from]);
        while let Some(node) = work.pop() {
            work.extend(successors[node].iter().filter(|after| seen.insert(**after)));
        }
        seen
    }

    proptest! {
        #[test]
        fn every_pair_is_answered_as_by_a_walk(edges in prop::collection::vec((0..12_usize, 0..12_usize), 0..30)) {
            let mut successors = vec![Vec::new(); 12];
            edges.iter().for_each(|(from, to)| successors[*from].push(*to));
            let components = Components::of(&successors);
            let pairs: Vec<(usize, usize)> = (0..12).flat_map(|from| (0..12).map(move |to| (from, to))).collect();
            let leads = |from: usize, to: usize| reached(&successors, from).contains(&to);
            let expected: Vec<_> = pairs.iter().copied().filter(|(from, to)| leads(*from, *to)).collect();
            for (from, to) in &pairs {
                prop_assert_eq!(components.is_same(*from, *to), leads(*from, *to) && leads(*to, *from));
            }
            prop_assert_eq!(components.leading(pairs), expected);
        }
    }
}
