//! Wires a [`Draft`] into a [`Flow`]: every requirement gets its source and every order becomes explicit, or every
//! diagnostic is reported.
//!
//! The flows of a draft are wired from the inside out: a nested flow requires from its enclosing flow the values that it
//! does not provide itself. In each flow, [`order`] adds the explicit edges, and [`scope_resolver`] finds the provider of
//! each value and adds the resulting order. [`assembly`] builds the arena of the result.

mod assembly;
mod components;
mod broker_limits;
mod cycles;
mod type_check;
mod graph;
mod empty_cycles;
mod layout;
mod limits;
mod links;
mod namespace;
mod triggers;
mod root_resolver;
mod order;
mod schemas;
mod ambiguity;
mod task;
mod scope_resolver;
#[cfg(test)]
mod tests;

pub use limits::{MAX_MODULES, Maximum, check_description, check_limits};
pub(crate) use triggers::MAX_SCHEDULES;

use std::collections::{BTreeMap, BTreeSet};

use self::{
    assembly::EndDependencies,
    graph::{Graph, Visits},
    layout::{Layout, Slot},
    links::{FailureListeners, LinkContext, LinkProperties},
    schemas::{InputSchemas, Schemas},
    scope_resolver::{ResolvedInput, ScopeOutputs, ScopeResolver},
    task::{Requirement, ResolvedTask},
    triggers::Cycles,
};
use crate::{
    Diagnostic, Draft, Flow, FlowName, Join, ModuleInfo, NodeIndex, Severity, Strategy, ValueName, Values,
    draft::{DraftController, ParseExtent},
    graph::{BackEdge, ScopeIndex, Source},
    schema::Budget,
};

/// Wires a flow. `modules` contains the resolved modules by alias; `given` are the caller's input values, which override
/// those of the file.
///
/// The queues of a flow in a namespace, and the flows that it listens to, are in the same namespace unless they name another.
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
    wire_within(draft, modules, given, &Visits::new())
}

/// As [`wire`], with the visits that the search for providers may use.
fn wire_within(
    draft: &Draft,
    modules: &BTreeMap<String, ModuleInfo>,
    given: &Values,
    visits: &Visits,
) -> Result<(Flow, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut diagnostics = draft.diagnostics.clone();
    let Some(name) = draft.name.as_ref().filter(|_| draft.extent != ParseExtent::Nothing) else {
        if diagnostics.is_empty() {
            diagnostics.push(Diagnostic::error(None, "the flow has no name"));
        }
        return Err(diagnostics);
    };
    let mut dependent = Vec::new();
    let draft = &*namespace::qualify(draft, &mut diagnostics);
    let flow = try_wire(draft, name, modules, (given, visits), (&mut diagnostics, &mut dependent));
    if draft.extent == ParseExtent::Whole {
        diagnostics.append(&mut dependent);
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.as_ref().map(|span| span.start));
    if diagnostics.iter().all(|diagnostic| diagnostic.severity == Severity::Warning) {
        Ok((flow, diagnostics))
    } else {
        Err(diagnostics)
    }
}

/// Wires as much of the flow as possible despite errors. `independent` diagnostics are certain; `dependent` ones may only
/// follow from unreadable parts.
fn try_wire(
    draft: &Draft,
    name: &FlowName,
    modules: &BTreeMap<String, ModuleInfo>,
    (given, visits): (&Values, &Visits),
    (independent, dependent): (&mut Vec<Diagnostic>, &mut Vec<Diagnostic>),
) -> Flow {
    let layout = Layout::of(name, &draft.body, independent);
    limits::check_module_count(draft, independent);
    let tasks = resolve_tasks(&layout, draft, modules, independent);
    broker_limits::check_broker_limits(draft, &layout, independent);
    broker_limits::check_name_lengths(name, &layout, independent);
    triggers::check_schedule_count(draft, independent);
    layout.warn_empty_flows(dependent);
    let providers = providers(&layout, &tasks);
    let mut inputs = draft.inputs.clone();
    inputs.extend(given.clone());
    let of_inputs = InputSchemas::new();
    let mut wiring = ScopeWiring::new(&layout, draft, &tasks, &providers, (&inputs, &of_inputs, visits));
    for scope in layout.scopes().rev() {
        let flow = layout.flow(scope);
        check_controller(flow.body.controller.as_ref(), flow.name.as_str(), independent);
        wiring.wire_scope(scope, dependent);
    }
    report_unresolved(&layout, visits, &providers, dependent);
    let ScopeWiring { has_triggers, mut requirements, mut resolved, graphs, links, back_edges, .. } = wiring;
    let unresolved = requirements.remove(&NO_SCOPE).unwrap_or_default().into_iter().map(|(_, requirement)| requirement);
    let root =
        root_resolver::RootResolver { layout: &layout, draft, tasks: &tasks, inputs: &inputs, providers: &providers };
    let mut awaiting = BTreeSet::new();
    resolved.extend(root.resolve(unresolved.collect(), &mut awaiting, dependent));
    check_shadowing(draft, &inputs, &layout, &providers, &loop_carried_names(&resolved), dependent);
    root.unused(&resolved, &links.inputs, dependent);
    let budget = Budget::new();
    let types = type_check::TypeChecker {
        layout: &layout,
        draft,
        tasks: &tasks,
        inputs: &inputs,
        has_triggers,
        of_inputs: &of_inputs,
        budget,
    };
    types.check_constants(independent);
    types.check_inputs(&resolved, independent);
    types.check_between(&resolved, dependent);
    if tasks.values().any(|task| !task.is_resolved()) {
        // Such a task may provide the values that seem to have no provider.
        awaiting.clear();
    }
    let ends = if has_triggers { EndDependencies::All } else { EndDependencies::Last };
    let notification_inputs = types.notification_inputs(&resolved, dependent);
    let flow = assembly::assemble(&layout, tasks, &graphs, resolved, links, ends, (name.clone(), inputs));
    let flow = triggers::build_triggers(&layout, draft, back_edges, &awaiting, flow, dependent);
    empty_cycles::check_empty_cycles(&layout, &flow, dependent);
    Flow { expires: draft.expires, notification_inputs, ..flow }
}

