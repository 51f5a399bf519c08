//! Values with several providers in one graph flow: selects the provider of each requirement.
//!
//! The right provider is the last of those that surely precede the consumer; and the consumer follows all of them except
//! those that follow itself. So the choice depends on the order, and the order on the choice. It is found iteratively: first
//! requirements with only one possible provider, then those whose providers form a chain. A remaining ambiguity is a
//! diagnostic of the flow.

use std::collections::BTreeMap;

use super::graph::{Graph, Reachability, Reason, Visits};
use crate::ValueName;

/// The maximum number of values that a diagnostic names.
const MAX_NAMED: usize = 3;

/// One value with several providers.
pub(super) struct ProviderConflict {
    value: ValueName,
    pub(super) providers: Vec<usize>,
    /// The providers that are tasks. They must form a chain, even where no node requires the value.
    pub(super) direct: Vec<usize>,
    /// The requirements of the value: the index among the flow's requirements, and the member of each.
    pub(super) requirements: Vec<(usize, usize)>,
}

/// The provider choice of a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// Of this member.
    Of(usize),
    /// No preceding member provides it; the enclosing flow must.
    Outward,
    /// None; another diagnostic reports the problem.
    Reported,
}

/// Two providers of a value without an order between them.
pub(super) struct Ambiguity {
    pub(super) value: ValueName,
    pub(super) pair: (usize, usize),
    /// The requirement that it affects; `None` where it is an error by itself.
    pub(super) requirement: Option<usize>,
}

/// The providers that a member may use: those that do not follow it.
struct VisibleProviders {
    at: usize,
    member: usize,
    count: usize,
    last: Option<usize>,
}

impl ProviderConflict {
    pub(super) fn new(value: &ValueName, providers: impl Iterator<Item = (usize, bool)>) -> Self {
        let mut conflict =
            Self { value: value.clone(), providers: Vec::new(), direct: Vec::new(), requirements: Vec::new() };
        for (member, is_direct) in providers {
            conflict.providers.push(member);
            if is_direct {
                conflict.direct.push(member);
            }
        }
        conflict
    }

    pub(super) fn sort(&mut self, reachability: &Reachability<'_>) {
        reachability.sort(&mut self.providers);
        reachability.sort(&mut self.direct);
    }

    /// The providers that each requirement may use, whatever their order. Counting stops at `most` providers.
    fn visible_providers(&self, reachability: &mut Reachability<'_>, max: usize) -> Vec<VisibleProviders> {
        let new_visible =
            |(at, member): &(usize, usize)| VisibleProviders { at: *at, member: *member, count: 0, last: None };
        let mut visible_providers: Vec<VisibleProviders> = self.requirements.iter().map(new_visible).collect();
        for chunk in self.providers.chunks(64) {
            let mut active = visible_providers.iter_mut().filter(|visible| visible.count <= max).peekable();
            if active.peek().is_none() {
                break;
            }
            let followers = reachability.followers(chunk);
            let own_bits: BTreeMap<usize, u64> =
                chunk.iter().enumerate().map(|(bit, member)| (*member, 1 << bit)).collect();
            let all = u64::MAX >> (64 - chunk.len());
            for visible in active {
                let bits = |by_member: &BTreeMap<usize, u64>| by_member.get(&visible.member).copied().unwrap_or(0);
                let usable = all & !bits(&followers) & !bits(&own_bits);
                visible.count += usable.count_ones() as usize;
                visible.last = usable.checked_ilog2().map(|last| chunk[last as usize]).or(visible.last);
            }
        }
        visible_providers
    }
}

