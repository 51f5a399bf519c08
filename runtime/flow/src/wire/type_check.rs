//! Type checks: values against the parameters that receive them, as far as modules describe their types.

use std::collections::BTreeMap;

use super::{
    layout::Layout,
    schemas::{InputSchemas, Schemas},
    scope_resolver::ResolvedInput,
    task::{ParameterSpec, ResolvedTask},
};
use crate::{
    Diagnostic, Draft, NodeIndex, Task, Value, ValueName, Values,
    draft::{DraftTaskKind, Span},
    graph::{NotificationInput, Role, Source},
    schema::{Budget, ReadValue},
    value_types::{ValueType, ValueTypes},
};

/// The maximum size of the schemas that a flow keeps for the values of its notifications, in bytes: many hundreds of parameters with
/// schemas of some kilobytes.
const MAX_NOTIFICATION_SCHEMA_BYTES: usize = 4 << 20;

/// A flow whose requirements are resolved.
pub(super) struct TypeChecker<'a, 'd> {
    pub(super) layout: &'a Layout<'d>,
    pub(super) draft: &'a Draft,
    pub(super) tasks: &'a BTreeMap<NodeIndex, ResolvedTask>,
    pub(super) inputs: &'a Values,
    pub(super) has_triggers: bool,
    pub(super) of_inputs: &'a InputSchemas,
    /// The steps that are left to compare values with schemas: a flow may have thousands of both.
    pub(super) budget: Budget,
}

/// What is said about a value that does not fit.
struct Subject {
    text: String,
    span: Span,
}

/// The parameter that receives a value.
struct ParameterTarget<'a> {
    node: NodeIndex,
    parameter: &'a ValueName,
    spec: &'a ParameterSpec,
}

