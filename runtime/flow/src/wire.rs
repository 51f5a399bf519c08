//! Wires a [`Draft`] into a [`Flow`]: every requirement gets its source and every order becomes explicit, or every
//! diagnostic is reported.
//!
//! The flows of a draft are wired from the inside out: a nested flow requires from its enclosing flow the values that it
//! does not provide itself. In each flow, [`order`] adds the explicit edges, and [`scope_resolver`] finds the provider of
//! each value and adds the resulting order. [`assembly`] builds the arena of the result.

mod assembly;
mod cycles;
mod type_check;
mod graph;
mod empty_cycles;
mod layout;
mod links;
mod triggers;
mod root_resolver;
mod order;
mod schemas;
mod ambiguity;
mod task;
mod scope_resolver;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use self::{
    assembly::EndDependencies,
    layout::{Layout, Slot},
    links::{FailureListeners, LinkProperties},
    schemas::Schemas,
    scope_resolver::{ResolvedInput, ScopeOutputs, ScopeResolver},
    task::{Requirement, ResolvedTask},
    triggers::Cycles,
};
use crate::{
    Diagnostic, Draft, DraftController, Flow, FlowName, Join, ModuleInfo, NodeIndex, ParseExtent, ScopeIndex, Severity,
    Source, Strategy, ValueName, Values,
};

/// Wires a flow. `modules` contains the resolved modules by alias; `given` are the caller's input values, which override
/// those of the file.
///
/// A flow that can run is returned with its warnings.
///
/// # Errors
/// Every diagnostic in it, in the order of its file, warnings included.
pub fn wire(
    draft: &Draft,
    modules: &BTreeMap<String, ModuleInfo>,
    given: &Values,
) -> Result<(Flow, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut mistakes = draft.mistakes.clone();
    let Some(name) = draft.name.as_ref().filter(|_| draft.extent != ParseExtent::Nothing) else {
        if mistakes.is_empty() {
            mistakes.push(Diagnostic::error(None, "the flow has no name"));
        }
        return Err(mistakes);
    };
    let mut found = Vec::new();
    let flow = try_wire(draft, name, modules, given, (&mut mistakes, &mut found));
    if draft.extent == ParseExtent::Whole {
        mistakes.append(&mut found);
    }
    mistakes.sort_by_key(|mistake| mistake.span.as_ref().map(|span| span.start));
    if mistakes.iter().all(|mistake| mistake.severity == Severity::Warning) {
        Ok((flow, mistakes))
    } else {
        Err(mistakes)
    }
}

