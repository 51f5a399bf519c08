//! Type checks: values against the parameters that receive them, as far as modules describe their types.

use std::collections::BTreeMap;

use super::{
    layout::Layout,
    schemas::Schemas,
    scope_resolver::ResolvedInput,
    task::{ParameterSpec, ResolvedTask},
};
use crate::{
    Diagnostic, Draft, DraftTaskKind, Json, NodeIndex, NotificationInput, Role, Source, Span, Task, Value, ValueName,
    Values,
    value_types::{ValueType, ValueTypes},
};

/// A flow whose requirements are resolved.
pub(super) struct TypeChecker<'a, 'd> {
    pub(super) layout: &'a Layout<'d>,
    pub(super) draft: &'a Draft,
    pub(super) tasks: &'a BTreeMap<NodeIndex, ResolvedTask>,
    pub(super) inputs: &'a Values,
    pub(super) has_triggers: bool,
}

/// The parameter that receives a value.
struct ParameterTarget<'a> {
    node: NodeIndex,
    parameter: &'a ValueName,
    takes: &'a ParameterSpec,
}

impl<'a> TypeChecker<'a, '_> {
    /// The parameter of an input; `None` where its type is unknown, or it is the list of a `for_each`.
    fn target(&self, node: NodeIndex, input: usize) -> Option<ParameterTarget<'a>> {
        let resolved = self.tasks.get(&node)?;
        let parameter = &call(&resolved.role)?.inputs.get(input)?.parameter;
        Some(ParameterTarget { node, parameter, takes: resolved.parameters.get(parameter)? })
    }

    /// The parameter that receives each element of a `for_each` list.
    fn element_target(&self, node: NodeIndex) -> Option<ParameterTarget<'a>> {
        let inputs = &call(&self.tasks.get(&node)?.role)?.inputs;
        let place = inputs.iter().position(|input| input.source == Source::Element)?;
        self.target(node, place)
    }

    /// Checks constants, and lists in the flow itself.
    pub(super) fn check_constants(&self, diagnostics: &mut Vec<Diagnostic>) {
        for (node, task) in self.layout.tasks() {
            let Some(called) = call(&self.tasks[&node].role) else { continue };
            for (place, input) in called.inputs.iter().enumerate() {
                let Source::Constant(value) = &input.source else { continue };
                let Some(target) = self.target(node, place) else { continue };
                let what = format!("{:?} in \"with\" of task {:?} does not fit", target.parameter, task.name);
                let span = task.span(&format!("with.{}", target.parameter));
                diagnostics.extend(self.mismatch(&target, value, &what, span));
            }
            let Role::ForEach(each) = &self.tasks[&node].role else { continue };
            if let Source::Constant(Value::Json(list)) = &each.list {
                let what = format!("\"for_each\" of task {:?} does not fit", task.name);
                diagnostics.extend(self.element_mismatch(node, list, &what, task.span("for_each")));
            }
        }
    }

    /// Checks the inputs of the run against all their parameters.
    pub(super) fn check_inputs(&self, answers: &[ResolvedInput], diagnostics: &mut Vec<Diagnostic>) {
        for answer in answers {
            let Some((name, value)) = read_input(&answer.source).and_then(|name| self.inputs.get_key_value(name))
            else {
                continue;
            };
            let who = self.layout.describe(answer.node);
            let what = format!("input {name:?} does not fit {who}");
            let known = diagnostics.len();
            let span = self.draft.input_spans.get(name).cloned();
            if let Some(target) = self.target(answer.node, answer.input) {
                let span = span.or_else(|| self.layout.span(answer.node, &format!("requires.{}", target.parameter)));
                diagnostics.extend(self.mismatch(&target, value, &what, span));
            } else if self.is_list(answer) {
                let span = span.or_else(|| self.layout.span(answer.node, "for_each"));
                diagnostics.extend(match value {
                    Value::Json(list) if list.as_str().trim_start().starts_with('[') => {
                        self.element_mismatch(answer.node, list, &what, span)
                    }
                    Value::Json(_) | Value::Bytes(_) => {
                        let message = format!("{what}: it is no list, and \"for_each\" goes through one");
                        Some(Diagnostic::error(span, message).hint("give it a list such as [1, 2, 3]"))
                    }
                    Value::Stored(_) => None,
                });
            }
            if matches!(value, Value::Bytes(_)) {
                let hint = format!(
                    "it is bytes, as `--set-file` gives them; `--set {name}=JSON` gives JSON, in a shell that of a file as \
                     `--set {name}=\"$(cat FILE)\"`"
                );
                diagnostics[known..].iter_mut().for_each(|diagnostic| diagnostic.hint = Some(hint.clone()));
            }
        }
    }

    /// Checks values between tasks; reports those whose types surely differ.
    pub(super) fn check_between(&self, answers: &[ResolvedInput], diagnostics: &mut Vec<Diagnostic>) {
        let inputs = (!self.has_triggers).then_some(self.inputs);
        let schemas = Schemas { layout: self.layout, tasks: self.tasks, inputs };
        for answer in answers {
            for (source, value) in of_nodes(&answer.source) {
                let Some(provided) = schemas.of(&source) else { continue };
                let (Source::Node { node: provider, .. }, Some(target)) =
                    (&source, self.target(answer.node, answer.input))
                else {
                    continue;
                };
                let (left, taken) = (provided.view().types(), target.types());
                if left.and(taken).is_empty() {
                    let (consumer, provider) = (self.layout.describe(target.node), self.layout.describe(*provider));
                    let message = format!(
                        "{consumer} takes {taken} as {:?}, and {value:?} of {provider} is {left}",
                        target.parameter
                    );
                    let span = self.layout.span(target.node, &format!("requires.{}", target.parameter));
                    diagnostics.push(Diagnostic::error(span, message).hint(self.hint(&target)));
                }
            }
            if self.is_list(answer) {
                self.check_list(&schemas, answer, diagnostics);
            }
        }
    }

    /// The parameter types of values that notifications contain.
    pub(super) fn notification_inputs(&self, answers: &[ResolvedInput]) -> Vec<NotificationInput> {
        let mut accepts = Vec::new();
        for answer in answers {
            let (target, is_list) = match self.target(answer.node, answer.input) {
                Some(target) => (target, false),
                None if self.is_list(answer) => match self.element_target(answer.node) {
                    Some(target) => (target, true),
                    None => continue,
                },
                None => continue,
            };
            let mut brought = Vec::new();
            self.check_notification_inputs(&answer.source, &mut brought);
            accepts.extend(brought.into_iter().map(|(from, value)| NotificationInput {
                from,
                value,
                by: target.node,
                parameter: target.parameter.clone(),
                schema: target.takes.schema.to_json(),
                is_list,
                optional: target.takes.optional && !is_list,
            }));
        }
        accepts
    }

    /// Collects the values of a source that notifications contain, and the waiting tasks that they complete.
    fn check_notification_inputs(&self, source: &Source, brought: &mut Vec<(Option<NodeIndex>, ValueName)>) {
        let waits = |node: &NodeIndex| matches!(self.tasks.get(node).map(|task| &task.role), Some(Role::Wait(_)));
        match source {
            Source::Node { node, value } if waits(node) => brought.push((Some(*node), value.clone())),
            Source::RunInput(name) if self.has_triggers => brought.push((None, name.clone())),
            Source::LoopCarried { nodes, value, initial: first } => {
                brought.push((None, value.clone()));
                brought.extend(nodes.iter().filter(|node| waits(node)).map(|node| (Some(*node), value.clone())));
                self.check_notification_inputs(first, brought);
            }
            Source::Node { .. }
            | Source::RunInput(_)
            | Source::Constant(_)
            | Source::Element
            | Source::Failure(_)
            | Source::Absent => {}
        }
    }

    /// Checks the list of a `for_each` task or a controller, where another task provides it.
    fn check_list(&self, schemas: &Schemas<'_, '_>, answer: &ResolvedInput, diagnostics: &mut Vec<Diagnostic>) {
        for (source, value) in of_nodes(&answer.source) {
            let Some(provided) = schemas.of(&source) else { continue };
            let (who, types) = (self.layout.describe(answer.node), provided.view().types());
            let span = self.layout.span(answer.node, "for_each");
            if !types.has(ValueType::List) {
                let message = format!("{who} goes through {value:?} with \"for_each\", and that is {types}");
                diagnostics.push(Diagnostic::error(span, message).hint("name a value that is a list"));
                continue;
            }
            let (Some(element), Some(target)) = (provided.view().element(), self.element_target(answer.node)) else {
                continue;
            };
            let (left, taken) = (element.types(), target.types());
            if left.and(taken).is_empty() {
                let message =
                    format!("{who} takes {taken} as {:?}, and each element of {value:?} is {left}", target.parameter);
                diagnostics.push(Diagnostic::error(span, message).hint(self.hint(&target)));
            }
        }
    }

    /// Whether an input is the list of a task or of a controller.
    fn is_list(&self, answer: &ResolvedInput) -> bool {
        match self.tasks.get(&answer.node).map(|task| &task.role) {
            Some(Role::ForEach(each)) => answer.input >= each.task.inputs.len(),
            Some(
                Role::Task(_)
                | Role::Wait(_)
                | Role::Element(_)
                | Role::FanIn(_)
                | Role::Controller(_)
                | Role::Begin
                | Role::End,
            ) => false,
            // Besides tasks, only a controller requires a value: its list.
            None => true,
        }
    }

    fn mismatch(&self, target: &ParameterTarget<'_>, value: &Value, what: &str, span: Span) -> Option<Diagnostic> {
        let is_null = |value: &Value| matches!(value, Value::Json(json) if json.as_str().trim() == "null");
        if target.takes.optional && is_null(value) {
            return None;
        }
        let misfit = target.takes.schema.mismatch(value)?;
        Some(Diagnostic::error(span, format!("{what}: {misfit}")).hint(self.hint(target)))
    }

    fn element_mismatch(&self, node: NodeIndex, list: &Json, what: &str, span: Span) -> Option<Diagnostic> {
        let target = self.element_target(node)?;
        let (place, misfit) = target.takes.schema.element_mismatch(list)?;
        let message = format!("{what}: of its element {place}, {misfit}");
        Some(Diagnostic::error(span, message).hint(self.hint(&target)))
    }

    /// A hint where to read the parameters of a task.
    fn hint(&self, target: &ParameterTarget<'_>) -> String {
        let uses = self.layout.task(target.node).map(|task| &task.kind);
        let Some(DraftTaskKind::Call(uses)) = uses else { return "give it another value".into() };
        let (alias, _) = uses.split_once('#').unwrap_or((uses, ""));
        let module = self.draft.modules.get(alias).map_or(alias, |reference| &reference.text);
        format!("`waft inspect {module}` tells what {uses:?} takes")
    }
}

impl ParameterTarget<'_> {
    fn types(&self) -> ValueTypes {
        let types = self.takes.schema.view().types();
        if self.takes.optional { types.or(ValueTypes::of(ValueType::Null)) } else { types }
    }
}

fn call(role: &Role) -> Option<&Task> {
    match role {
        Role::Task(task) => Some(task),
        Role::ForEach(each) => Some(&each.task),
        Role::Wait(_) | Role::Element(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => None,
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

/// The values that a source takes from nodes, as separate sources.
fn of_nodes(source: &Source) -> Vec<(Source, ValueName)> {
    match source {
        Source::Node { value, .. } => vec![(source.clone(), value.clone())],
        Source::LoopCarried { nodes, value, initial: first } => {
            let carried = nodes.iter().map(|node| (super::node_source(*node, value), value.clone()));
            carried.chain(of_nodes(first)).collect()
        }
        Source::Constant(_) | Source::RunInput(_) | Source::Element | Source::Failure(_) | Source::Absent => Vec::new(),
    }
}
