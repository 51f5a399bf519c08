//! Combines a task of the draft with the description in its module.

mod callee;
mod described;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    Diagnostic, Digest, Export, Json, LimitOverrides, Limits, MAX_STACK_BYTES, NodeIndex, Parameter, RetryPolicy,
    Rollback, Schema, Size, Task, TaskInfo, Value, ValueName,
    draft::{DraftForEach, DraftList, DraftTask, DraftTaskKind, Renames},
    file::keys,
    graph::{ForEach, Input, InputUse, Role, Source, Wait},
};

use super::namespace::default_queue;
use callee::Callee;
pub(super) use callee::{Modules, alias_of, quoted};
pub(super) use described::{DescribedTask, ParameterSpec};

/// A task as far as it is resolved.
pub(super) struct ResolvedTask {
    /// The role. Where the callee is unknown, which a diagnostic reports, this is a call of nothing: the rest of the flow is
    /// checked anyway.
    pub(super) role: Role,
    /// The values that its inputs require.
    pub(super) requirements: Vec<Requirement>,
    /// The provided values: the task's name = the flow's name.
    pub(super) provides: Renames,
    /// Further values that it may provide.
    pub(super) may_provide: MayProvide,
    /// The module's schemas of the provided values, by the flow's names; for a `for_each` task, of each element.
    pub(super) schemas: BTreeMap<ValueName, Schema>,
    /// The module's descriptions of its values.
    pub(super) described: Arc<DescribedTask>,
}

/// The values that a task with an unknown callee may provide.
pub(super) enum MayProvide {
    /// None: all its values are known.
    Nothing,
    /// Any of these: it calls some task of a known module.
    OneOf(Arc<BTreeSet<ValueName>>),
    /// Any value.
    Anything,
}

impl ResolvedTask {
    /// Whether all values that it provides are known.
    pub(super) fn is_resolved(&self) -> bool {
        matches!(self.may_provide, MayProvide::Nothing)
    }
}

/// A value that a node requires.
#[derive(Clone)]
pub(super) struct Requirement {
    /// The consumer: a task, or a controller.
    pub(super) node: NodeIndex,
    /// The index of the input that it is for.
    pub(super) input: usize,
    /// The task's name for it.
    pub(super) parameter: ValueName,
    /// The flow's name for it.
    pub(super) value: ValueName,
    pub(super) optional: bool,
    /// The provider, if no link had reversed the order.
    pub(super) reversed_provider: Option<NodeIndex>,
    /// The providers for the next firing.
    pub(super) loop_carried: Vec<NodeIndex>,
}

impl Requirement {
    /// The source of the value: loop-carried if there is a provider for the next firing, otherwise `first`.
    pub(super) fn or_loop_carried(&self, first: Source) -> Source {
        if self.loop_carried.is_empty() {
            return first;
        }
        Source::LoopCarried { nodes: self.loop_carried.clone(), value: self.value.clone(), initial: Box::new(first) }
    }
}

/// One parameter of a task, of either of its two functions.
struct TaskParameter {
    name: ValueName,
    used_by: InputUse,
    /// Whether apply does not require it.
    optional: bool,
    /// Whether the flow must provide it.
    needed: bool,
}