/// Wires as much of the flow as possible despite errors. `mistakes` are independent diagnostics; later ones may only follow
/// from unreadable parts.
fn try_wire(
    draft: &Draft,
    name: &FlowName,
    modules: &BTreeMap<String, ModuleInfo>,
    given: &Values,
    (sure, mistakes): (&mut Vec<Diagnostic>, &mut Vec<Diagnostic>),
) -> Flow {
    let layout = Layout::of(name, &draft.body, sure);
    let tasks = resolve_tasks(&layout, draft, modules, sure);
    layout.warn_empty_flows(mistakes);
    let providers = providers(&layout, &tasks);
    let mut inputs = draft.inputs.clone();
    inputs.extend(given.clone());
    let mut graphs = BTreeMap::new();
    let mut exports: BTreeMap<ScopeIndex, ScopeOutputs> = BTreeMap::new();
    let mut answers: Vec<ResolvedInput> = Vec::new();
    let is_living = draft.triggers.persistent || draft.triggers.cyclic;
    let listeners = links::listeners(&layout);
    let mut said = LinkProperties::default();
    let (mut rounds, mut turns) = (Cycles::default(), Vec::new());
    let mut wants = requirements_by_scope(&layout, &tasks, &listeners, &mut answers);
    for scope in layout.scopes().rev() {
        check_controller(layout.flow(scope).body.controller.as_ref(), layout.flow(scope).name.as_str(), sure);
        let wanted = wants.remove(&scope).unwrap_or_default();
        let none = BTreeSet::new();
        let mut home = ScopeResolver {
            layout: &layout,
            scope,
            tasks: &tasks,
            exports: &exports,
            all_providers: &providers,
            carried: &none,
        };
        if scope == ScopeIndex::ROOT {
            rounds = triggers::find_cycles(&home, draft, &wanted, mistakes);
            home.carried = &rounds.loop_carried;
        } else {
            check_any_joins(&layout, scope, mistakes);
        }
        let is_turn = |place: usize| scope == ScopeIndex::ROOT && rounds.turns.contains_key(&place);
        let explicit = order::explicit(&layout, scope, is_turn, mistakes);
        let found = scope_resolver::resolve(&home, explicit, wanted, mistakes);
        cycles::report_cycles(&layout, scope, &found.graph, mistakes);
        let schemas = Schemas { layout: &layout, tasks: &tasks, inputs: (!is_living).then_some(&inputs) };
        let known = links::LinkContext { layout: &layout, tasks: &tasks, exports: &exports, inputs: &inputs, schemas };
        known.read(scope, is_turn, &found.graph, &mut said, mistakes);
        if scope == ScopeIndex::ROOT {
            turns = known.back_edges(&rounds, &mut said.inputs, mistakes);
        }
        answers.extend(found.inputs);
        let outward = wants.entry(layout.flow(scope).parent.map_or(NO_SCOPE, |place| place.scope)).or_default();
        let member = layout.flow(scope).parent.map_or(0, |place| place.member);
        outward.extend(
            found.unresolved.into_iter().chain(controller_requirement(&layout, scope)).map(|want| (member, want)),
        );
        exports.insert(scope, found.exports);
        graphs.insert(scope, found.graph);
    }
    let left = wants.remove(&NO_SCOPE).unwrap_or_default().into_iter().map(|(_, want)| want);
    let rest =
        root_resolver::RootResolver { layout: &layout, draft, tasks: &tasks, inputs: &inputs, providers: &providers };
    let mut awaiting = BTreeSet::new();
    answers.extend(rest.resolve(left.collect(), &mut awaiting, mistakes));
    check_shadowing(draft, &inputs, &layout, &providers, &loop_carried_names(&answers), mistakes);
    rest.unused(&answers, &said.inputs, mistakes);
    let fits =
        type_check::TypeChecker { layout: &layout, draft, tasks: &tasks, inputs: &inputs, has_triggers: is_living };
    fits.check_constants(sure);
    fits.check_inputs(&answers, sure);
    fits.check_between(&answers, mistakes);
    if tasks.values().any(|task| !task.is_resolved()) {
        // Such a task may provide the values that seem to have no provider.
        awaiting.clear();
    }
    let ends = if is_living { EndDependencies::All } else { EndDependencies::Last };
    let accepts = fits.notification_inputs(&answers);
    let flow = assembly::assemble(&layout, tasks, &graphs, answers, said, ends, (name.clone(), inputs));
    let flow = triggers::build_triggers(&layout, draft, turns, &awaiting, flow, mistakes);
    empty_cycles::check_empty_cycles(&layout, &flow, mistakes);
    Flow { expires: draft.expires, notification_inputs: accepts, ..flow }
}

/// Only links of the whole flow can trigger another firing.
fn check_any_joins(layout: &Layout<'_>, scope: ScopeIndex, mistakes: &mut Vec<Diagnostic>) {
    for link in layout.flow(scope).body.links.iter().filter(|link| link.join == Join::Any) {
        let message = format!("the link {:?} -> {:?} joins any, in a nested flow", link.from, link.to);
        let hint = "only tasks of the whole flow are fired anew: leave join out, or move them there";
        mistakes.push(Diagnostic::error(link.spans.join.clone(), message).hint(hint));
    }
}

/// The loop-carried values: the first firing may start with an input of that name.
fn loop_carried_names(answers: &[ResolvedInput]) -> BTreeSet<ValueName> {
    let carried = answers.iter().filter_map(|answer| match &answer.source {
        Source::LoopCarried { value, .. } => Some(value.clone()),
        Source::Constant(_)
        | Source::Node { .. }
        | Source::Element
        | Source::RunInput(_)
        | Source::Failure(_)
        | Source::Absent => None,
    });
    carried.collect()
}

/// The target of root requirements that nothing in the flow resolves.
const NO_SCOPE: ScopeIndex = ScopeIndex(u32::MAX);

fn resolve_tasks(
    layout: &Layout<'_>,
    draft: &Draft,
    modules: &BTreeMap<String, ModuleInfo>,
    mistakes: &mut Vec<Diagnostic>,
) -> BTreeMap<NodeIndex, ResolvedTask> {
    let modules = task::Modules { resolved: modules, named: &draft.modules };
    root_resolver::report_missing_modules(layout, &modules, mistakes);
    let tasks = layout.tasks();
    tasks.map(|(index, task)| (index, task::resolve(index, task, &modules, mistakes))).collect()
}

