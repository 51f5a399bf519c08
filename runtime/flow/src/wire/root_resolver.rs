//! Resolves the requirements that nothing in the flow provides: by the run's inputs, or by a diagnostic with a hint.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    layout::Layout,
    node_source,
    scope_resolver::ResolvedInput,
    task::{self, Modules, Requirement, ResolvedTask},
};
use crate::{Diagnostic, Draft, DraftTaskKind, NodeIndex, Pattern, Source, ValueName, Values, suggest};

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
        let why = reference.missing.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let message = format!("module {alias:?}{used_by} was not found{why}");
        let hint = "build the module, or name a file, a tag (`waft modules` lists them) or a digest";
        diagnostics.push(Diagnostic::error(reference.span.clone(), message).hint(hint));
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
        wants: Vec<Requirement>,
        awaiting: &mut BTreeSet<NodeIndex>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<ResolvedInput> {
        let mut answers = Vec::new();
        for want in wants {
            let source = if self.inputs.contains_key(&want.value) {
                Source::RunInput(want.value.clone())
            } else if let Some(provider) = want.reversed_provider.filter(|_| want.loop_carried.is_empty()) {
                if !want.optional {
                    diagnostics.push(self.reversed_by_link(&want, provider));
                }
                node_source(provider, &want.value)
            } else if self.draft.triggers.persistent {
                if !want.optional && want.loop_carried.is_empty() {
                    awaiting.insert(want.node);
                }
                Source::RunInput(want.value.clone())
            } else if want.optional {
                Source::Absent
            } else if !want.loop_carried.is_empty() {
                diagnostics.push(self.missing_initial_value(&want));
                Source::Absent
            } else {
                // A task with an unknown callee may provide it.
                if !self.tasks.values().any(|task| task.may_provide(&want.value)) {
                    let diagnostic = self.missing(&want, diagnostics.len());
                    diagnostics.push(diagnostic);
                }
                continue;
            };
            answers.push(ResolvedInput { node: want.node, input: want.input, source: want.or_loop_carried(source) });
        }
        answers
    }

    fn missing_initial_value(&self, want: &Requirement) -> Diagnostic {
        let consumer = self.layout.describe(want.node);
        let message = format!("{consumer} requires {:?}, which comes round only with the second turn", want.value);
        let hint = format!("let the first one begin with it: write {} under [inputs]", want.value);
        Diagnostic::error(self.span(want), message).hint(hint)
    }

    /// Warns of inputs that no task reads.
    pub(super) fn unused(
        &self,
        answers: &[ResolvedInput],
        asked: &BTreeSet<ValueName>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        if !self.is_resolved() {
            return;
        }
        let read: BTreeSet<&ValueName> =
            answers.iter().filter_map(|answer| read_input(&answer.source)).chain(asked).collect();
        for name in self.inputs.keys().filter(|name| !read.contains(name) && !self.providers.contains_key(*name)) {
            let span = self.draft.input_spans.get(name).cloned();
            let wanted = self.tasks.values().flat_map(|task| &task.requirements).map(|want| want.value.as_str());
            let is_read = diagnostics.len() < suggest::MAX_SUGGESTIONS;
            let others = wanted.filter(|wanted| *wanted != name.as_str());
            let hint = is_read.then(|| suggest::did_you_mean(name.as_str(), others)).flatten();
            let diagnostic = Diagnostic::warning(span, format!("no task requires input {name:?}"));
            diagnostics.push(diagnostic.hint(hint.unwrap_or_else(|| "leave it out".into())));
        }
    }

    /// Whether the callee of every task is known.
    fn is_resolved(&self) -> bool {
        self.tasks.values().all(ResolvedTask::is_resolved)
    }

    fn reversed_by_link(&self, want: &Requirement, provider: NodeIndex) -> Diagnostic {
        let (consumer, provider) = (self.layout.describe(want.node), self.layout.describe(provider));
        let message = format!("{consumer} requires {:?} of {provider}, but a link puts it first", want.value);
        let span = self.span(want);
        let hint = "its attempt will fail with missing-input: turn the link round, or take the value from elsewhere";
        Diagnostic::warning(span, message).hint(hint)
    }

    /// `told` is the number of diagnostics that were reported already.
    fn missing(&self, want: &Requirement, told: usize) -> Diagnostic {
        let consumer = self.layout.describe(want.node);
        let renamed = if want.parameter == want.value { String::new() } else { format!(" (its {:?})", want.parameter) };
        let provider = self.providers.get(&want.value).and_then(|nodes| nodes.iter().find(|node| **node != want.node));
        let is_its_own = self.providers.contains_key(&want.value);
        let (lacks, hint) = match provider {
            Some(provider) => ("nothing before it provides", Some(self.missing_reason(want, *provider))),
            None if is_its_own => {
                ("only it provides itself", Some("let another provide it, or rename one of the two".into()))
            }
            None if told < suggest::MAX_SUGGESTIONS => ("nothing provides", self.suggestion(want)),
            None => ("nothing provides", None),
        };
        let message = format!("{consumer} requires {:?}{renamed}, which {lacks}", want.value);
        let otherwise =
            || format!("give it with --set {0}=VALUE, under [inputs], or let a task provide it", want.value);
        Diagnostic::error(self.span(want), message).hint(hint.unwrap_or_else(otherwise))
    }

    fn span(&self, want: &Requirement) -> crate::Span {
        let is_list = self.layout.task(want.node).is_some_and(|task| task.iterates_over(&want.value));
        let part = if is_list { "for_each".into() } else { format!("requires.{}", want.parameter) };
        self.layout.span(want.node, &part)
    }

    /// Why a value is not available although some node provides it.
    fn missing_reason(&self, want: &Requirement, provider: NodeIndex) -> String {
        let who = self.layout.describe(provider);
        let mut scope = self.layout.scope_of(want.node);
        let is_controller = self.layout.flow(scope).begin == want.node;
        if is_controller && self.layout.member_with(scope, provider).is_some() {
            return format!("{who} provides it, but only after the retry controller of its flow has started");
        }
        let (flow, before, after) = loop {
            let flow = self.layout.flow(scope);
            let members = self.layout.member_with(scope, provider).zip(self.layout.member_with(scope, want.node));
            match (members, flow.parent) {
                (Some((before, after)), _) if before != after => break (flow, before, after),
                (Some(_) | None, Some(around)) => scope = around.scope,
                (Some(_) | None, None) => return format!("{who} provides it, but not to it"),
            }
        };
        let name = |member: usize| &flow.members[member].name;
        match flow.body.pattern {
            Pattern::Linear => {
                format!("{who} provides it, but comes after it: change the order of flow {:?}", flow.name)
            }
            Pattern::Unordered => format!(
                "{who} provides it, but flow {:?} is unordered: link {:?} -> {:?}",
                flow.name,
                name(before),
                name(after)
            ),
            Pattern::Graph => format!("{who} provides it, but links put it after {:?}", name(after)),
        }
    }

    /// The most likely intended value, where a value does not exist at all.
    fn suggestion(&self, want: &Requirement) -> Option<String> {
        let task = self.layout.task(want.node);
        let constants = task.into_iter().flat_map(|task| task.with.keys()).map(ValueName::as_str);
        let parameter = want.parameter.as_str();
        if let Some(constant) = suggest::closest(parameter, constants) {
            return Some(format!("`with` says {constant:?}: did you mean {parameter:?}?"));
        }
        let known = self.providers.keys().chain(self.inputs.keys()).map(ValueName::as_str);
        suggest::did_you_mean(want.value.as_str(), known)
    }
}

/// The input of the run that a source reads.
fn read_input(source: &Source) -> Option<&ValueName> {
    match source {
        Source::RunInput(name) => Some(name),
        Source::LoopCarried { initial: first, .. } => read_input(first),
        Source::Constant(_) | Source::Node { .. } | Source::Element | Source::Failure(_) | Source::Absent => None,
    }
}
