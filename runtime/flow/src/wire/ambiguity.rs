//! Values that several members of one graph flow provide: whom each of those that want one takes it from.
//!
//! The right one is the last of those that surely come before whoever wants it; and whoever wants it comes after
//! all of them but those that come after itself. So the choice depends on the order, and the order on the choice.
//! It is found in rounds: first what only one provider is left for, then what is clear because the providers
//! stand in a chain. What is not clear then is a mistake of the flow.

use std::collections::BTreeMap;

use super::graph::{Graph, Reachability, Reason};
use crate::ValueName;

/// One value with several providers.
pub(super) struct ProviderConflict {
    value: ValueName,
    pub(super) providers: Vec<usize>,
    /// The providers that are tasks. They must stand in a chain, even where nobody wants the value.
    pub(super) direct: Vec<usize>,
    /// Who wants the value: which of the wants of the flow, and the member it is of.
    pub(super) requirements: Vec<(usize, usize)>,
}

/// Where a want gets its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// Of this member.
    Of(usize),
    /// No member that comes before provides it.
    Outward,
    /// Nowhere, and that is told as another mistake.
    Reported,
}

/// Two providers of a value of which neither comes before the other.
pub(super) struct Ambiguity {
    pub(super) value: ValueName,
    pub(super) pair: (usize, usize),
    /// The want that it matters to; `None` where it matters by itself.
    pub(super) requirement: Option<usize>,
}

/// What a member may take: the providers that do not come after it.
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

    /// What each want may take, whatever the order of the providers among themselves. Of a want that may take more
    /// than `most` no more is counted.
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

/// Decides the contests of a flow: puts the choices in their places and the edges that follow into the graph.
/// Returns what is not clear. The choices of a flow that goes round in a circle are left as told: the circle is.
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
            // Where something became clear, it may put others in order.
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

/// Decides the contests of a flow in which only links give order. Returns what is not clear.
pub(super) fn resolve_unordered(
    graph: &Graph,
    contests: Vec<ProviderConflict>,
    choices: &mut [Choice],
) -> Vec<Ambiguity> {
    for (at, _) in contests.iter().flat_map(|contest| &contest.requirements) {
        choices[*at] = Choice::Reported;
    }
    let mut ambiguities = Vec::new();
    // A circle is told as what it is.
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

/// A want and whom it takes its value from, if anyone.
struct Selection {
    at: usize,
    member: usize,
    provider: Option<usize>,
    value: ValueName,
}

/// Takes the wants out of a contest that at most one provider is left for.
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

/// In a chain, those that come after a member are the end of it: it takes what stands before them.
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

/// Where the providers are no chain, each want must see one that comes after all others it may take.
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
            // What comes before the last cannot come after this member: so to count them is enough.
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

/// In a chain, a member takes what the last of those that come before it provides.
fn last_before(reach: &mut Reachability<'_>, contest: &ProviderConflict) -> Vec<Selection> {
    let latest = contest.requirements.iter().map(|(_, member)| reach.position[*member]).max().unwrap_or(0);
    let last = reach.last_of_chain(&contest.providers, latest);
    let pick = |(at, member): &(usize, usize)| {
        let provider = last.get(member).map(|place| contest.providers[*place]);
        Selection { at: *at, member: *member, provider, value: contest.value.clone() }
    };
    contest.requirements.iter().map(pick).collect()
}

/// Where the providers are no chain, one of those before a member must come after all the others before it.
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

/// One of some sorted members that does not surely come before the last of them.
pub(super) fn gap_before(reach: &mut Reachability<'_>, last: usize, sorted: &[usize]) -> Option<usize> {
    if reach.is_chain(sorted) {
        return None;
    }
    let before = reach.before(last, sorted);
    sorted.iter().copied().find(|member| *member != last && !before.contains(member))
}
