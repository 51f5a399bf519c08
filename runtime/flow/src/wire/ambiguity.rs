//! Values with several providers in one graph flow: selects the provider of each requirement.
//!
//! The right provider is the last of those that surely precede the consumer; and the consumer follows all of them except
//! those that follow itself. So the choice depends on the order, and the order on the choice. It is found iteratively: first
//! requirements with only one possible provider, then those whose providers form a chain. A remaining ambiguity is a
//! diagnostic of the flow.

use std::collections::BTreeMap;

use super::graph::{Graph, Reachability, Reason};
use crate::ValueName;

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
    pub(super) fn new(value: &ValueName, offers: impl Iterator<Item = (usize, bool)>) -> Self {
        let mut contest =
            Self { value: value.clone(), providers: Vec::new(), direct: Vec::new(), requirements: Vec::new() };
        for (member, is_direct) in offers {
            contest.providers.push(member);
            if is_direct {
                contest.direct.push(member);
            }
        }
        contest
    }

    pub(super) fn sort(&mut self, reach: &Reachability<'_>) {
        reach.sort(&mut self.providers);
        reach.sort(&mut self.direct);
    }

    /// The providers that each requirement may use, whatever their order. Counting stops at `most` providers.
    fn views(&self, reach: &mut Reachability<'_>, most: usize) -> Vec<VisibleProviders> {
        let view = |(at, member): &(usize, usize)| VisibleProviders { at: *at, member: *member, count: 0, last: None };
        let mut views: Vec<VisibleProviders> = self.requirements.iter().map(view).collect();
        for some in self.providers.chunks(64) {
            let mut active = views.iter_mut().filter(|view| view.count <= most).peekable();
            if active.peek().is_none() {
                break;
            }
            let followers = reach.followers(some);
            let own: BTreeMap<usize, u64> =
                some.iter().enumerate().map(|(place, member)| (*member, 1 << place)).collect();
            let all = u64::MAX >> (64 - some.len());
            for view in active {
                let bits = |of: &BTreeMap<usize, u64>| of.get(&view.member).copied().unwrap_or(0);
                let open = all & !bits(&followers) & !bits(&own);
                view.count += open.count_ones() as usize;
                view.last = open.checked_ilog2().map(|last| some[last as usize]).or(view.last);
            }
        }
        views
    }
}

/// Resolves the provider conflicts of a flow: stores the choices and adds the resulting edges to the graph. Returns the
/// ambiguities. Choices in a cyclic flow stay [`Choice::Reported`]: the cycle is reported.
pub(super) fn resolve_conflicts(
    graph: &mut Graph,
    mut contests: Vec<ProviderConflict>,
    choices: &mut [Choice],
) -> Vec<Ambiguity> {
    let mut ambiguities = Vec::new();
    for (at, _) in contests.iter().flat_map(|contest| &contest.requirements) {
        choices[*at] = Choice::Reported;
    }
    while !contests.is_empty() {
        let Some(mut reach) = Reachability::of(graph) else { break };
        contests.iter_mut().for_each(|contest| contest.sort(&reach));
        let (chains, mut tangles): (Vec<_>, Vec<_>) =
            contests.into_iter().partition(|contest| reach.is_chain(&contest.providers));
        let mut picks: Vec<Selection> =
            tangles.iter_mut().flat_map(|tangle| select_forced(&mut reach, tangle)).collect();
        contests = if !picks.is_empty() {
            tangles.extend(chains);
            tangles
        } else if !chains.is_empty() {
            picks.extend(chains.iter().flat_map(|chain| select_from_chain(&mut reach, chain)));
            tangles
        } else {
            let (gaps, clear): (Vec<_>, Vec<_>) = tangles
                .into_iter()
                .map(|tangle| (reach.first_gap(&tangle.direct), tangle))
                .partition(|(gap, _)| gap.is_some());
            for (_, tangle) in &clear {
                picks.extend(select_each(&mut reach, tangle, &mut ambiguities));
            }
            // Each resolved requirement may order other members.
            if clear.is_empty() {
                let told = |(pair, tangle): (Option<_>, ProviderConflict)| {
                    Some(Ambiguity { value: tangle.value, pair: pair?, requirement: None })
                };
                ambiguities.extend(gaps.into_iter().filter_map(told));
                Vec::new()
            } else {
                gaps.into_iter().map(|(_, tangle)| tangle).collect()
            }
        };
        for pick in picks {
            choices[pick.at] = pick.provider.map_or(Choice::Outward, Choice::Of);
            if let Some(provider) = pick.provider {
                graph.add(provider, pick.member, Reason::Value(pick.value));
            }
        }
    }
    ambiguities
}