/// The scopes of a flow while they are wired, from the inside out.
struct ScopeWiring<'a, 'd> {
    layout: &'a Layout<'d>,
    draft: &'d Draft,
    tasks: &'a BTreeMap<NodeIndex, ResolvedTask>,
    providers: &'a BTreeMap<ValueName, Vec<NodeIndex>>,
    inputs: &'a Values,
    of_inputs: &'a InputSchemas,
    visits: &'a Visits,
    /// Whether the flow may fire more than once.
    has_triggers: bool,
    requirements: RequirementsByScope,
    resolved: Vec<ResolvedInput>,
    graphs: BTreeMap<ScopeIndex, Graph>,
    outputs: BTreeMap<ScopeIndex, ScopeOutputs>,
    links: LinkProperties,
    back_edges: Vec<BackEdge>,
}

impl<'a, 'd> ScopeWiring<'a, 'd> {
    fn new(
        layout: &'a Layout<'d>,
        draft: &'d Draft,
        tasks: &'a BTreeMap<NodeIndex, ResolvedTask>,
        providers: &'a BTreeMap<ValueName, Vec<NodeIndex>>,
        (inputs, of_inputs, visits): (&'a Values, &'a InputSchemas, &'a Visits),
    ) -> Self {
        let mut resolved = Vec::new();
        let requirements = requirements_by_scope(layout, tasks, &links::listeners(layout), &mut resolved);
        Self {
            layout,
            draft,
            tasks,
            providers,
            inputs,
            of_inputs,
            visits,
            has_triggers: draft.triggers.persistent || draft.triggers.cyclic,
            requirements,
            resolved,
            graphs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            links: LinkProperties::default(),
            back_edges: Vec::new(),
        }
    }

    /// Wires one scope, whose nested scopes are wired already. The enclosing scope gets the requirements that stay
    /// unresolved.
    fn wire_scope(&mut self, scope: ScopeIndex, diagnostics: &mut Vec<Diagnostic>) {
        let (layout, is_root) = (self.layout, scope == ScopeIndex::ROOT);
        let requirements = self.requirements.remove(&scope).unwrap_or_default();
        let mut resolver = ScopeResolver {
            layout,
            scope,
            tasks: self.tasks,
            outputs: &self.outputs,
            all_providers: self.providers,
            carried: &BTreeSet::new(),
            visits: self.visits,
        };
        let cycles = if is_root {
            triggers::find_cycles(&resolver, self.draft, &requirements, diagnostics)
        } else {
            check_any_joins(layout, scope, diagnostics);
            Cycles::default()
        };
        resolver.carried = &cycles.loop_carried;
        let is_back_edge = |link: usize| cycles.back_edges.contains_key(&link);
        let explicit = order::explicit(layout, scope, is_back_edge, diagnostics);
        let wired = scope_resolver::resolve(&resolver, explicit, requirements, diagnostics);
        cycles::report_cycles(layout, scope, &wired.graph, diagnostics);
        let known_inputs = (!self.has_triggers).then_some(self.inputs);
        let schemas = Schemas { layout, tasks: self.tasks, inputs: known_inputs, of_inputs: self.of_inputs };
        let context = LinkContext { layout, tasks: self.tasks, outputs: &self.outputs, inputs: self.inputs, schemas };
        context.read_links(scope, is_back_edge, &wired.graph, &mut self.links, diagnostics);
        if is_root {
            self.back_edges = context.back_edges(&cycles, &mut self.links.inputs, diagnostics);
        }
        self.resolved.extend(wired.inputs);
        let parent = layout.flow(scope).parent;
        let outer = self.requirements.entry(parent.map_or(NO_SCOPE, |position| position.scope)).or_default();
        let member = parent.map_or(0, |position| position.member);
        let unresolved = wired.unresolved.into_iter().chain(controller_requirement(layout, scope));
        outer.extend(unresolved.map(|requirement| (member, requirement)));
        self.outputs.insert(scope, wired.outputs);
        self.graphs.insert(scope, wired.graph);
    }
}

/// Only links of the whole flow can trigger another firing.
fn check_any_joins(layout: &Layout<'_>, scope: ScopeIndex, diagnostics: &mut Vec<Diagnostic>) {
    for link in layout.flow(scope).body.links.iter().filter(|link| link.join == Join::Any) {
        let message = format!("the link {:?} -> {:?} joins any, in a nested flow", link.from, link.to);
        let hint = "only tasks of the whole flow are fired anew: leave join out, or move them there";
        diagnostics.push(Diagnostic::error(link.spans.join.clone(), message).hint(hint));
    }
}

/// The loop-carried values: the first firing may start with an input of that name.
fn loop_carried_names(resolved_inputs: &[ResolvedInput]) -> BTreeSet<ValueName> {
    let carried = resolved_inputs.iter().filter_map(|resolved| match &resolved.source {
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
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<NodeIndex, ResolvedTask> {
    let modules = task::Modules::new(modules, &draft.modules);
    root_resolver::report_missing_modules(layout, &modules, diagnostics);
    let tasks = layout.tasks();
    tasks.map(|(index, task)| (index, task::resolve(index, task, &modules, diagnostics))).collect()
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
    resolved: &mut Vec<ResolvedInput>,
) -> RequirementsByScope {
    let mut requirements = RequirementsByScope::new();
    for (index, slot) in layout.slots() {
        let Slot::Task { position, .. } = slot else { continue };
        let of_scope = requirements.entry(position.scope).or_default();
        for requirement in &tasks[&index].requirements {
            match listeners.get(&index) {
                Some(sources) if links::is_failure(&requirement.value) => {
                    let source = Source::Failure(sources.clone());
                    resolved.push(ResolvedInput { node: index, input: requirement.input, source });
                }
                Some(_) | None => of_scope.push((position.member, requirement.clone())),
            }
        }
    }
    requirements
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

fn check_controller(controller: Option<&DraftController>, flow: &str, diagnostics: &mut Vec<Diagnostic>) {
    let Some(controller) = controller else { return };
    match &controller.strategy {
        Strategy::ForEach(values) if values.is_empty() => {
            let message = format!("\"for_each\" of the retry of flow {flow:?} is empty");
            let hint = "give it a value for each try, or leave the retry controller out";
            diagnostics.push(Diagnostic::error(controller.span.clone(), message).hint(hint));
        }
        Strategy::Always if controller.provides.is_some() => {
            let message = format!("the retry of flow {flow:?} provides a value, which \"always\" does not have");
            diagnostics.push(Diagnostic::error(controller.span.clone(), message).hint("leave provides out"));
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
    loop_carried: &BTreeSet<ValueName>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for name in inputs.keys().filter(|name| !loop_carried.contains(*name)) {
        let Some(provider) = providers.get(name).and_then(|nodes| nodes.first()) else { continue };
        let message = format!("input {name:?} has the name of a value that {} provides", layout.describe(*provider));
        let span = draft.input_spans.get(name).cloned().or_else(|| layout.span(*provider, &format!("provides.{name}")));
        diagnostics.push(Diagnostic::error(span, message).hint("give one of them another name"));
    }
}

/// Reports the values whose providers could not be found with the visits that a flow has.
fn report_unresolved(
    layout: &Layout<'_>,
    visits: &Visits,
    providers: &BTreeMap<ValueName, Vec<NodeIndex>>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let unresolved = visits.unresolved();
    let Some(first) = unresolved.first() else { return };
    let span = providers
        .get(first)
        .and_then(|nodes| nodes.last())
        .and_then(|node| layout.span(*node, &format!("provides.{first}")));
    let values = task::quoted(unresolved.iter().map(ValueName::as_str));
    let message = format!(
        "it would take too long to find which task provides which value: many values have several providers, {values} among them"
    );
    let hint =
        "let provides give the values names of their own, leave out links that other links imply, or divide the flow";
    diagnostics.push(Diagnostic::error(span, message).hint(hint));
}

/// The source of a value that a node provides.
fn node_source(node: NodeIndex, value: &ValueName) -> Source {
    Source::Node { node, value: value.clone() }
}