impl<'a> TypeChecker<'a, '_> {
    /// The parameter of an input; `None` where its type is unknown, or it is the list of a `for_each`.
    fn target(&self, node: NodeIndex, input: usize) -> Option<ParameterTarget<'a>> {
        let resolved = self.tasks.get(&node)?;
        let parameter = &call(&resolved.role)?.inputs.get(input)?.parameter;
        Some(ParameterTarget { node, parameter, spec: resolved.described.parameters.get(parameter)? })
    }

    /// The parameter that receives each element of a `for_each` list.
    fn element_target(&self, node: NodeIndex) -> Option<ParameterTarget<'a>> {
        let inputs = &call(&self.tasks.get(&node)?.role)?.inputs;
        let index = inputs.iter().position(|input| input.source == Source::Element)?;
        self.target(node, index)
    }

    /// Checks constants, and lists in the flow itself.
    pub(super) fn check_constants(&self, diagnostics: &mut Vec<Diagnostic>) {
        for (node, task) in self.layout.tasks() {
            let Some(called) = call(&self.tasks[&node].role) else { continue };
            for (index, input) in called.inputs.iter().enumerate() {
                let Source::Constant(value) = &input.source else { continue };
                let Some(target) = self.target(node, index) else { continue };
                let text = format!("{:?} in \"with\" of task {:?} does not fit", target.parameter, task.name);
                let subject = Subject { text, span: task.span(&format!("with.{}", target.parameter)) };
                diagnostics.extend(self.mismatch(&target, value, &mut None, subject));
            }
            let Role::ForEach(each) = &self.tasks[&node].role else { continue };
            if let Source::Constant(value @ Value::Json(_)) = &each.list {
                let text = format!("\"for_each\" of task {:?} does not fit", task.name);
                let subject = Subject { text, span: task.span("for_each") };
                diagnostics.extend(self.element_mismatch(node, value, &mut None, subject));
            }
        }
    }

    /// Checks the inputs of the run against all their parameters. Each input is read once for all of them.
    pub(super) fn check_inputs(&self, resolved_inputs: &[ResolvedInput], diagnostics: &mut Vec<Diagnostic>) {
        let mut parameters: BTreeMap<&ValueName, Vec<usize>> = BTreeMap::new();
        for (index, resolved) in resolved_inputs.iter().enumerate() {
            if let Some(name) = read_input(&resolved.source) {
                parameters.entry(name).or_default().push(index);
            }
        }
        let mut found: Vec<(usize, Diagnostic)> = Vec::new();
        for (name, indices) in parameters {
            let Some((name, value)) = self.inputs.get_key_value(name) else { continue };
            let mut read = None;
            for index in indices {
                let mismatch = self.input_mismatch(&resolved_inputs[index], (name, value), &mut read);
                found.extend(mismatch.map(|diagnostic| (index, diagnostic)));
            }
        }
        // In the order of the tasks.
        found.sort_by_key(|(index, _)| *index);
        diagnostics.extend(found.into_iter().map(|(_, diagnostic)| diagnostic));
    }

    /// Why an input does not fit a parameter.
    fn input_mismatch(
        &self,
        resolved: &ResolvedInput,
        (name, value): (&ValueName, &Value),
        read: &mut Option<ReadValue>,
    ) -> Option<Diagnostic> {
        let text = || format!("input {name:?} does not fit {}", self.layout.describe(resolved.node));
        let span =
            |key: &str| self.draft.input_spans.get(name).cloned().or_else(|| self.layout.span(resolved.node, key));
        let diagnostic = if let Some(target) = self.target(resolved.node, resolved.input) {
            let span = span(&format!("requires.{}", target.parameter));
            self.mismatch(&target, value, read, Subject { text: text(), span })
        } else if self.is_list(resolved) {
            match value {
                Value::Json(list) if list.as_str().trim_start().starts_with('[') => {
                    let subject = Subject { text: text(), span: span("for_each") };
                    self.element_mismatch(resolved.node, value, read, subject)
                }
                Value::Json(_) | Value::Bytes(_) => {
                    let message = format!("{}: \"for_each\" needs a list", text());
                    Some(Diagnostic::error(span("for_each"), message).hint("give it a list such as [1, 2, 3]"))
                }
                Value::Stored(_) => None,
            }
        } else {
            None
        };
        match value {
            Value::Bytes(_) => diagnostic.map(|diagnostic| {
                diagnostic.hint(format!(
                    "it is bytes, as `--set-file` gives them; `--set {name}=JSON` gives JSON, in a shell that of a file as \
                     `--set {name}=\"$(cat FILE)\"`"
                ))
            }),
            Value::Json(_) | Value::Stored(_) => diagnostic,
        }
    }

    /// Checks values between tasks; reports those whose types surely differ.
    pub(super) fn check_between(&self, resolved_inputs: &[ResolvedInput], diagnostics: &mut Vec<Diagnostic>) {
        let inputs = (!self.has_triggers).then_some(self.inputs);
        let schemas = Schemas { layout: self.layout, tasks: self.tasks, inputs, of_inputs: self.of_inputs };
        for resolved in resolved_inputs {
            for (source, value) in of_nodes(&resolved.source) {
                let Some(provided) = schemas.of(&source) else { continue };
                let (Source::Node { node: provider, .. }, Some(target)) =
                    (&source, self.target(resolved.node, resolved.input))
                else {
                    continue;
                };
                let (provided_types, accepted_types) = (provided.types(), target.types());
                let mut conflict = None;
                if !provided_types.and(accepted_types).is_empty() {
                    // Of a loop-carried value, another provider may give one that fits.
                    if matches!(resolved.source, Source::Node { .. }) {
                        let spec = target.spec;
                        conflict = provided.conflict_with(&spec.schema, spec.optional, &self.budget);
                    }
                    if conflict.is_none() {
                        continue;
                    }
                }
                let (consumer, provider) = (self.layout.describe(target.node), self.layout.describe(*provider));
                let parameter = target.parameter;
                let message = match conflict {
                    None => format!(
                        "{consumer} takes {accepted_types} as {parameter:?}, and {value:?} of {provider} is {provided_types}"
                    ),
                    Some(conflict) => format!(
                        "{value:?} of {provider} never fits {consumer}, which takes it as {parameter:?}: {conflict}"
                    ),
                };
                let span = self.layout.span(target.node, &format!("requires.{parameter}"));
                diagnostics.push(Diagnostic::error(span, message).hint(self.hint(&target)));
            }
            if self.is_list(resolved) {
                self.check_list(&schemas, resolved, diagnostics);
            }
        }
    }

    /// The parameter types of values that notifications contain. The flow keeps the schemas, so they have a maximum size.
    pub(super) fn notification_inputs(
        &self,
        resolved_inputs: &[ResolvedInput],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<NotificationInput> {
        let mut notification_inputs = Vec::new();
        let (mut bytes, mut is_reported) = (0, false);
        for resolved in resolved_inputs {
            let (target, is_list) = match self.target(resolved.node, resolved.input) {
                Some(target) => (target, false),
                None if self.is_list(resolved) => match self.element_target(resolved.node) {
                    Some(target) => (target, true),
                    None => continue,
                },
                None => continue,
            };
            let mut values = Vec::new();
            self.check_notification_inputs(&resolved.source, &mut values);
            // A record names the schema of each.
            let of_values = target.spec.text.as_str().len() * values.len();
            if bytes + of_values > MAX_NOTIFICATION_SCHEMA_BYTES {
                if !is_reported {
                    diagnostics.push(self.too_large_schemas(&target));
                }
                is_reported = true;
                continue;
            }
            bytes += of_values;
            notification_inputs.extend(values.into_iter().map(|(from, value)| NotificationInput {
                from,
                value,
                by: target.node,
                parameter: target.parameter.clone(),
                schema: target.spec.text.clone(),
                is_list,
                optional: target.spec.optional && !is_list,
            }));
        }
        notification_inputs
    }

    fn too_large_schemas(&self, target: &ParameterTarget<'_>) -> Diagnostic {
        let message = format!(
            "the schemas of the values that notifications contain have more than {MAX_NOTIFICATION_SCHEMA_BYTES} bytes: that of {:?} of \
             {} and others are not compared with them",
            target.parameter,
            self.layout.describe(target.node)
        );
        let span = self.layout.span(target.node, &format!("requires.{}", target.parameter));
        Diagnostic::warning(span, message).hint("let the modules describe their parameters by smaller schemas")
    }

    /// Collects the values of a source that notifications contain, and the waiting tasks that they complete.
    fn check_notification_inputs(&self, source: &Source, values: &mut Vec<(Option<NodeIndex>, ValueName)>) {
        let is_waiting = |node: &NodeIndex| matches!(self.tasks.get(node).map(|task| &task.role), Some(Role::Wait(_)));
        match source {
            Source::Node { node, value } if is_waiting(node) => values.push((Some(*node), value.clone())),
            Source::RunInput(name) if self.has_triggers => values.push((None, name.clone())),
            Source::LoopCarried { nodes, value, initial } => {
                values.push((None, value.clone()));
                values.extend(nodes.iter().filter(|node| is_waiting(node)).map(|node| (Some(*node), value.clone())));
                self.check_notification_inputs(initial, values);
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
    fn check_list(&self, schemas: &Schemas<'_, '_>, resolved: &ResolvedInput, diagnostics: &mut Vec<Diagnostic>) {
        for (source, value) in of_nodes(&resolved.source) {
            let Some(provided) = schemas.of(&source) else { continue };
            let (consumer, types) = (self.layout.describe(resolved.node), provided.types());
            let span = self.layout.span(resolved.node, "for_each");
            if !types.has(ValueType::List) {
                let message = format!("{consumer} goes through {value:?} with \"for_each\", and that is {types}");
                diagnostics.push(Diagnostic::error(span, message).hint("name a value that is a list"));
                continue;
            }
            let (Some(element), Some(target)) = (provided.view().element(), self.element_target(resolved.node)) else {
                continue;
            };
            let (provided_types, accepted_types) = (element.types_by(&self.budget), target.types());
            if provided_types.and(accepted_types).is_empty() {
                let message = format!(
                    "{consumer} takes {accepted_types} as {:?}, and each element of {value:?} is {provided_types}",
                    target.parameter
                );
                diagnostics.push(Diagnostic::error(span, message).hint(self.hint(&target)));
            }
        }
    }

    /// Whether an input is the list of a task or of a controller.
    fn is_list(&self, resolved: &ResolvedInput) -> bool {
        match self.tasks.get(&resolved.node).map(|task| &task.role) {
            Some(Role::ForEach(each)) => resolved.input >= each.task.inputs.len(),
            Some(Role::Task(_) | Role::Wait(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End) => {
                false
            }
            // Besides tasks, only a controller requires a value: its list.
            None => true,
        }
    }

    /// Why a value does not fit a parameter. It is read if nobody has read it before.
    fn mismatch(
        &self,
        target: &ParameterTarget<'_>,
        value: &Value,
        read: &mut Option<ReadValue>,
        subject: Subject,
    ) -> Option<Diagnostic> {
        let is_null = |value: &Value| matches!(value, Value::Json(json) if json.as_str().trim() == "null");
        if target.spec.optional && is_null(value) {
            return None;
        }
        let read = read.get_or_insert_with(|| ReadValue::new(value, &self.budget));
        let mismatch = target.spec.schema.mismatch_within(read, &self.budget)?;
        Some(Diagnostic::error(subject.span, format!("{}: {mismatch}", subject.text)).hint(self.hint(target)))
    }

    fn element_mismatch(
        &self,
        node: NodeIndex,
        list: &Value,
        read: &mut Option<ReadValue>,
        subject: Subject,
    ) -> Option<Diagnostic> {
        let target = self.element_target(node)?;
        let read = read.get_or_insert_with(|| ReadValue::new(list, &self.budget));
        let (index, mismatch) = target.spec.schema.element_mismatch(read, &self.budget)?;
        let message = format!("{}: of its element {index}, {mismatch}", subject.text);
        Some(Diagnostic::error(subject.span, message).hint(self.hint(&target)))
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
        let types = self.spec.schema.types();
        if self.spec.optional { types.or(ValueTypes::of(ValueType::Null)) } else { types }
    }
}

fn call(role: &Role) -> Option<&Task> {
    match role {
        Role::Task(task) => Some(task),
        Role::ForEach(each) => Some(&each.task),
        Role::Wait(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => None,
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

/// The values that a source takes from nodes, as separate sources.
fn of_nodes(source: &Source) -> Vec<(Source, ValueName)> {
    match source {
        Source::Node { value, .. } => vec![(source.clone(), value.clone())],
        Source::LoopCarried { nodes, value, initial } => {
            let carried = nodes.iter().map(|node| (super::node_source(*node, value), value.clone()));
            carried.chain(of_nodes(initial)).collect()
        }
        Source::Constant(_) | Source::RunInput(_) | Source::Element | Source::Failure(_) | Source::Absent => Vec::new(),
    }
}
