//! Finds the providers of values among the members of one flow, and the resulting order.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ambiguity::{self, Ambiguity, Choice, ProviderConflict},
    graph::{Graph, Reachability, Reason, Visits},
    layout::Layout,
    node_source,
    task::{Requirement, ResolvedTask},
};
use crate::{
    Diagnostic, NodeIndex, Pattern, ValueName,
    graph::{ScopeIndex, Source},
};

/// One flow, with the data about the flows around it.
pub(super) struct ScopeResolver<'a, 'd> {
    pub(super) layout: &'a Layout<'d>,
    pub(super) scope: ScopeIndex,
    pub(super) tasks: &'a BTreeMap<NodeIndex, ResolvedTask>,
    /// The outputs of its nested flows.
    pub(super) outputs: &'a BTreeMap<ScopeIndex, ScopeOutputs>,
    /// The providers of each value in the whole flow, in the order of the arena.
    pub(super) all_providers: &'a BTreeMap<ValueName, Vec<NodeIndex>>,
    /// Members that provide a value to a preceding member, which receives it in the next firing.
    pub(super) carried: &'a BTreeSet<(usize, usize)>,
    pub(super) visits: &'a Visits,
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
    output: ScopeOutput,
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
    pub(super) outputs: ScopeOutputs,
}

/// Finds the providers of the values that the members of a flow require.
pub(super) fn resolve(
    resolver: &ScopeResolver<'_, '_>,
    mut graph: Graph,
    requirements: Vec<(usize, Requirement)>,
    diagnostics: &mut Vec<Diagnostic>,
) -> ResolvedScope {
    let providers = resolver.providers();
    let choices = match resolver.layout.flow(resolver.scope).body.pattern {
        Pattern::Linear => resolve_linear(&providers, &requirements),
        Pattern::Unordered => resolve_unordered(resolver, &graph, &providers, &requirements, diagnostics),
        Pattern::Graph => resolve_graph(resolver, &mut graph, &providers, &requirements, diagnostics),
    };
    let (mut resolved, mut unresolved) = (Vec::new(), Vec::new());
    for ((member, mut requirement), choice) in requirements.into_iter().zip(choices) {
        // Most flows carry nothing over, and a value may have many providers.
        let providers_of_value = providers.get(&requirement.value).filter(|_| !resolver.carried.is_empty());
        resolver.visits.take(providers_of_value.map_or(0, Vec::len));
        if resolver.visits.are_spent_by([&requirement.value]) {
            continue;
        }
        let loop_carried = providers_of_value
            .into_iter()
            .flatten()
            .filter(|provider| resolver.carried.contains(&(provider.member, member)));
        requirement.loop_carried.extend(loop_carried.map(|provider| provider.output.node));
        let source = match choice {
            Choice::Reported => continue,
            Choice::Of(provider) => {
                let output = output_of(&providers[&requirement.value], provider);
                resolver.report_conflict(&requirement, output, diagnostics);
                node_source(output.node, &requirement.value)
            }
            Choice::Outward if resolver.layout.controller_value(resolver.scope) == Some(&requirement.value) => {
                node_source(resolver.layout.flow(resolver.scope).begin, &requirement.value)
            }
            Choice::Outward => {
                resolver.visits.take(graph.after[member].len());
                let reversed = providers
                    .get(&requirement.value)
                    .and_then(|providers| resolver.reversed_provider(&graph, member, providers));
                requirement.reversed_provider = requirement.reversed_provider.or(reversed);
                unresolved.push(requirement);
                continue;
            }
        };
        resolved.push(ResolvedInput {
            node: requirement.node,
            input: requirement.input,
            source: requirement.or_loop_carried(source),
        });
    }
    let outputs = resolver.outputs(&graph, &providers);
    ResolvedScope { graph, inputs: resolved, unresolved, outputs }
}

type Providers = BTreeMap<ValueName, Vec<Provider>>;

fn output_of(providers: &[Provider], member: usize) -> ScopeOutput {
    let index = providers.partition_point(|provider| provider.member < member);
    providers[index].output
}

/// The nearest preceding provider, by the order of the file.
fn resolve_linear(providers: &Providers, requirements: &[(usize, Requirement)]) -> Vec<Choice> {
    let choose = |(member, requirement): &(usize, Requirement)| {
        let providers = providers.get(&requirement.value)?;
        let before = providers.partition_point(|provider| provider.member < *member);
        before.checked_sub(1).map(|last| Choice::Of(providers[last].member))
    };
    requirements.iter().map(|requirement| choose(requirement).unwrap_or(Choice::Outward)).collect()
}

