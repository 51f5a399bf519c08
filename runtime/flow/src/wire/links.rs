//! Links with properties beyond the order: the awaited outcome of the source, the condition, and the resulting failure
//! handlers.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    graph::Graph,
    layout::{Layout, Member},
    node_source,
    schemas::Schemas,
    scope_resolver::ScopeOutputs,
    task::ResolvedTask,
};
use crate::{
    Condition, Diagnostic, NodeIndex, Pattern, SourceOutcome, ValueName, Values, condition,
    draft::DraftLink,
    graph::{Link, ScopeIndex, Source},
    suggest,
};

/// The name of a failure in conditions, and in tasks that listen to one.
const FAILURE: &str = "failure";

/// The nodes whose failure each listener receives.
pub(super) type FailureListeners = BTreeMap<NodeIndex, Vec<NodeIndex>>;

/// The properties of links besides the order.
#[derive(Default)]
pub(super) struct LinkProperties {
    pub(super) links: BTreeMap<NodeIndex, Vec<Link>>,
    /// The nodes that are not rolled back with the flow.
    pub(super) failure_handlers: BTreeSet<NodeIndex>,
    /// The inputs of the run that conditions read.
    pub(super) inputs: BTreeSet<ValueName>,
}

/// The tasks that listen to failures, in any scope.
pub(super) fn listeners(layout: &Layout<'_>) -> FailureListeners {
    let mut listeners = FailureListeners::new();
    for scope in layout.scopes() {
        for link in layout.flow(scope).body.links.iter().filter(|link| link.on != SourceOutcome::Success) {
            if let Some((from, to)) = ends(layout, scope, link) {
                listeners.entry(to.first).or_default().push(from.last);
            }
        }
    }
    listeners
}

/// Whether a value has the name of a failure.
pub(super) fn is_failure(value: &ValueName) -> bool {
    value.as_str() == FAILURE
}

pub(super) fn ends<'l, 'd>(
    layout: &'l Layout<'d>,
    scope: ScopeIndex,
    link: &DraftLink,
) -> Option<(&'l Member<'d>, &'l Member<'d>)> {
    let member = |name| {
        let position = layout.position(name).filter(|position| position.scope == scope)?;
        layout.flow(scope).members.get(position.member)
    };
    Some((member(&link.from)?, member(&link.to)?))
}

/// The data about the flow whose links are read.
pub(super) struct LinkContext<'a, 'd> {
    pub(super) layout: &'a Layout<'d>,
    pub(super) tasks: &'a BTreeMap<NodeIndex, ResolvedTask>,
    pub(super) outputs: &'a BTreeMap<ScopeIndex, ScopeOutputs>,
    pub(super) inputs: &'a Values,
    pub(super) schemas: Schemas<'a, 'd>,
}

impl LinkContext<'_, '_> {
    /// Reads the links of one flow.
    pub(super) fn read_links(
        &self,
        scope: ScopeIndex,
        is_back_edge: impl Fn(usize) -> bool,
        graph: &Graph,
        properties: &mut LinkProperties,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let flow = self.layout.flow(scope);
        let mut listening_members = Vec::new();
        let links = flow.body.links.iter().enumerate().filter(|(index, _)| !is_back_edge(*index));
        for (_, link) in links {
            let Some((from, to)) = ends(self.layout, scope, link) else { continue };
            if link.on == SourceOutcome::Success && link.when.is_none() {
                if link.reach.is_some() {
                    let message = format!("the link {:?} -> {:?} has `reach` but no condition", link.from, link.to);
                    let hint = "give it a condition with when = \"...\", or leave reach out";
                    diagnostics.push(Diagnostic::warning(link.spans.reach.clone(), message).hint(hint));
                }
                continue;
            }
            if link.on != SourceOutcome::Success {
                self.check_listener(scope, link, (from, to), diagnostics);
                listening_members.push(self.layout.member_with(scope, to.first));
            }
            let reads = link
                .when
                .as_ref()
                .map(|when| self.condition_sources(link, when, from, &mut properties.inputs, diagnostics));
            let wired = Link {
                from: from.last,
                on: link.on,
                when: link.when.clone(),
                reads: reads.unwrap_or_default(),
                reach: link.reach.unwrap_or_default(),
            };
            properties.links.entry(to.first).or_default().push(wired);
        }
        self.mark_failure_handlers(
            scope,
            graph,
            listening_members.into_iter().flatten().collect(),
            properties,
            diagnostics,
        );
    }

    fn check_listener(
        &self,
        scope: ScopeIndex,
        link: &DraftLink,
        (from, to): (&Member<'_>, &Member<'_>),
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let flow = self.layout.flow(scope);
        if flow.body.pattern == Pattern::Linear {
            let message = format!("{:?} listens to a failure in the linear flow {:?}", link.to, flow.name);
            let hint =
                "every later task would become a failure handler too: let the flow be a graph, and link its tasks";
            diagnostics.push(Diagnostic::error(link.spans.on.clone(), message).hint(hint));
        }
        for (member, hint) in [(from, "link the tasks in it, each with a link of its own"), (to, "let a task listen")] {
            if member.nested.is_some() {
                let message =
                    format!("a link with on = \"failure\" or \"any\" joins tasks, and {:?} is a flow", member.name);
                diagnostics.push(Diagnostic::error(link.spans.on.clone(), message).hint(hint));
            }
        }
    }

