//! Finds the providers of values among the members of one flow, and the resulting order.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ambiguity::{self, Ambiguity, Choice, ProviderConflict},
    graph::{Graph, Reachability, Reason},
    layout::Layout,
    node_source,
    task::{Requirement, ResolvedTask},
};
use crate::{Diagnostic, NodeIndex, Pattern, ScopeIndex, Source, ValueName};

/// One flow, with the data about the flows around it.
pub(super) struct ScopeResolver<'a, 'd> {
    pub(super) layout: &'a Layout<'d>,
    pub(super) scope: ScopeIndex,
    pub(super) tasks: &'a BTreeMap<NodeIndex, ResolvedTask>,
    /// The outputs of its nested flows.
    pub(super) exports: &'a BTreeMap<ScopeIndex, ScopeOutputs>,
    /// The providers of each value in the whole flow, in the order of the arena.
    pub(super) all_providers: &'a BTreeMap<ValueName, Vec<NodeIndex>>,
    /// Members that provide a value to a preceding member, which receives it in the next firing.
    pub(super) carried: &'a BTreeSet<(usize, usize)>,
}

/// The values that a flow leaves to the nodes after it.
pub(super) type ScopeOutputs = BTreeMap<ValueName, ScopeOutput>;

/// The final provider of a value in a flow.
#[derive(Clone, Copy)]
pub(super) struct ScopeOutput {
    pub(super) node: NodeIndex,
    /// Another provider of the value without an order between the two: the value is ambiguous for consumers outside.
    pub(super) conflicting: Option<NodeIndex>,
}

/// A value and the member of a flow that provides it.
struct Provider {
    member: usize,
    export: ScopeOutput,
    /// Whether the member is a task, rather than a flow that contains the providing task.
    is_direct: bool,
}

/// The source of an input.
pub(super) struct ResolvedInput {
    pub(super) node: NodeIndex,
    pub(super) input: usize,
    pub(super) source: Source,
}

/// The resolved requirements of one flow.
pub(super) struct ResolvedScope {
    /// The graph, with the edges that follow from the values.
    pub(super) graph: Graph,
    pub(super) inputs: Vec<ResolvedInput>,
    /// The requirements that the enclosing flow must resolve.
    pub(super) unresolved: Vec<Requirement>,
    pub(super) exports: ScopeOutputs,
}

/// Finds the providers of the values that the members of a flow require.
pub(super) fn resolve(
    home: &ScopeResolver<'_, '_>,
    mut graph: Graph,
    wants: Vec<(usize, Requirement)>,
    diagnostics: &mut Vec<Diagnostic>,
) -> ResolvedScope {
    let offers = home.providers();
    let choices = match home.layout.flow(home.scope).body.pattern {
        Pattern::Linear => resolve_linear(&offers, &wants),
        Pattern::Unordered => resolve_unordered(home, &graph, &offers, &wants, diagnostics),
        Pattern::Graph => resolve_graph(home, &mut graph, &offers, &wants, diagnostics),
    };
    let (mut answers, mut outward) = (Vec::new(), Vec::new());
    for ((member, mut want), choice) in wants.into_iter().zip(choices) {
        let came_round = offers.get(&want.value).into_iter().flatten();
        let came_round = came_round.filter(|offer| home.carried.contains(&(offer.member, member)));
        want.loop_carried.extend(came_round.map(|offer| offer.export.node));
        let source = match choice {
            Choice::Reported => continue,
            Choice::Of(provider) => {
                let export = output_of(&offers[&want.value], provider);
                home.report_conflict(&want, export, diagnostics);
                node_source(export.node, &want.value)
            }
            Choice::Outward if home.layout.controller_value(home.scope) == Some(&want.value) => {
                node_source(home.layout.flow(home.scope).begin, &want.value)
            }
            Choice::Outward => {
                let turned = offers.get(&want.value).and_then(|offers| home.reversed_provider(&graph, member, offers));
                want.reversed_provider = want.reversed_provider.or(turned);
                outward.push(want);
                continue;
            }
        };
        answers.push(ResolvedInput { node: want.node, input: want.input, source: want.or_loop_carried(source) });
    }
    let exports = home.outputs(&graph, &offers);
    ResolvedScope { graph, inputs: answers, unresolved: outward, exports }
}

type Providers = BTreeMap<ValueName, Vec<Provider>>;