/// The providers of each value, in any scope, in the order of the arena.
fn providers(layout: &Layout<'_>, tasks: &BTreeMap<NodeIndex, ResolvedTask>) -> BTreeMap<ValueName, Vec<NodeIndex>> {
    let mut providers: BTreeMap<ValueName, Vec<NodeIndex>> = BTreeMap::new();
    for (index, slot) in layout.slots() {
        let provided: BTreeSet<&ValueName> = match slot {
            Slot::Task { .. } => tasks[&index].provides.values().collect(),
            Slot::Begin(scope) => layout.controller_value(*scope).into_iter().collect(),
            Slot::FanIn { .. } | Slot::End(_) => continue,
        };
        for value in provided {
            providers.entry(value.clone()).or_default().push(index);
        }
    }
    providers
}

type RequirementsByScope = BTreeMap<ScopeIndex, Vec<(usize, Requirement)>>;

/// The values that tasks require from other nodes. A failure listener gets its failure through its links.
fn requirements_by_scope(
    layout: &Layout<'_>,
    tasks: &BTreeMap<NodeIndex, ResolvedTask>,
    listeners: &FailureListeners,
    answers: &mut Vec<ResolvedInput>,
) -> RequirementsByScope {
    let mut wants = RequirementsByScope::new();
    for (index, slot) in layout.slots() {
        let Slot::Task { place, .. } = slot else { continue };
        let of_flow = wants.entry(place.scope).or_default();
        for want in &tasks[&index].requirements {
            match listeners.get(&index) {
                Some(sources) if links::is_failure(&want.value) => {
                    let source = Source::Failure(sources.clone());
                    answers.push(ResolvedInput { node: index, input: want.input, source });
                }
                Some(_) | None => of_flow.push((place.member, want.clone())),
            }
        }
    }
    wants
}

/// The value that a controller reads when its flow starts; it comes from before its flow.
fn controller_requirement(layout: &Layout<'_>, scope: ScopeIndex) -> Option<Requirement> {
    let flow = layout.flow(scope);
    let controller = flow.body.controller.as_ref()?;
    match &controller.strategy {
        Strategy::ForEachOf(value) => Some(Requirement {
            node: flow.begin,
            input: 0,
            parameter: value.clone(),
            value: value.clone(),
            optional: false,
            reversed_provider: None,
            loop_carried: Vec::new(),
        }),
        Strategy::Times(_) | Strategy::ForEach(_) | Strategy::Always => None,
    }
}

fn check_controller(controller: Option<&DraftController>, flow: &str, mistakes: &mut Vec<Diagnostic>) {
    let Some(controller) = controller else { return };
    match &controller.strategy {
        Strategy::ForEach(values) if values.is_empty() => {
            let message = format!("\"for_each\" of the retry of flow {flow:?} is empty");
            let hint = "give it a value for each try, or leave the retry controller out";
            mistakes.push(Diagnostic::error(controller.span.clone(), message).hint(hint));
        }
        Strategy::Always if controller.provides.is_some() => {
            let message = format!("the retry of flow {flow:?} provides a value, but \"always\" has none to provide");
            mistakes.push(Diagnostic::error(controller.span.clone(), message).hint("leave provides out"));
        }
        Strategy::Times(_) | Strategy::ForEach(_) | Strategy::ForEachOf(_) | Strategy::Always => {}
    }
}

/// An input with the name of a provided value would silently be a different value at different times.
fn check_shadowing(
    draft: &Draft,
    inputs: &Values,
    layout: &Layout<'_>,
    providers: &BTreeMap<ValueName, Vec<NodeIndex>>,
    carried: &BTreeSet<ValueName>,
    mistakes: &mut Vec<Diagnostic>,
) {
    for name in inputs.keys().filter(|name| !carried.contains(*name)) {
        let Some(provider) = providers.get(name).and_then(|nodes| nodes.first()) else { continue };
        let message = format!("input {name:?} has the name of a value that {} provides", layout.describe(*provider));
        let span = draft.input_spans.get(name).cloned().or_else(|| layout.span(*provider, &format!("provides.{name}")));
        mistakes.push(Diagnostic::error(span, message).hint("give one of them another name"));
    }
}

/// The source of a value that a node provides.
fn node_source(node: NodeIndex, value: &ValueName) -> Source {
    Source::Node { node, value: value.clone() }
}