    /// The sources of the values that a condition reads.
    pub(super) fn condition_sources(
        &self,
        link: &DraftLink,
        when: &Condition,
        from: &Member<'_>,
        inputs: &mut BTreeSet<ValueName>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<(ValueName, Source)> {
        let mut reads = Vec::new();
        for name in when.variables() {
            let value = ValueName::new(&name).ok();
            let source = value.as_ref().and_then(|value| {
                if link.on != SourceOutcome::Success && is_failure(value) {
                    return Some(Source::Failure(vec![from.last]));
                }
                if let Some(node) = self.provider_in(from, value) {
                    return Some(node_source(node, value));
                }
                self.inputs.contains_key(value).then(|| {
                    inputs.insert(value.clone());
                    Source::RunInput(value.clone())
                })
            });
            match value.zip(source) {
                Some(read) => reads.push(read),
                None if !self.is_resolved(from) => {}
                None => {
                    let message = format!(
                        "the condition of the link {:?} -> {:?} reads {name:?}, which neither {:?} provides nor the run starts with",
                        link.from, link.to, link.from
                    );
                    let is_read = diagnostics.len() < suggest::MAX_SUGGESTIONS;
                    let hint = is_read.then(|| self.suggest_value(from, &name)).flatten();
                    let hint = hint.unwrap_or_else(|| match name.as_str() {
                        FAILURE => "`failure` exists only on a link with on = \"failure\" or \"any\"".into(),
                        _ => "a condition reads what its source provides, and inputs".into(),
                    });
                    diagnostics.push(Diagnostic::error(link.spans.when.clone(), message).hint(hint));
                }
            }
        }
        self.check_types(link, when, &reads, diagnostics);
        reads
    }

    /// Checks a condition against the known types of the values that it reads.
    fn check_types(
        &self,
        link: &DraftLink,
        when: &Condition,
        reads: &[(ValueName, Source)],
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let known = reads.iter().filter_map(|(name, source)| Some((name.to_string(), self.schemas.of(source)?)));
        let known: Vec<_> = known.collect();
        let budget = &self.schemas.of_inputs.budget;
        let known = known
            .iter()
            .map(|(name, schema)| (name.clone(), condition::StaticType::of_schema(schema.view().charged_to(budget))));
        for finding in when.check(known) {
            let message = format!("the condition of the link {:?} -> {:?} {}", link.from, link.to, finding.message);
            let span = link.spans.when.clone();
            let diagnostic =
                if finding.is_error { Diagnostic::error(span, message) } else { Diagnostic::warning(span, message) };
            diagnostics.push(diagnostic.hint(finding.hint));
        }
    }

    /// The node of a member that provides a value.
    fn provider_in(&self, member: &Member<'_>, value: &ValueName) -> Option<NodeIndex> {
        match member.nested {
            None => {
                self.tasks[&member.first].provides.values().any(|provided| provided == value).then_some(member.last)
            }
            Some(nested) => Some(self.outputs.get(&nested)?.get(value)?.node),
        }
    }

    /// The name closest to one that a condition cannot read, among what its source provides and the inputs.
    fn suggest_value(&self, from: &Member<'_>, name: &str) -> Option<String> {
        let provided: BTreeSet<&ValueName> = match from.nested {
            None => self.tasks[&from.first].provides.values().collect(),
            Some(nested) => self.outputs.get(&nested).into_iter().flat_map(BTreeMap::keys).collect(),
        };
        suggest::did_you_mean(name, provided.into_iter().chain(self.inputs.keys()).map(ValueName::as_str))
    }

    /// Whether the values that a member provides are known.
    fn is_resolved(&self, member: &Member<'_>) -> bool {
        self.tasks.range(member.first..=member.last).all(|(_, task)| task.is_resolved())
    }

    /// A failure listener, and every node after it, is not rolled back with the flow.
    fn mark_failure_handlers(
        &self,
        scope: ScopeIndex,
        graph: &Graph,
        mut work: Vec<usize>,
        properties: &mut LinkProperties,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let flow = self.layout.flow(scope);
        while let Some(member) = work.pop() {
            let Member { name, first, nested, .. } = &flow.members[member];
            if !properties.failure_handlers.insert(*first) {
                continue;
            }
            let span = self.layout.span(*first, "name");
            if nested.is_some() {
                let message = format!("flow {name:?} comes after a task that listens to a failure");
                let hint = "only tasks can: they are not rolled back with the rest";
                diagnostics.push(Diagnostic::error(span, message).hint(hint));
            } else if self.layout.task(*first).is_some_and(|task| task.rollback == Some(true)) {
                let message = format!("task {name:?} has a rollback, and is a failure handler or follows one");
                let hint = "such a task is never rolled back: leave rollback out";
                diagnostics.push(Diagnostic::error(self.layout.span(*first, "rollback"), message).hint(hint));
            }
            if self.layout.task(*first).is_some_and(|task| task.starts.is_some()) {
                let message = format!("task {name:?} starts later, and is a failure handler or follows one");
                let hint = "the failed task is rolled back by then: let the handler start at once";
                diagnostics.push(Diagnostic::error(self.layout.span(*first, "name"), message).hint(hint));
            }
            work.extend(&graph.after[member]);
        }
    }
}
