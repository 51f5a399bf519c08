//! Resolves the requirements that nothing in the flow provides: by the run's inputs, or by a diagnostic with a hint.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    layout::Layout,
    node_source,
    scope_resolver::ResolvedInput,
    task::{self, MayProvide, Modules, Requirement, ResolvedTask},
};
use crate::{
    Diagnostic, Draft, NodeIndex, Pattern, ValueName, Values,
    draft::{DraftTaskKind, MissingModule},
    graph::Source,
    suggest,
};

/// The maximum number of tasks that a diagnostic names for one module.
const MAX_NAMED: usize = 10;

/// Reports each module that was not found, once, with the tasks that use it.
pub(super) fn report_missing_modules(layout: &Layout<'_>, modules: &Modules<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (_, task) in layout.tasks() {
        if let DraftTaskKind::Call(uses) = &task.kind {
            users.entry(task::alias_of(uses)).or_default().push(task.name.as_str());
        }
    }
    for (alias, reference) in modules.named.iter().filter(|(alias, _)| modules.is_missing(alias)) {
        let users = users.get(alias.as_str()).map_or(&[][..], Vec::as_slice);
        // An empty reference has its own diagnostic. An unused module is reported only if a lookup has failed.
        if reference.text.is_empty() || (users.is_empty() && reference.missing.is_none()) {
            continue;
        }
        let named = task::quoted(users.iter().take(MAX_NAMED).copied());
        let more = users.len().saturating_sub(MAX_NAMED);
        let used_by = match (users.len(), more) {
            (0, _) => String::new(),
            (1, _) => format!(", which task {named} uses,"),
            (_, 0) => format!(", which tasks {named} use,"),
            (_, more) => format!(", which tasks {named} and {more} more use,"),
        };
        let not_found = "build the module, or name a file, a tag (`waft modules` lists them) or a digest";
        let (what, hint) = match &reference.missing {
            None => ("was not found".to_owned(), Some(not_found)),
            Some(MissingModule::NotFound { reason }) => (format!("was not found: {reason}"), Some(not_found)),
            Some(MissingModule::Unusable { reason, hint }) => {
                (format!("cannot be used here: {reason}"), hint.as_deref())
            }
        };
        let diagnostic = Diagnostic::error(reference.span.clone(), format!("module {alias:?}{used_by} {what}"));
        diagnostics.push(Diagnostic { hint: hint.map(str::to_owned), ..diagnostic });
    }
}

/// The flow, with all requirements collected.
pub(super) struct RootResolver<'a, 'd> {
    pub(super) layout: &'a Layout<'d>,
    pub(super) draft: &'d Draft,
    pub(super) tasks: &'a BTreeMap<NodeIndex, ResolvedTask>,
    pub(super) inputs: &'a Values,
    pub(super) providers: &'a BTreeMap<ValueName, Vec<NodeIndex>>,
}