/// The nearest preceding provider, where only links give order.
fn resolve_unordered(
    resolver: &ScopeResolver<'_, '_>,
    graph: &Graph,
    providers: &Providers,
    requirements: &[(usize, Requirement)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Choice> {
    let mut choices = vec![Choice::Outward; requirements.len()];
    let mut conflicts: BTreeMap<&ValueName, ProviderConflict> =
        providers.iter().map(|(value, providers)| (value, conflict(value, providers))).collect();
    for (at, (member, requirement)) in requirements.iter().enumerate() {
        conflicts.entry(&requirement.value).and_modify(|conflict| conflict.requirements.push((at, *member)));
    }
    let conflicts = conflicts.into_values().collect();
    let ambiguities = ambiguity::resolve_unordered(graph, conflicts, &mut choices, resolver.visits);
    resolver.report_ambiguities(ambiguities, requirements, diagnostics);
    choices
}

fn conflict(value: &ValueName, providers: &[Provider]) -> ProviderConflict {
    ProviderConflict::new(value, providers.iter().map(|provider| (provider.member, provider.is_direct)))
}

/// The nearest preceding provider, where each consumer follows its provider.
fn resolve_graph(
    resolver: &ScopeResolver<'_, '_>,
    graph: &mut Graph,
    providers: &Providers,
    requirements: &[(usize, Requirement)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Choice> {
    let mut choices = vec![Choice::Outward; requirements.len()];
    let contested = providers.iter().filter(|(_, providers)| providers.len() > 1);
    let mut conflicts: BTreeMap<&ValueName, ProviderConflict> =
        contested.map(|(value, providers)| (value, conflict(value, providers))).collect();
    // Only of the last provider: those of all providers would be too large together.
    let mut linked_to: Option<(usize, BTreeSet<usize>)> = None;
    for (at, (member, requirement)) in requirements.iter().enumerate() {
        let mut others =
            providers.get(&requirement.value).into_iter().flatten().filter(|provider| provider.member != *member);
        match (others.next(), others.next()) {
            (None, _) => {}
            (Some(only), None) => {
                // Links put the only provider after this consumer. The value comes from an enclosing flow, if one
                // provides it.
                let mut is_linked = || {
                    let known = linked_to.take().filter(|(provider, _)| *provider == only.member);
                    let linked = || (only.member, graph.linked_to(only.member, resolver.visits));
                    linked_to.insert(known.unwrap_or_else(linked)).1.contains(member)
                };
                let is_reversed = resolver.carried.contains(&(only.member, *member))
                    || graph.is_linked(*member, only.member)
                    || (resolver.is_provided_outside(&requirement.value) && is_linked());
                if resolver.visits.are_spent_by([&requirement.value]) {
                    choices[at] = Choice::Reported;
                } else if !is_reversed {
                    graph.add(only.member, *member, Reason::Value(requirement.value.clone()));
                    choices[at] = Choice::Of(only.member);
                }
            }
            (Some(_), Some(_)) => {
                let conflict = conflicts.get_mut(&requirement.value);
                conflict.expect("a value with several providers has a conflict").requirements.push((at, *member));
            }
        }
    }
    let conflicts = conflicts.into_values().collect();
    let ambiguities = ambiguity::resolve_conflicts(graph, conflicts, &mut choices, resolver.visits);
    resolver.report_ambiguities(ambiguities, requirements, diagnostics);
    choices
}

impl ScopeResolver<'_, '_> {
    /// The members that provide each value, in order.
    pub(super) fn members_by_value(&self) -> BTreeMap<ValueName, Vec<usize>> {
        let members = |providers: Vec<Provider>| providers.into_iter().map(|provider| provider.member).collect();
        self.providers().into_iter().map(|(value, providers)| (value, members(providers))).collect()
    }

    /// The providers of each value, in member order.
    fn providers(&self) -> Providers {
        let mut providers = Providers::new();
        for (index, member) in self.layout.flow(self.scope).members.iter().enumerate() {
            let mut add = |value: &ValueName, output, is_direct| {
                let of_value = providers.entry(value.clone()).or_default();
                if of_value.last().is_none_or(|last| last.member != index) {
                    of_value.push(Provider { member: index, output, is_direct });
                }
            };
            match member.nested {
                Some(nested) => self.outputs[&nested].iter().for_each(|(value, output)| add(value, *output, false)),
                None => {
                    let output = ScopeOutput { node: member.last, conflicting: None };
                    self.tasks[&member.first].provides.values().for_each(|value| add(value, output, true));
                }
            }
        }
        providers
    }

    fn is_provided_outside(&self, value: &ValueName) -> bool {
        let flow = self.layout.flow(self.scope);
        let providers = self.all_providers.get(value).map_or(&[][..], Vec::as_slice);
        providers.first().is_some_and(|first| *first < flow.begin)
            || providers.last().is_some_and(|last| *last > flow.end)
    }

    /// The provider of a value for a member, if no link reversed their order.
    fn reversed_provider(&self, graph: &Graph, member: usize, providers: &[Provider]) -> Option<NodeIndex> {
        let linked = graph.after[member].iter().filter(|after| graph.is_linked(member, **after));
        let first =
            linked.filter_map(|after| providers.binary_search_by_key(after, |provider| provider.member).ok()).min();
        let is_graph = self.layout.flow(self.scope).body.pattern == Pattern::Graph;
        first.filter(|_| is_graph).map(|index| providers[index].output.node)
    }

    /// The values that nodes after the flow can use.
    fn outputs(&self, graph: &Graph, providers: &Providers) -> ScopeOutputs {
        let mut reachability = Reachability::of(graph, self.visits);
        let mut outputs = ScopeOutputs::new();
        if let Some(value) = self.layout.controller_value(self.scope) {
            outputs.insert(value.clone(), ScopeOutput { node: self.layout.flow(self.scope).begin, conflicting: None });
        }
        let is_linear = self.layout.flow(self.scope).body.pattern == Pattern::Linear;
        for (value, providers) in providers {
            let mut members: Vec<usize> = providers.iter().map(|provider| provider.member).collect();
            let mut conflicting = None;
            if let Some(reachability) = reachability.as_mut().filter(|_| !is_linear && members.len() > 1) {
                reachability.sort(&mut members);
                let last = *members.last().expect("a provided value has a provider");
                conflicting = ambiguity::gap_before(reachability, last, &members);
                if self.visits.are_spent_by([value]) {
                    conflicting = None;
                }
            }
            let last = *members.last().expect("a provided value has a provider");
            let output = output_of(providers, last);
            let conflicting =
                output.conflicting.or(conflicting.map(|conflicting| output_of(providers, conflicting).node));
            outputs.insert(value.clone(), ScopeOutput { node: output.node, conflicting });
        }
        outputs
    }

    fn report_conflict(&self, requirement: &Requirement, output: ScopeOutput, diagnostics: &mut Vec<Diagnostic>) {
        if let Some(conflicting) = output.conflicting {
            let (one, other) = (self.layout.describe(conflicting), self.layout.describe(output.node));
            diagnostics.push(self.ambiguous(requirement, &one, &other));
        }
    }

    fn report_ambiguities(
        &self,
        ambiguities: Vec<Ambiguity>,
        requirements: &[(usize, Requirement)],
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        for Ambiguity { value, pair, requirement } in ambiguities {
            self.report_ambiguous(&value, pair, requirement.map(|at| &requirements[at].1), diagnostics);
        }
    }

    fn report_ambiguous(
        &self,
        value: &ValueName,
        (one, other): (usize, usize),
        requirement: Option<&Requirement>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let members = &self.layout.flow(self.scope).members;
        let (one, other) = (&members[one], &members[other]);
        let name = |node| self.layout.describe(node);
        let diagnostic = match requirement {
            Some(requirement) => self.ambiguous(requirement, &name(one.first), &name(other.first)),
            None => {
                let (one_name, other_name) = (name(one.first), name(other.first));
                let message =
                    format!("{one_name} and {other_name} both provide {value:?}, and neither comes before the other");
                Diagnostic::error(self.layout.span(other.first, &format!("provides.{value}")), message)
            }
        };
        diagnostics.push(diagnostic.hint("link them, or let provides give one of the values another name"));
    }

    fn ambiguous(&self, requirement: &Requirement, one: &str, other: &str) -> Diagnostic {
        let consumer = self.layout.describe(requirement.node);
        let message = format!(
            "{consumer} requires {:?}, which {one} and {other} both provide, and neither comes before the other",
            requirement.value
        );
        let span = self.layout.span(requirement.node, &format!("requires.{}", requirement.parameter));
        Diagnostic::error(span, message).hint("link them, or let provides give one of the values another name")
    }
}