fn output_of(offers: &[Provider], member: usize) -> ScopeOutput {
    let place = offers.partition_point(|offer| offer.member < member);
    offers[place].export
}

/// The nearest preceding provider, by the order of the file.
fn resolve_linear(offers: &Providers, wants: &[(usize, Requirement)]) -> Vec<Choice> {
    let choose = |(member, want): &(usize, Requirement)| {
        let offers = offers.get(&want.value)?;
        let before = offers.partition_point(|offer| offer.member < *member);
        before.checked_sub(1).map(|last| Choice::Of(offers[last].member))
    };
    wants.iter().map(|want| choose(want).unwrap_or(Choice::Outward)).collect()
}

/// The nearest preceding provider, where only links give order.
fn resolve_unordered(
    home: &ScopeResolver<'_, '_>,
    graph: &Graph,
    offers: &Providers,
    wants: &[(usize, Requirement)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Choice> {
    let mut choices = vec![Choice::Outward; wants.len()];
    let mut contests: BTreeMap<&ValueName, ProviderConflict> =
        offers.iter().map(|(value, offers)| (value, contest(value, offers))).collect();
    for (at, (member, want)) in wants.iter().enumerate() {
        contests.entry(&want.value).and_modify(|contest| contest.requirements.push((at, *member)));
    }
    let ambiguities = ambiguity::resolve_unordered(graph, contests.into_values().collect(), &mut choices);
    home.report_ambiguities(ambiguities, wants, diagnostics);
    choices
}

fn contest(value: &ValueName, offers: &[Provider]) -> ProviderConflict {
    ProviderConflict::new(value, offers.iter().map(|offer| (offer.member, offer.is_direct)))
}

/// The nearest preceding provider, where each consumer follows its provider.
fn resolve_graph(
    home: &ScopeResolver<'_, '_>,
    graph: &mut Graph,
    offers: &Providers,
    wants: &[(usize, Requirement)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Choice> {
    let mut choices = vec![Choice::Outward; wants.len()];
    let several = offers.iter().filter(|(_, offers)| offers.len() > 1);
    let mut contests: BTreeMap<&ValueName, ProviderConflict> =
        several.map(|(value, offers)| (value, contest(value, offers))).collect();
    let mut linked_to: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (at, (member, want)) in wants.iter().enumerate() {
        let mut others = offers.get(&want.value).into_iter().flatten().filter(|offer| offer.member != *member);
        match (others.next(), others.next()) {
            (None, _) => {}
            (Some(only), None) => {
                // Where links lead to the only provider, the value comes from an enclosing flow, if one has it.
                let mut leads =
                    || linked_to.entry(only.member).or_insert_with(|| graph.linked_to(only.member)).contains(member);
                let is_turned = home.carried.contains(&(only.member, *member))
                    || graph.is_linked(*member, only.member)
                    || (home.is_provided_outside(&want.value) && leads());
                if !is_turned {
                    graph.add(only.member, *member, Reason::Value(want.value.clone()));
                    choices[at] = Choice::Of(only.member);
                }
            }
            (Some(_), Some(_)) => {
                let contest = contests.get_mut(&want.value);
                contest.expect("a value with several providers is contested").requirements.push((at, *member));
            }
        }
    }
    let ambiguities = ambiguity::resolve_conflicts(graph, contests.into_values().collect(), &mut choices);
    home.report_ambiguities(ambiguities, wants, diagnostics);
    choices
}

impl ScopeResolver<'_, '_> {
    /// The members that provide a value.
    pub(super) fn providers_of(&self, value: &ValueName) -> Vec<usize> {
        let members = self.layout.flow(self.scope).members.iter().enumerate();
        let provides = |member: &super::layout::Member<'_>| match member.nested {
            Some(nested) => self.exports[&nested].contains_key(value),
            None => self.tasks[&member.first].provides.values().any(|provided| provided == value),
        };
        members.filter(|(_, member)| provides(member)).map(|(place, _)| place).collect()
    }

    /// The providers of each value, in member order.
    fn providers(&self) -> Providers {
        let mut offers = Providers::new();
        for (place, member) in self.layout.flow(self.scope).members.iter().enumerate() {
            let mut offer = |value: &ValueName, export, is_direct| {
                let of_value = offers.entry(value.clone()).or_default();
                if of_value.last().is_none_or(|last| last.member != place) {
                    of_value.push(Provider { member: place, export, is_direct });
                }
            };
            match member.nested {
                Some(nested) => self.exports[&nested].iter().for_each(|(value, export)| offer(value, *export, false)),
                None => {
                    let export = ScopeOutput { node: member.last, conflicting: None };
                    self.tasks[&member.first].provides.values().for_each(|value| offer(value, export, true));
                }
            }
        }
        offers
    }

    fn is_provided_outside(&self, value: &ValueName) -> bool {
        let flow = self.layout.flow(self.scope);
        let everywhere = self.all_providers.get(value).map_or(&[][..], Vec::as_slice);
        everywhere.first().is_some_and(|first| *first < flow.begin)
            || everywhere.last().is_some_and(|last| *last > flow.end)
    }

    /// The provider of a value for a member, if no link reversed their order.
    fn reversed_provider(&self, graph: &Graph, member: usize, offers: &[Provider]) -> Option<NodeIndex> {
        let linked = offers.iter().find(|offer| graph.is_linked(member, offer.member));
        let is_graph = self.layout.flow(self.scope).body.pattern == Pattern::Graph;
        linked.filter(|_| is_graph).map(|offer| offer.export.node)
    }

    /// The values that nodes after the flow can use.
    fn outputs(&self, graph: &Graph, offers: &Providers) -> ScopeOutputs {
        let mut reach = Reachability::of(graph);
        let mut exports = ScopeOutputs::new();
        if let Some(value) = self.layout.controller_value(self.scope) {
            exports.insert(value.clone(), ScopeOutput { node: self.layout.flow(self.scope).begin, conflicting: None });
        }
        let is_linear = self.layout.flow(self.scope).body.pattern == Pattern::Linear;
        for (value, offers) in offers {
            let mut providers: Vec<usize> = offers.iter().map(|offer| offer.member).collect();
            let mut rival = None;
            if let Some(reach) = reach.as_mut().filter(|_| !is_linear && providers.len() > 1) {
                reach.sort(&mut providers);
                let last = *providers.last().expect("a value on offer has a provider");
                rival = ambiguity::gap_before(reach, last, &providers);
            }
            let last = *providers.last().expect("a value on offer has a provider");
            let export = output_of(offers, last);
            let rival = export.conflicting.or(rival.map(|rival| output_of(offers, rival).node));
            exports.insert(value.clone(), ScopeOutput { node: export.node, conflicting: rival });
        }
        exports
    }

    fn report_conflict(&self, want: &Requirement, export: ScopeOutput, diagnostics: &mut Vec<Diagnostic>) {
        if let Some(rival) = export.conflicting {
            let (one, other) = (self.layout.describe(rival), self.layout.describe(export.node));
            diagnostics.push(self.ambiguous(want, &one, &other));
        }
    }

    fn report_ambiguities(
        &self,
        ambiguities: Vec<Ambiguity>,
        wants: &[(usize, Requirement)],
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        for Ambiguity { value, pair, requirement: want } in ambiguities {
            self.report_ambiguous(&value, pair, want.map(|at| &wants[at].1), diagnostics);
        }
    }

    fn report_ambiguous(
        &self,
        value: &ValueName,
        (one, other): (usize, usize),
        want: Option<&Requirement>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let members = &self.layout.flow(self.scope).members;
        let (one, other) = (&members[one], &members[other]);
        let name = |node| self.layout.describe(node);
        let diagnostic = match want {
            Some(want) => self.ambiguous(want, &name(one.first), &name(other.first)),
            None => {
                let (one_name, other_name) = (name(one.first), name(other.first));
                let message =
                    format!("{one_name} and {other_name} both provide {value:?}, and neither comes before the other");
                Diagnostic::error(self.layout.span(other.first, &format!("provides.{value}")), message)
            }
        };
        diagnostics.push(diagnostic.hint("link them, or let provides give one of the values another name"));
    }

    fn ambiguous(&self, want: &Requirement, one: &str, other: &str) -> Diagnostic {
        let consumer = self.layout.describe(want.node);
        let message = format!(
            "{consumer} requires {:?}, which {one} and {other} both provide, and neither comes before the other",
            want.value
        );
        let span = self.layout.span(want.node, &format!("requires.{}", want.parameter));
        Diagnostic::error(span, message).hint("link them, or let provides give one of the values another name")
    }
}