/// Resolves the provider conflicts of a flow: stores the choices and adds the resulting edges to the graph. Returns the
/// ambiguities. Choices in a cyclic flow stay [`Choice::Reported`]: the cycle is reported. So do those that are left once no visit is
/// left: each round looks at all conflicts that are left, and may resolve only one of them.
pub(super) fn resolve_conflicts(
    graph: &mut Graph,
    mut conflicts: Vec<ProviderConflict>,
    choices: &mut [Choice],
    visits: &Visits,
) -> Vec<Ambiguity> {
    let mut ambiguities = Vec::new();
    for (at, _) in conflicts.iter().flat_map(|conflict| &conflict.requirements) {
        choices[*at] = Choice::Reported;
    }
    while !conflicts.is_empty() {
        let values: Vec<ValueName> = conflicts.iter().take(MAX_NAMED).map(|conflict| conflict.value.clone()).collect();
        let Some(mut reachability) = Reachability::of(graph, visits) else { break };
        conflicts.iter_mut().for_each(|conflict| conflict.sort(&reachability));
        let (chains, mut branching): (Vec<_>, Vec<_>) =
            conflicts.into_iter().partition(|conflict| reachability.is_chain(&conflict.providers));
        let mut selections: Vec<Selection> =
            branching.iter_mut().flat_map(|conflict| select_forced(&mut reachability, conflict)).collect();
        conflicts = if !selections.is_empty() {
            branching.extend(chains);
            branching
        } else if !chains.is_empty() {
            selections.extend(chains.iter().flat_map(|chain| select_from_chain(&mut reachability, chain)));
            branching
        } else {
            let (gaps, resolvable): (Vec<_>, Vec<_>) = branching
                .into_iter()
                .map(|conflict| (reachability.first_gap(&conflict.direct), conflict))
                .partition(|(gap, _)| gap.is_some());
            for (_, conflict) in &resolvable {
                selections.extend(select_each(&mut reachability, conflict, &mut ambiguities));
            }
            // Each resolved requirement may order other members.
            if resolvable.is_empty() {
                let ambiguity = |(pair, conflict): (Option<_>, ProviderConflict)| {
                    Some(Ambiguity { value: conflict.value, pair: pair?, requirement: None })
                };
                ambiguities.extend(gaps.into_iter().filter_map(ambiguity));
                Vec::new()
            } else {
                gaps.into_iter().map(|(_, conflict)| conflict).collect()
            }
        };
        if visits.are_spent_by(&values) {
            // What this round has found may be wrong.
            return Vec::new();
        }
        for selection in selections {
            choices[selection.at] = selection.provider.map_or(Choice::Outward, Choice::Of);
            if let Some(provider) = selection.provider {
                graph.add(provider, selection.member, Reason::Value(selection.value));
            }
        }
    }
    ambiguities
}

/// Resolves the provider conflicts of a flow in which only links give order. Returns the ambiguities.
pub(super) fn resolve_unordered(
    graph: &Graph,
    conflicts: Vec<ProviderConflict>,
    choices: &mut [Choice],
    visits: &Visits,
) -> Vec<Ambiguity> {
    for (at, _) in conflicts.iter().flat_map(|conflict| &conflict.requirements) {
        choices[*at] = Choice::Reported;
    }
    let mut ambiguities = Vec::new();
    // The cycle itself is reported.
    let Some(mut reachability) = Reachability::of(graph, visits) else { return ambiguities };
    for mut conflict in conflicts {
        conflict.sort(&reachability);
        if let Some(pair) = reachability.first_gap(&conflict.direct) {
            if visits.are_spent_by([&conflict.value]) {
                return Vec::new();
            }
            ambiguities.push(Ambiguity { value: conflict.value, pair, requirement: None });
            continue;
        }
        let selections = if reachability.is_chain(&conflict.providers) {
            last_before(&mut reachability, &conflict)
        } else {
            clear_before(&mut reachability, &conflict, &mut ambiguities)
        };
        if visits.are_spent_by([&conflict.value]) {
            return Vec::new();
        }
        for selection in selections {
            choices[selection.at] = selection.provider.map_or(Choice::Outward, Choice::Of);
        }
    }
    ambiguities
}

/// A requirement and its provider, if any.
struct Selection {
    at: usize,
    member: usize,
    provider: Option<usize>,
    value: ValueName,
}

/// Removes the requirements with at most one possible provider from a conflict.
fn select_forced(reachability: &mut Reachability<'_>, conflict: &mut ProviderConflict) -> Vec<Selection> {
    let (forced, remaining): (Vec<VisibleProviders>, Vec<VisibleProviders>) =
        conflict.visible_providers(reachability, 1).into_iter().partition(|visible| visible.count <= 1);
    conflict.requirements = remaining.into_iter().map(|visible| (visible.at, visible.member)).collect();
    let select = |visible: VisibleProviders| Selection {
        at: visible.at,
        member: visible.member,
        provider: visible.last,
        value: conflict.value.clone(),
    };
    forced.into_iter().map(select).collect()
}

