//! Flows that fire more than once: finds the links that trigger another firing instead of ordering one, the loop-carried
//! values, and the nodes that wait for a notification.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    components::Components, layout::Layout, links::LinkContext, scope_resolver::ScopeResolver, task::Requirement,
};
use crate::{
    Diagnostic, Draft, Flow, Join, NodeIndex, NodeName, SourceOutcome, ValueName,
    draft::{DraftLink, DraftTriggers},
    graph::{BackEdge, BackEdgeTiming, Link, Listener, Role, Schedule, ScopeIndex, Triggers},
};

/// The default maximum of parallel firings.
const DEFAULT_PARALLEL_FIRINGS: u32 = 100;

/// The maximum number of pairs of nodes in a cyclic flow of which one provides a value that the other requires: each may be a
/// loop-carried value.
const MAX_VALUE_EDGES: usize = 100_000;

/// The cycles of the whole flow.
#[derive(Default)]
pub(super) struct Cycles {
    /// The indices of the links that trigger another firing, with their timing.
    pub(super) back_edges: BTreeMap<usize, BackEdgeTiming>,
    /// Members that provide a value to a preceding member: it arrives there in the next firing.
    pub(super) loop_carried: BTreeSet<(usize, usize)>,
}

/// Finds the cycles. A link or value that leads back, to a member no later in the file, triggers another firing if a path
/// leads from its target to its source.
pub(super) fn find_cycles(
    resolver: &ScopeResolver<'_, '_>,
    draft: &Draft,
    requirements: &[(usize, Requirement)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Cycles {
    let mut cycles = Cycles::default();
    let flow = resolver.layout.flow(resolver.scope);
    let member = |name: &NodeName| {
        resolver
            .layout
            .position(name)
            .filter(|position| position.scope == resolver.scope)
            .map(|position| position.member)
    };
    let links: Vec<(usize, usize, usize)> = flow
        .body
        .links
        .iter()
        .enumerate()
        .filter_map(|(index, link)| Some((index, member(&link.from)?, member(&link.to)?)))
        .collect();
    let has_triggers = draft.triggers.persistent || draft.triggers.cyclic;
    for (index, ..) in &links {
        let link = &flow.body.links[*index];
        if link.join == Join::Any && has_triggers {
            cycles.back_edges.insert(*index, BackEdgeTiming::Success);
        } else if link.join == Join::Any {
            let message = format!("the link {:?} -> {:?} joins any, in a flow that fires once", link.from, link.to);
            let hint =
                "each notification fires the target anew: set cyclic = true or persistent = true, or leave join out";
            diagnostics.push(Diagnostic::error(link.spans.join.clone(), message).hint(hint));
        }
    }
    if !draft.triggers.cyclic {
        return cycles;
    }
    let ordering: Vec<(usize, usize, usize)> =
        links.iter().copied().filter(|(index, ..)| !cycles.back_edges.contains_key(index)).collect();
    let mut successors = vec![Vec::new(); flow.members.len()];
    ordering.iter().for_each(|(_, from, to)| successors[*from].push(*to));
    let linked: BTreeSet<(usize, usize)> = links.iter().map(|(_, from, to)| (*from, *to)).collect();
    let value_edges = value_edges(resolver, requirements, diagnostics);
    // An explicit link replaces the value order for its pair.
    let (ordered, replaced): (Vec<_>, Vec<_>) = value_edges
        .into_iter()
        .partition(|(provider, consumer)| provider == consumer || !linked.contains(&(*consumer, *provider)));
    ordered.iter().for_each(|(provider, consumer)| successors[*provider].push(*consumer));
    let components = Components::of(&successors);
    // What orders two members leads from the one to the other: if a path leads back, they are in one component.
    let is_back = |from: usize, to: usize| from >= to && components.is_same(from, to);
    for (index, ..) in ordering.iter().filter(|(_, from, to)| is_back(*from, *to)) {
        cycles.back_edges.insert(*index, BackEdgeTiming::End);
    }
    cycles.loop_carried = ordered.into_iter().filter(|(from, to)| is_back(*from, *to)).collect();
    let replaced = replaced.into_iter().filter(|(from, to)| from >= to).map(|(from, to)| (to, from));
    cycles.loop_carried.extend(components.leading(replaced.collect()).into_iter().map(|(to, from)| (from, to)));
    cycles
}

/// The members that provide a value, each with each member that requires the value.
fn value_edges(
    resolver: &ScopeResolver<'_, '_>,
    requirements: &[(usize, Requirement)],
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeSet<(usize, usize)> {
    let providers = resolver.members_by_value();
    let mut edges = BTreeSet::new();
    for (consumer, requirement) in requirements {
        let providers = providers.get(&requirement.value).map_or(&[][..], Vec::as_slice);
        resolver.visits.take(providers.len());
        if resolver.visits.are_spent_by([&requirement.value]) {
            break;
        }
        edges.extend(providers.iter().map(|provider| (*provider, *consumer)));
        if edges.len() > MAX_VALUE_EDGES {
            let message = format!(
                "the flow is cyclic, and more than {MAX_VALUE_EDGES} pairs of nodes provide and require the same value; \
                 one value of them is {:?}",
                requirement.value
            );
            let hint = "give the values of some nodes names of their own";
            diagnostics.push(Diagnostic::error(resolver.layout.span(requirement.node, "requires"), message).hint(hint));
            break;
        }
    }
    edges
}

impl LinkContext<'_, '_> {
    /// The links that trigger another firing.
    pub(super) fn back_edges(
        &self,
        cycles: &Cycles,
        inputs: &mut BTreeSet<ValueName>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<BackEdge> {
        let mut back_edges = Vec::new();
        for (index, timing) in &cycles.back_edges {
            let link = &self.layout.flow(ScopeIndex::ROOT).body.links[*index];
            let Some((from, to)) = super::links::ends(self.layout, ScopeIndex::ROOT, link) else { continue };
            // A removed task neither fires other tasks nor is fired by them.
            if [from, to].iter().any(|end| self.layout.task(end.first).is_some_and(|task| task.retired)) {
                continue;
            }
            check_back_edge(link, diagnostics);
            let reads = link.when.as_ref().map(|when| self.condition_sources(link, when, from, inputs, diagnostics));
            let wired = Link {
                from: from.last,
                on: link.on,
                when: link.when.clone(),
                reads: reads.unwrap_or_default(),
                reach: link.reach.unwrap_or_default(),
            };
            back_edges.push(BackEdge { link: wired, to: to.first, timing: *timing });
        }
        back_edges
    }
}

fn check_back_edge(link: &DraftLink, diagnostics: &mut Vec<Diagnostic>) {
    let ends = format!("the link {:?} -> {:?}", link.from, link.to);
    if link.on != SourceOutcome::Success {
        let message = format!("{ends} is a back edge, and cannot wait for a failure");
        let hint = "a firing that fails is rolled back: add a failure handler inside the firing";
        diagnostics.push(Diagnostic::error(link.spans.on.clone(), message).hint(hint));
    }
    if link.reach.is_some() {
        let message = format!("{ends} is a back edge, so `reach` has no effect");
        diagnostics.push(Diagnostic::error(link.spans.reach.clone(), message).hint("leave reach out"));
    }
}

/// The triggers of a flow that declares some, with the values that its tasks await.
pub(super) fn build_triggers(
    layout: &Layout<'_>,
    draft: &Draft,
    back_edges: Vec<BackEdge>,
    awaiting: &BTreeSet<NodeIndex>,
    flow: Flow,
    diagnostics: &mut Vec<Diagnostic>,
) -> Flow {
    let DraftTriggers { persistent, cyclic, max_firings, max_parallel, .. } = draft.triggers;
    let has_triggers = persistent || cyclic;
    if !has_triggers {
        refuse_trigger_keys(&draft.triggers, diagnostics);
    }
    let mut entries: BTreeSet<NodeIndex> =
        back_edges.iter().filter(|edge| edge.timing == BackEdgeTiming::Success).map(|edge| edge.to).collect();
    let listeners = build_listeners(layout, draft, &flow, &mut entries, diagnostics);
    let schedules = build_schedules(layout, draft, &flow, &mut entries, diagnostics);
    if !has_triggers {
        return Flow { listeners, ..flow };
    }
    let max_parallel = max_parallel.unwrap_or(DEFAULT_PARALLEL_FIRINGS);
    let triggers = Triggers { persistent, max_firings, max_parallel, entries, back_edges, schedules };
    let mut flow = Flow { listeners, triggers: Some(triggers), ..flow };
    let awaiting = entries_awaiting_values(layout, &flow, awaiting, diagnostics);
    flow.triggers.iter_mut().for_each(|triggers| triggers.entries.extend(&awaiting));
    flow
}

/// Refuses the keys that have no meaning in a flow that fires once.
fn refuse_trigger_keys(triggers: &DraftTriggers, diagnostics: &mut Vec<Diagnostic>) {
    let keys = [("max_firings", triggers.max_firings.is_some()), ("max_parallel", triggers.max_parallel.is_some())];
    for (key, _) in keys.into_iter().filter(|(_, is_present)| *is_present) {
        let message = format!("the flow fires once, and sets {key}");
        let hint = "set cyclic = true or persistent = true, or leave it out";
        diagnostics.push(Diagnostic::error(triggers.spans.get(key).cloned(), message).hint(hint));
    }
}

/// The listeners of the flow. A listening task that calls a guest becomes an entry.
fn build_listeners(
    layout: &Layout<'_>,
    draft: &Draft,
    flow: &Flow,
    entries: &mut BTreeSet<NodeIndex>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Listener> {
    let mut listeners = Vec::new();
    for listener in &draft.listeners {
        let Some(to) = target(layout, flow, "a listen", &listener.to, &listener.span, diagnostics) else { continue };
        if !matches!(flow.node(to).role, Role::Wait(_)) {
            if !draft.triggers.persistent {
                let message =
                    format!("task {:?} listens to another flow, and its own flow is not persistent", listener.to);
                let hint = "set persistent = true, or let a task with wait = \"...\" listen";
                diagnostics.push(Diagnostic::error(listener.span.clone(), message).hint(hint));
            }
            entries.insert(to);
        }
        listeners.push(Listener { flow: listener.flow.clone(), task: listener.task.clone(), on: listener.on, to });
    }
    listeners
}

/// Maximum number of `[[schedule]]` in a flow. An engine decides each of them, and a run remembers its next time.
pub(crate) const MAX_SCHEDULES: usize = 256;

/// Reports the first schedule beyond the maximum. A flow file is read up to there.
pub(super) fn check_schedule_count(draft: &Draft, diagnostics: &mut Vec<Diagnostic>) {
    if let Some(schedule) = draft.schedules.get(MAX_SCHEDULES) {
        let message = format!("the flow has more than {MAX_SCHEDULES} [[schedule]]");
        let hint =
            "name several times in one cron line, as in \"0 6,18 * * *\", or divide the schedules among several flows";
        diagnostics.push(Diagnostic::error(schedule.span.clone(), message).hint(hint));
    }
}

/// The schedules of the flow. A scheduled task becomes an entry.
fn build_schedules(
    layout: &Layout<'_>,
    draft: &Draft,
    flow: &Flow,
    entries: &mut BTreeSet<NodeIndex>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Schedule> {
    let mut schedules = Vec::new();
    for schedule in &draft.schedules {
        let Some(to) = target(layout, flow, "a schedule", &schedule.to, &schedule.span, diagnostics) else { continue };
        if !draft.triggers.persistent || matches!(flow.node(to).role, Role::Wait(_)) {
            let message = format!("a schedule fires {:?}, which is not a call in a persistent flow", schedule.to);
            let hint = "set persistent = true, and let the schedule fire a task that calls a guest";
            diagnostics.push(Diagnostic::error(schedule.span.clone(), message).hint(hint));
        }
        entries.insert(to);
        schedules.push(Schedule {
            cron: schedule.cron.clone(),
            to,
            overlap: schedule.overlap,
            missed: schedule.missed,
        });
    }
    schedules
}

/// The tasks of the first firing that become entries, since only a notification can contain a value that they require.
fn entries_awaiting_values(
    layout: &Layout<'_>,
    flow: &Flow,
    awaiting: &BTreeSet<NodeIndex>,
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeSet<NodeIndex> {
    let first_firing = flow.nodes_of_firing(None).unwrap_or_default();
    let awaiting: Vec<NodeIndex> = awaiting.intersection(&first_firing).copied().collect();
    let after_another = flow.reachable_from(awaiting.iter().flat_map(|index| &flow.node(*index).after).copied());
    let mut entries = BTreeSet::new();
    for index in awaiting.iter().filter(|index| !after_another.contains(index)) {
        if flow.node(*index).scope != ScopeIndex::ROOT {
            let message = format!(
                "task {:?} is in a nested flow, and requires a value that only a notification provides",
                flow.node(*index).name
            );
            let hint = "let a task of the flow itself be notified, or give the value under [inputs]";
            diagnostics.push(Diagnostic::error(layout.span(*index, "name"), message).hint(hint));
        }
        entries.insert(*index);
    }
    entries
}

/// The task of this flow that a trigger fires.
fn target(
    layout: &Layout<'_>,
    flow: &Flow,
    trigger: &str,
    name: &NodeName,
    span: &crate::draft::Span,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<NodeIndex> {
    let position = layout.position(name);
    let member = position.map(|position| &layout.flow(position.scope).members[position.member]);
    let problem = match (position, member) {
        (None, _) | (_, None) => "which the flow does not have",
        (Some(position), _) if position.scope != ScopeIndex::ROOT => "which is in a nested flow",
        (_, Some(member)) if member.nested.is_some() => "which is a nested flow",
        (Some(_), Some(member)) => {
            let is_task = matches!(flow.node(member.first).role, Role::Task(_) | Role::Wait(_) | Role::ForEach(_));
            return is_task.then_some(member.first);
        }
    };
    let hint = "it fires a task of the flow itself: write its name";
    diagnostics.push(Diagnostic::error(span.clone(), format!("{trigger} names {name:?}, {problem}")).hint(hint));
    None
}