impl RootResolver<'_, '_> {
    /// Resolves the remaining requirements, or reports those without a provider.
    ///
    /// In a persistent flow a notification may contain values that nothing provides: the tasks that need them are recorded.
    pub(super) fn resolve(
        &self,
        requirements: Vec<Requirement>,
        awaiting: &mut BTreeSet<NodeIndex>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<ResolvedInput> {
        let mut resolved = Vec::new();
        let possible = self.possible_values();
        for requirement in requirements {
            let source = if self.inputs.contains_key(&requirement.value) {
                Source::RunInput(requirement.value.clone())
            } else if let Some(provider) = requirement.reversed_provider.filter(|_| requirement.loop_carried.is_empty())
            {
                if !requirement.optional {
                    diagnostics.push(self.reversed_by_link(&requirement, provider));
                }
                node_source(provider, &requirement.value)
            } else if self.draft.triggers.persistent {
                if !requirement.optional && requirement.loop_carried.is_empty() {
                    awaiting.insert(requirement.node);
                }
                Source::RunInput(requirement.value.clone())
            } else if requirement.optional {
                Source::Absent
            } else if !requirement.loop_carried.is_empty() {
                diagnostics.push(self.missing_initial_value(&requirement));
                Source::Absent
            } else {
                // A task with an unknown callee may provide it.
                if possible.as_ref().is_some_and(|possible| !possible.contains(&requirement.value)) {
                    let diagnostic = self.missing(&requirement, diagnostics.len());
                    diagnostics.push(diagnostic);
                }
                continue;
            };
            resolved.push(ResolvedInput {
                node: requirement.node,
                input: requirement.input,
                source: requirement.or_loop_carried(source),
            });
        }
        resolved
    }

    /// The values that tasks with an unknown callee may provide; `None` where they may provide any.
    fn possible_values(&self) -> Option<BTreeSet<&ValueName>> {
        let (mut possible, mut seen) = (BTreeSet::new(), BTreeSet::new());
        for task in self.tasks.values() {
            match &task.may_provide {
                MayProvide::Nothing => {}
                // The tasks of a module share its values.
                MayProvide::OneOf(values) if seen.insert(Arc::as_ptr(values)) => possible.extend(values.iter()),
                MayProvide::OneOf(_) => {}
                MayProvide::Anything => return None,
            }
        }
        Some(possible)
    }

    fn missing_initial_value(&self, requirement: &Requirement) -> Diagnostic {
        let consumer = self.layout.describe(requirement.node);
        let message =
            format!("{consumer} requires {:?}, which is available only from the second firing on", requirement.value);
        let hint = format!("let the first one begin with it: write {} under [inputs]", requirement.value);
        Diagnostic::error(self.span(requirement), message).hint(hint)
    }

    /// Warns of inputs that no task reads.
    pub(super) fn unused(
        &self,
        resolved_inputs: &[ResolvedInput],
        condition_inputs: &BTreeSet<ValueName>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        if !self.is_resolved() {
            return;
        }
        let read: BTreeSet<&ValueName> = resolved_inputs
            .iter()
            .filter_map(|resolved| read_input(&resolved.source))
            .chain(condition_inputs)
            .collect();
        for name in self.inputs.keys().filter(|name| !read.contains(name) && !self.providers.contains_key(*name)) {
            let span = self.draft.input_spans.get(name).cloned();
            let required =
                self.tasks.values().flat_map(|task| &task.requirements).map(|requirement| requirement.value.as_str());
            let is_read = diagnostics.len() < suggest::MAX_SUGGESTIONS;
            let others = required.filter(|required| *required != name.as_str());
            let hint = is_read.then(|| suggest::did_you_mean(name.as_str(), others)).flatten();
            let diagnostic = Diagnostic::warning(span, format!("no task requires input {name:?}"));
            diagnostics.push(diagnostic.hint(hint.unwrap_or_else(|| "leave it out".into())));
        }
    }

    /// Whether the callee of every task is known.
    fn is_resolved(&self) -> bool {
        self.tasks.values().all(ResolvedTask::is_resolved)
    }

    fn reversed_by_link(&self, requirement: &Requirement, provider: NodeIndex) -> Diagnostic {
        let (consumer, provider) = (self.layout.describe(requirement.node), self.layout.describe(provider));
        let message = format!("{consumer} requires {:?} of {provider}, but a link puts it first", requirement.value);
        let span = self.span(requirement);
        let hint = "its attempt will fail with missing-input: reverse the link, or use another provider";
        Diagnostic::warning(span, message).hint(hint)
    }

    /// `reported` is the number of diagnostics that were reported already.
    fn missing(&self, requirement: &Requirement, reported: usize) -> Diagnostic {
        let consumer = self.layout.describe(requirement.node);
        let renamed = if requirement.parameter == requirement.value {
            String::new()
        } else {
            format!(" (its {:?})", requirement.parameter)
        };
        let provider = self
            .providers
            .get(&requirement.value)
            .and_then(|nodes| nodes.iter().find(|node| **node != requirement.node));
        let is_own_value = self.providers.contains_key(&requirement.value);
        let (problem, hint) = match provider {
            Some(provider) => ("nothing before it provides", Some(self.missing_reason(requirement, *provider))),
            None if is_own_value => {
                ("only it provides itself", Some("let another provide it, or rename one of the two".into()))
            }
            None if reported < suggest::MAX_SUGGESTIONS => ("nothing provides", self.suggestion(requirement)),
            None => ("nothing provides", None),
        };
        let message = format!("{consumer} requires {:?}{renamed}, which {problem}", requirement.value);
        let otherwise =
            || format!("give it with --set {0}=VALUE, under [inputs], or let a task provide it", requirement.value);
        Diagnostic::error(self.span(requirement), message).hint(hint.unwrap_or_else(otherwise))
    }

    fn span(&self, requirement: &Requirement) -> crate::draft::Span {
        let is_list = self.layout.task(requirement.node).is_some_and(|task| task.iterates_over(&requirement.value));
        let part = if is_list { "for_each".into() } else { format!("requires.{}", requirement.parameter) };
        self.layout.span(requirement.node, &part)
    }

    /// Why a value is not available although some node provides it.
    fn missing_reason(&self, requirement: &Requirement, provider: NodeIndex) -> String {
        let described = self.layout.describe(provider);
        let mut scope = self.layout.scope_of(requirement.node);
        let is_controller = self.layout.flow(scope).begin == requirement.node;
        if is_controller && self.layout.member_with(scope, provider).is_some() {
            return format!("{described} provides it, but only after the retry controller of its flow has started");
        }
        let (flow, before, after) = loop {
            let flow = self.layout.flow(scope);
            let members =
                self.layout.member_with(scope, provider).zip(self.layout.member_with(scope, requirement.node));
            match (members, flow.parent) {
                (Some((before, after)), _) if before != after => break (flow, before, after),
                (Some(_) | None, Some(parent)) => scope = parent.scope,
                (Some(_) | None, None) => return format!("{described} provides it, but not to it"),
            }
        };
        let name = |member: usize| &flow.members[member].name;
        match flow.body.pattern {
            Pattern::Linear => {
                format!("{described} provides it, but comes after it: change the order of flow {:?}", flow.name)
            }
            Pattern::Unordered => format!(
                "{described} provides it, but flow {:?} is unordered: link {:?} -> {:?}",
                flow.name,
                name(before),
                name(after)
            ),
            Pattern::Graph => format!("{described} provides it, but links put it after {:?}", name(after)),
        }
    }

    /// The most likely intended value, where a value does not exist at all.
    fn suggestion(&self, requirement: &Requirement) -> Option<String> {
        let task = self.layout.task(requirement.node);
        let constants = task.into_iter().flat_map(|task| task.with.keys()).map(ValueName::as_str);
        let parameter = requirement.parameter.as_str();
        if let Some(constant) = suggest::closest(parameter, constants) {
            return Some(format!("`with` says {constant:?}: did you mean {parameter:?}?"));
        }
        let known = self.providers.keys().chain(self.inputs.keys()).map(ValueName::as_str);
        suggest::did_you_mean(requirement.value.as_str(), known)
    }
}

/// The input of the run that a source reads.
fn read_input(source: &Source) -> Option<&ValueName> {
    match source {
        Source::RunInput(name) => Some(name),
        Source::LoopCarried { initial, .. } => read_input(initial),
        Source::Constant(_) | Source::Node { .. } | Source::Element | Source::Failure(_) | Source::Absent => None,
    }
}