/// In a chain, the providers after a member form its end: the member uses the last one before them.
fn select_from_chain(reachability: &mut Reachability<'_>, conflict: &ProviderConflict) -> Vec<Selection> {
    let earliest =
        conflict.requirements.iter().map(|(_, member)| reachability.position[*member]).min().unwrap_or(usize::MAX);
    let first_after = reachability.first_of_chain(&conflict.providers, earliest);
    let indices: BTreeMap<usize, usize> =
        conflict.providers.iter().enumerate().map(|(index, provider)| (*provider, index)).collect();
    let select = |(at, member): &(usize, usize)| {
        let end = indices.get(member).or_else(|| first_after.get(member)).copied().unwrap_or(conflict.providers.len());
        let provider = end.checked_sub(1).map(|last| conflict.providers[last]);
        Selection { at: *at, member: *member, provider, value: conflict.value.clone() }
    };
    conflict.requirements.iter().map(select).collect()
}

/// Without a chain, each requirement needs a possible provider that follows all its other possible providers.
fn select_each(
    reachability: &mut Reachability<'_>,
    conflict: &ProviderConflict,
    ambiguities: &mut Vec<Ambiguity>,
) -> Vec<Selection> {
    let mut before_last: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut selections = Vec::new();
    for VisibleProviders { at, member, count, last } in conflict.visible_providers(reachability, usize::MAX) {
        let predecessors = last.map(|last| {
            (last, before_last.entry(last).or_insert_with(|| reachability.before(last, &conflict.providers)).as_slice())
        });
        match predecessors {
            // A predecessor of the last provider cannot follow this member: so counting them is enough.
            Some((last, predecessors)) if predecessors.len() + 1 < count => {
                let other =
                    |provider: &&usize| **provider != last && **provider != member && !predecessors.contains(*provider);
                let other = conflict.providers.iter().find(other).copied();
                let pair = (other.unwrap_or(last), last);
                ambiguities.push(Ambiguity { value: conflict.value.clone(), pair, requirement: Some(at) });
            }
            Some(_) | None => selections.push(Selection { at, member, provider: last, value: conflict.value.clone() }),
        }
    }
    selections
}

/// In a chain, a member uses the last provider before it.
fn last_before(reachability: &mut Reachability<'_>, conflict: &ProviderConflict) -> Vec<Selection> {
    let latest = conflict.requirements.iter().map(|(_, member)| reachability.position[*member]).max().unwrap_or(0);
    let last = reachability.last_of_chain(&conflict.providers, latest);
    let select = |(at, member): &(usize, usize)| {
        let provider = last.get(member).map(|index| conflict.providers[*index]);
        Selection { at: *at, member: *member, provider, value: conflict.value.clone() }
    };
    conflict.requirements.iter().map(select).collect()
}

/// Without a chain, one provider before a member must follow all other providers before it.
fn clear_before(
    reachability: &mut Reachability<'_>,
    conflict: &ProviderConflict,
    ambiguities: &mut Vec<Ambiguity>,
) -> Vec<Selection> {
    let mut selections = Vec::new();
    for (at, member) in conflict.requirements.iter().copied() {
        let predecessors = reachability.before(member, &conflict.providers);
        let last = predecessors.last().copied();
        match last.and_then(|last| Some((gap_before(reachability, last, &predecessors)?, last))) {
            Some(pair) => ambiguities.push(Ambiguity { value: conflict.value.clone(), pair, requirement: Some(at) }),
            None => selections.push(Selection { at, member, provider: last, value: conflict.value.clone() }),
        }
    }
    selections
}

/// A member of a sorted list that does not surely precede the last one.
pub(super) fn gap_before(reachability: &mut Reachability<'_>, last: usize, sorted: &[usize]) -> Option<usize> {
    if reachability.is_chain(sorted) {
        return None;
    }
    let predecessors = reachability.before(last, sorted);
    sorted.iter().copied().find(|member| *member != last && !predecessors.contains(member))
}