/// Combines a task of the draft with the description in its module.
pub(super) fn resolve(
    index: NodeIndex,
    draft: &DraftTask,
    modules: &Modules<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> ResolvedTask {
    let uses = match &draft.kind {
        DraftTaskKind::Call(uses) => uses,
        DraftTaskKind::Wait(waits_for) => return resolve_waiting_task(draft, waits_for, diagnostics),
    };
    check_deadline(draft, diagnostics);
    check_memo(draft, diagnostics);
    // A module that was not found is reported once, with all tasks that use it.
    let callee = modules.find(draft, uses).map_err(|diagnostic| diagnostics.extend(diagnostic)).ok();
    let callee = callee.filter(|callee| modules.count_values(draft, callee, diagnostics));
    check_retry(draft, diagnostics);
    check_access(draft, diagnostics);
    let provides = provides(draft, callee.as_ref(), diagnostics);
    let rollback = rollback(draft, callee.as_ref(), diagnostics);
    let parameters = task_parameters(draft, callee.as_ref(), rollback, diagnostics);
    let (mut inputs, mut requirements) = inputs(index, draft, &parameters);
    let list = draft.for_each.as_ref().map(|each| {
        if callee.is_some() {
            take_elements(draft, &each.element(), (&mut inputs, &mut requirements), diagnostics);
        }
        list(index, each, inputs.len(), &mut requirements)
    });
    let may_provide = match (&callee, &draft.provides) {
        (Some(_), _) | (None, Some(_)) => MayProvide::Nothing,
        (None, None) => modules.may_provide(uses),
    };
    let described = callee.as_ref().map(|callee| modules.described(uses, callee, rollback)).unwrap_or_default();
    let schemas = described.schemas(&provides);
    let callee = callee.unwrap_or(Callee::Command(Digest::from_bytes([0; 32])));
    let task = task(draft, &callee, inputs, provides.clone(), rollback);
    check_stack(draft, &task, diagnostics);
    let role = match list {
        Some(list) => {
            let max_parallel = draft.for_each.as_ref().and_then(|each| each.max_parallel);
            Role::ForEach(Box::new(ForEach { task, list, max_parallel }))
        }
        None => Role::Task(Box::new(task)),
    };
    ResolvedTask { role, requirements, provides: visible_provides(draft, provides), may_provide, schemas, described }
}

/// Refuses more access than a message may contain.
fn check_access(draft: &DraftTask, diagnostics: &mut Vec<Diagnostic>) {
    if let Err(too_large) = draft.access.check_size() {
        let message = format!("task {:?} asks for too much: {too_large}", draft.name);
        let key = if too_large.is_about_arguments() { "args" } else { "allow" };
        let hint = "let a pattern with * stand for many, or divide the task; pass large texts as inputs";
        diagnostics.push(Diagnostic::error(draft.span(key), message).hint(hint));
    }
}

/// Refuses the deadline of a call.
fn check_deadline(draft: &DraftTask, diagnostics: &mut Vec<Diagnostic>) {
    if draft.deadline.is_some() {
        let message = format!("task {:?} has a deadline, and calls a guest", draft.name);
        let hint = "one that waits has a deadline; a call has a timeout";
        diagnostics.push(Diagnostic::error(draft.span("deadline"), message).hint(hint));
    }
}

/// Refuses to remember the results of a task that depend on more than its inputs.
fn check_memo(draft: &DraftTask, diagnostics: &mut Vec<Diagnostic>) {
    if draft.access.memo.is_some() && draft.access.needs_grants() {
        let message = format!("task {:?} has memo and allow: its results depend on more than its inputs", draft.name);
        let hint = "leave out memo, or move what it may reach into a task of its own, and pass the values on";
        diagnostics.push(Diagnostic::error(draft.span("memo"), message).hint(hint));
    }
}

/// Refuses a retry without attempts.
fn check_retry(draft: &DraftTask, diagnostics: &mut Vec<Diagnostic>) {
    if draft.retry.is_some_and(|retry| retry.attempts == 0) {
        let message = format!("the retry of task {:?} has no attempts", draft.name);
        diagnostics.push(
            Diagnostic::error(draft.span("retry"), message).hint("the first one counts: write attempts = 1 or more"),
        );
    }
}

/// The parameters of a task; for an unknown callee, those that the draft names.
fn task_parameters(
    draft: &DraftTask,
    callee: Option<&Callee<'_>>,
    rollback: bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<TaskParameter> {
    match callee {
        Some(Callee::Task(_, info)) => {
            check_requires(draft, info, diagnostics);
            parameters(info, rollback)
        }
        Some(Callee::Command(_)) | None => {
            let names = draft.requires.iter().flat_map(BTreeMap::keys);
            let parameter = |name: &ValueName| TaskParameter {
                name: name.clone(),
                used_by: InputUse::ApplyAndRollback,
                optional: false,
                needed: true,
            };
            names.map(parameter).collect()
        }
    }
}

/// Refuses a stack size that no sandbox allows.
fn check_stack(draft: &DraftTask, task: &Task, diagnostics: &mut Vec<Diagnostic>) {
    let stack = task.limits.stack;
    if stack > MAX_STACK_BYTES {
        let message = format!(
            "task {:?} has a stack of {}, and the largest is {}",
            draft.name,
            Size(stack),
            Size(MAX_STACK_BYTES)
        );
        diagnostics.push(
            Diagnostic::error(draft.span("stack"), message).hint("recurse less deeply, or keep the data in memory"),
        );
    }
}

/// The parameters that take the list element of a call require nothing from other nodes.
fn take_elements(
    draft: &DraftTask,
    element: &ValueName,
    (inputs, requirements): (&mut [Input], &mut Vec<Requirement>),
    diagnostics: &mut Vec<Diagnostic>,
) {
    let count = requirements.len();
    requirements.retain(|requirement| {
        let is_element = requirement.value == *element;
        if is_element {
            inputs[requirement.input].source = Source::Element;
        }
        !is_element
    });
    if requirements.len() == count {
        let message = format!("task {:?} is called for each {element:?}, and takes no value of that name", draft.name);
        let parameters = quoted(inputs.iter().map(|input| input.parameter.as_str()));
        let hint = format!("it takes {parameters}: name one of them with as = \"...\", or rename it with requires");
        diagnostics.push(Diagnostic::error(draft.span("for_each"), message).hint(hint));
    }
}

/// The source of a `for_each` list. If another node provides it, its requirement follows those of the inputs.
fn list(index: NodeIndex, each: &DraftForEach, input: usize, requirements: &mut Vec<Requirement>) -> Source {
    match &each.list {
        DraftList::Literal(list) => {
            let elements: Vec<&str> = list.iter().map(Json::as_str).collect();
            let text = format!("[{}]", elements.join(","));
            Source::Constant(Value::Json(Json::parse(text).expect("a list of JSON elements is JSON")))
        }
        DraftList::Value(value) => {
            requirements.push(Requirement {
                node: index,
                input,
                parameter: value.clone(),
                value: value.clone(),
                optional: false,
                reversed_provider: None,
                loop_carried: Vec::new(),
            });
            Source::Absent
        }
    }
}

/// The values that a task offers to others; none for a removed task.
fn visible_provides(draft: &DraftTask, provides: Renames) -> Renames {
    if draft.retired { Renames::new() } else { provides }
}

/// A waiting task. It declares its values itself, and calls no guest.
fn resolve_waiting_task(draft: &DraftTask, waits_for: &str, diagnostics: &mut Vec<Diagnostic>) -> ResolvedTask {
    let of_call = keys::TASK.iter().filter(|key| key.is_of_call).map(|key| key.name);
    for key in of_call.filter(|key| draft.spans.contains_key(*key)) {
        let message = format!("task {:?} waits and makes no call, so {key:?} does not apply", draft.name);
        diagnostics.push(Diagnostic::error(draft.span(key), message).hint("leave it out"));
    }
    if waits_for.trim().is_empty() {
        let message = format!("task {:?} waits for nothing", draft.name);
        diagnostics.push(Diagnostic::error(draft.span("wait"), message).hint("say it in a word: wait = \"approval\""));
    }
    let provides = provides(draft, None, diagnostics);
    let wait = Wait { waits_for: waits_for.into(), provides: provides.clone(), deadline: draft.deadline };
    let provides = visible_provides(draft, provides);
    let (role, may_provide) = (Role::Wait(Box::new(wait)), MayProvide::Nothing);
    ResolvedTask {
        role,
        requirements: Vec::new(),
        provides,
        may_provide,
        schemas: BTreeMap::new(),
        described: Arc::default(),
    }
}

fn provides(draft: &DraftTask, callee: Option<&Callee<'_>>, diagnostics: &mut Vec<Diagnostic>) -> Renames {
    let stated = draft.provides.clone();
    let provides = match callee {
        Some(Callee::Task(_, info)) => {
            let own_names = || info.provides.iter().map(|provided| &provided.name);
            if let Some(stated) = &stated {
                let known: BTreeSet<&ValueName> = own_names().collect();
                for name in stated.keys().filter(|name| !known.contains(name)) {
                    let message = format!("task {:?} does not provide {name:?}", draft.name);
                    let hint = format!("{:?} provides {}", info.name, quoted(own_names().map(ValueName::as_str)));
                    diagnostics.push(Diagnostic::error(draft.span(&format!("provides.{name}")), message).hint(hint));
                }
            }
            stated.unwrap_or_else(|| own_names().map(|name| (name.clone(), name.clone())).collect())
        }
        Some(Callee::Command(_)) | None => stated.unwrap_or_default(),
    };
    if provides.len() > Task::MAX_PROVIDES {
        let (count, max) = (provides.len(), Task::MAX_PROVIDES);
        let message = format!("task {:?} provides {count} values, and the maximum is {max}", draft.name);
        let hint = "let it provide one value that is a list or an object of the others";
        diagnostics.push(Diagnostic::error(draft.span("provides"), message).hint(hint));
    }
    let mut seen = BTreeSet::new();
    for (own_name, flow_name) in &provides {
        if !seen.insert(flow_name) {
            let message = format!("task {:?} provides {flow_name:?} twice", draft.name);
            let diagnostic = Diagnostic::error(draft.span(&format!("provides.{own_name}")), message);
            diagnostics.push(diagnostic.hint("give each value a name of its own"));
        }
    }
    provides
}

fn rollback(draft: &DraftTask, callee: Option<&Callee<'_>>, diagnostics: &mut Vec<Diagnostic>) -> bool {
    match (draft.rollback, callee) {
        (Some(true), Some(Callee::Task(_, TaskInfo { name, rollback: Rollback::None, .. }))) => {
            let message = format!("task {:?} is to be rolled back, but {name:?} has no rollback", draft.name);
            diagnostics.push(Diagnostic::error(draft.span("rollback"), message).hint("leave rollback out"));
            false
        }
        (None, Some(Callee::Task(_, info))) => info.rollback != Rollback::None,
        (stated, Some(Callee::Task(..) | Callee::Command(_)) | None) => stated.unwrap_or(false),
    }
}

fn check_requires(draft: &DraftTask, info: &TaskInfo, diagnostics: &mut Vec<Diagnostic>) {
    let rollback_parameters = match &info.rollback {
        Rollback::Guest { requires } => requires.as_slice(),
        Rollback::None => &[],
    };
    let known = || info.requires.iter().chain(rollback_parameters).map(|parameter| &parameter.name);
    let known_names: BTreeSet<&ValueName> = known().collect();
    for name in draft.requires.iter().flat_map(BTreeMap::keys) {
        if !known_names.contains(name) {
            let message = format!("task {:?} has no parameter {name:?}", draft.name);
            let hint = format!("{:?} requires {}", info.name, quoted(known().map(ValueName::as_str)));
            diagnostics.push(Diagnostic::error(draft.span(&format!("requires.{name}")), message).hint(hint));
        }
    }
}

/// The parameters of apply, then those of rollback alone; each name once.
fn parameters(info: &TaskInfo, rollback: bool) -> Vec<TaskParameter> {
    let rollback_parameters = match &info.rollback {
        Rollback::Guest { requires } if rollback => requires.as_slice(),
        Rollback::Guest { .. } | Rollback::None => &[],
    };
    let task_parameter = |used_by| {
        move |parameter: &Parameter| {
            let Parameter { name, optional, .. } = parameter.clone();
            TaskParameter { name, used_by, optional, needed: !optional }
        }
    };
    let mut all: Vec<TaskParameter> = Vec::new();
    let mut places: BTreeMap<ValueName, usize> = BTreeMap::new();
    let listed = info.requires.iter().map(task_parameter(InputUse::ApplyAndRollback));
    for parameter in listed.chain(rollback_parameters.iter().map(task_parameter(InputUse::Rollback))) {
        let place = *places.entry(parameter.name.clone()).or_insert(all.len());
        match all.get_mut(place) {
            Some(known) => known.needed |= parameter.needed,
            None => all.push(parameter),
        }
    }
    all
}

/// The inputs of a task, including its constants, and the requirements of the others.
fn inputs(index: NodeIndex, draft: &DraftTask, parameters: &[TaskParameter]) -> (Vec<Input>, Vec<Requirement>) {
    let (mut inputs, mut requirements) = (Vec::new(), Vec::new());
    for TaskParameter { name, used_by, optional, needed } in parameters {
        let constant = draft.with.get(name).cloned().map(Source::Constant);
        if constant.is_none() {
            let renamed = draft.requires.as_ref().and_then(|renames| renames.get(name));
            requirements.push(Requirement {
                node: index,
                input: inputs.len(),
                parameter: name.clone(),
                value: renamed.unwrap_or(name).clone(),
                optional: !needed,
                reversed_provider: None,
                loop_carried: Vec::new(),
            });
        }
        let source = constant.unwrap_or(Source::Absent);
        inputs.push(Input { parameter: name.clone(), source, optional: *optional, used_by: *used_by });
    }
    let known: BTreeSet<&ValueName> = parameters.iter().map(|parameter| &parameter.name).collect();
    for (name, value) in draft.with.iter().filter(|(name, _)| !known.contains(name)) {
        let (parameter, source) = (name.clone(), Source::Constant(value.clone()));
        inputs.push(Input { parameter, source, optional: false, used_by: InputUse::ApplyAndRollback });
    }
    (inputs, requirements)
}

fn task(draft: &DraftTask, callee: &Callee<'_>, inputs: Vec<Input>, provides: Renames, rollback: bool) -> Task {
    let (module, export, retry, limits): (Digest, Option<Export>, Option<RetryPolicy>, LimitOverrides) = match callee {
        Callee::Task(digest, info) => (*digest, Some(info.name.clone()), info.retry, info.limits),
        Callee::Command(digest) => (*digest, None, None, LimitOverrides::default()),
    };
    Task {
        module,
        export,
        inputs,
        provides,
        rollback,
        retry: draft.retry.or(retry).unwrap_or_default(),
        limits: Limits::default().with(&limits).with(&draft.limits),
        access: draft.access.clone(),
        queue: draft.queue.clone().unwrap_or_else(default_queue),
        priority: draft.priority,
        pace: draft.pace,
        expires: draft.expires,
        delivery_limit: draft.delivery_limit,
    }
}