/// Resolves the provider conflicts of a flow in which only links give order. Returns the ambiguities.
pub(super) fn resolve_unordered(
    graph: &Graph,
    contests: Vec<ProviderConflict>,
    choices: &mut [Choice],
) -> Vec<Ambiguity> {
    for (at, _) in contests.iter().flat_map(|contest| &contest.requirements) {
        choices[*at] = Choice::Reported;
    }
    let mut ambiguities = Vec::new();
    // The cycle itself is reported.
    let Some(mut reach) = Reachability::of(graph) else { return ambiguities };
    for mut contest in contests {
        contest.sort(&reach);
        if let Some(pair) = reach.first_gap(&contest.direct) {
            ambiguities.push(Ambiguity { value: contest.value, pair, requirement: None });
            continue;
        }
        let picks = if reach.is_chain(&contest.providers) {
            last_before(&mut reach, &contest)
        } else {
            clear_before(&mut reach, &contest, &mut ambiguities)
        };
        for pick in picks {
            choices[pick.at] = pick.provider.map_or(Choice::Outward, Choice::Of);
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
fn select_forced(reach: &mut Reachability<'_>, contest: &mut ProviderConflict) -> Vec<Selection> {
    let (clear, open): (Vec<VisibleProviders>, Vec<VisibleProviders>) =
        contest.views(reach, 1).into_iter().partition(|view| view.count <= 1);
    contest.requirements = open.into_iter().map(|view| (view.at, view.member)).collect();
    let pick = |view: VisibleProviders| Selection {
        at: view.at,
        member: view.member,
        provider: view.last,
        value: contest.value.clone(),
    };
    clear.into_iter().map(pick).collect()
}

/// In a chain, the providers after a member form its end: the member uses the last one before them.
fn select_from_chain(reach: &mut Reachability<'_>, contest: &ProviderConflict) -> Vec<Selection> {
    let earliest = contest.requirements.iter().map(|(_, member)| reach.position[*member]).min().unwrap_or(usize::MAX);
    let first_after = reach.first_of_chain(&contest.providers, earliest);
    let own: BTreeMap<usize, usize> =
        contest.providers.iter().enumerate().map(|(place, provider)| (*provider, place)).collect();
    let pick = |(at, member): &(usize, usize)| {
        let end = own.get(member).or_else(|| first_after.get(member)).copied().unwrap_or(contest.providers.len());
        let provider = end.checked_sub(1).map(|last| contest.providers[last]);
        Selection { at: *at, member: *member, provider, value: contest.value.clone() }
    };
    contest.requirements.iter().map(pick).collect()
}

/// Without a chain, each requirement needs a possible provider that follows all its other possible providers.
fn select_each(
    reach: &mut Reachability<'_>,
    contest: &ProviderConflict,
    ambiguities: &mut Vec<Ambiguity>,
) -> Vec<Selection> {
    let mut before_last: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut picks = Vec::new();
    for VisibleProviders { at, member, count, last } in contest.views(reach, usize::MAX) {
        let before = last.map(|last| {
            (last, before_last.entry(last).or_insert_with(|| reach.before(last, &contest.providers)).as_slice())
        });
        match before {
            // A predecessor of the last provider cannot follow this member: so counting them is enough.
            Some((last, before)) if before.len() + 1 < count => {
                let other =
                    |provider: &&usize| **provider != last && **provider != member && !before.contains(*provider);
                let other = contest.providers.iter().find(other).copied();
                let pair = (other.unwrap_or(last), last);
                ambiguities.push(Ambiguity { value: contest.value.clone(), pair, requirement: Some(at) });
            }
            Some(_) | None => picks.push(Selection { at, member, provider: last, value: contest.value.clone() }),
        }
    }
    picks
}

/// In a chain, a member uses the last provider before it.
fn last_before(reach: &mut Reachability<'_>, contest: &ProviderConflict) -> Vec<Selection> {
    let latest = contest.requirements.iter().map(|(_, member)| reach.position[*member]).max().unwrap_or(0);
    let last = reach.last_of_chain(&contest.providers, latest);
    let pick = |(at, member): &(usize, usize)| {
        let provider = last.get(member).map(|place| contest.providers[*place]);
        Selection { at: *at, member: *member, provider, value: contest.value.clone() }
    };
    contest.requirements.iter().map(pick).collect()
}

/// Without a chain, one provider before a member must follow all other providers before it.
fn clear_before(
    reach: &mut Reachability<'_>,
    contest: &ProviderConflict,
    ambiguities: &mut Vec<Ambiguity>,
) -> Vec<Selection> {
    let mut picks = Vec::new();
    for (at, member) in contest.requirements.iter().copied() {
        let before = reach.before(member, &contest.providers);
        let last = before.last().copied();
        match last.and_then(|last| Some((gap_before(reach, last, &before)?, last))) {
            Some(pair) => ambiguities.push(Ambiguity { value: contest.value.clone(), pair, requirement: Some(at) }),
            None => picks.push(Selection { at, member, provider: last, value: contest.value.clone() }),
        }
    }
    picks
}

/// A member of a sorted list that does not surely precede the last one.
pub(super) fn gap_before(reach: &mut Reachability<'_>, last: usize, sorted: &[usize]) -> Option<usize> {
    if reach.is_chain(sorted) {
        return None;
    }
    let before = reach.before(last, sorted);
    sorted.iter().copied().find(|member| *member != last && !before.contains(member))
}
