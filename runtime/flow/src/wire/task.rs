//! A task of the draft and what its module says of it, brought together.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Diagnostic, Digest, DraftForEach, DraftList, DraftTask, DraftTaskKind, Export, ForEach, Input, InputUse, Json,
    LimitOverrides, Limits, MAX_STACK_BYTES, ModuleContent, ModuleInfo, ModuleReference, NodeIndex, Parameter,
    QueueName, Renames, RetryPolicy, Role, Rollback, Schema, Size, Source, Task, TaskInfo, Value, ValueName, Wait,
    file::CALL_KEYS, suggest,
};

/// The modules a flow may use.
pub(super) struct Modules<'d> {
    /// Those that are known.
    pub(super) resolved: &'d BTreeMap<String, ModuleInfo>,
    /// Those the flow names.
    pub(super) named: &'d BTreeMap<String, ModuleReference>,
}

/// A task as far as it is known.
pub(super) struct ResolvedTask {
    /// Where it is not known what it calls, which is a mistake that is told, a call of nothing: the rest of the flow is
    /// looked at all the same.
    pub(super) role: Role,
    /// The values that its inputs are to come from.
    pub(super) requirements: Vec<Requirement>,
    /// What the task calls it = what the flow calls it.
    pub(super) provides: Renames,
    /// What it may provide besides.
    pub(super) may_provide: MayProvide,
    /// What its module says of what it provides, by the flow's names; of each element, where it is called for several.
    pub(super) schemas: BTreeMap<ValueName, Schema>,
    /// What its module says of what it takes.
    pub(super) parameters: BTreeMap<ValueName, ParameterSpec>,
}

/// What a task may provide of which it is not known what it calls.
pub(super) enum MayProvide {
    /// Nothing: all of it is known.
    Nothing,
    /// One of these: it calls some task of a module that is known.
    OneOf(BTreeSet<ValueName>),
    /// Anything.
    Anything,
}

impl ResolvedTask {
    /// Whether all is known that it provides.
    pub(super) fn is_resolved(&self) -> bool {
        matches!(self.may_provide, MayProvide::Nothing)
    }

    /// Whether it may provide this value, for all that is known.
    pub(super) fn may_provide(&self, value: &ValueName) -> bool {
        match &self.may_provide {
            MayProvide::Nothing => false,
            MayProvide::OneOf(values) => values.contains(value),
            MayProvide::Anything => true,
        }
    }
}

/// What a module says of a parameter.
pub(super) struct ParameterSpec {
    pub(super) schema: Schema,
    /// Whether it may be left out, and so be `null`.
    pub(super) optional: bool,
}

/// A value that a node wants.
#[derive(Clone)]
pub(super) struct Requirement {
    /// Who wants it: a task, or a controller.
    pub(super) node: NodeIndex,
    /// Which of its inputs it is for.
    pub(super) input: usize,
    /// What the task calls it.
    pub(super) parameter: ValueName,
    /// What the flow calls it.
    pub(super) value: ValueName,
    pub(super) optional: bool,
    /// Who would have provided it, had no link turned their order round.
    pub(super) reversed_provider: Option<NodeIndex>,
    /// Who provides it to the next turn.
    pub(super) loop_carried: Vec<NodeIndex>,
}

impl Requirement {
    /// A source for it: what comes round, if anything does, and else this one.
    pub(super) fn or_loop_carried(&self, first: Source) -> Source {
        if self.loop_carried.is_empty() {
            return first;
        }
        Source::LoopCarried { nodes: self.loop_carried.clone(), value: self.value.clone(), initial: Box::new(first) }
    }
}

/// What a task calls.
enum Callee<'d> {
    Task(Digest, &'d TaskInfo),
    Command(Digest),
}

/// One parameter of a task, whichever of its two functions takes it.
struct TaskParameter {
    name: ValueName,
    audience: InputUse,
    /// Whether apply can do without.
    optional: bool,
    /// Whether the flow must have it.
    needed: bool,
}

pub(super) fn resolve(
    index: NodeIndex,
    draft: &DraftTask,
    modules: &Modules<'_>,
    mistakes: &mut Vec<Diagnostic>,
) -> ResolvedTask {
    let uses = match &draft.kind {
        DraftTaskKind::Call(uses) => uses,
        DraftTaskKind::Wait(awaits) => return resolve_waiting_task(draft, awaits, mistakes),
    };
    if draft.deadline.is_some() {
        let message = format!("task {:?} has a deadline, and calls a guest", draft.name);
        let hint = "one that waits has a deadline; a call has a timeout";
        mistakes.push(Diagnostic::error(draft.span("deadline"), message).hint(hint));
    }
    // A module that was not found is told once, with all tasks that use it.
    let callee = modules.find(draft, uses).map_err(|mistake| mistakes.extend(mistake)).ok();
    if draft.retry.is_some_and(|retry| retry.attempts == 0) {
        let message = format!("the retry of task {:?} has no attempts", draft.name);
        mistakes.push(
            Diagnostic::error(draft.span("retry"), message).hint("the first one counts: write attempts = 1 or more"),
        );
    }
    let provides = provides(draft, callee.as_ref(), mistakes);
    let rollback = rollback(draft, callee.as_ref(), mistakes);
    let taken = match &callee {
        Some(Callee::Task(_, info)) => {
            check_requires(draft, info, mistakes);
            parameters(info, rollback)
        }
        // What else it takes nobody says.
        Some(Callee::Command(_)) | None => {
            let names = draft.requires.iter().flat_map(BTreeMap::keys);
            let taken = |name: &ValueName| TaskParameter {
                name: name.clone(),
                audience: InputUse::ApplyAndRollback,
                optional: false,
                needed: true,
            };
            names.map(taken).collect()
        }
    };
    let (mut inputs, mut wants) = inputs(index, draft, &taken);
    let list = draft.for_each.as_ref().map(|each| {
        if callee.is_some() {
            take_elements(draft, &each.element(), (&mut inputs, &mut wants), mistakes);
        }
        list(index, each, inputs.len(), &mut wants)
    });
    let may_provide = match (&callee, &draft.provides) {
        (Some(_), _) | (None, Some(_)) => MayProvide::Nothing,
        (None, None) => modules.may_provide(uses),
    };
    let schemas = callee.as_ref().map(|callee| schemas(callee, &provides)).unwrap_or_default();
    let takes = callee.as_ref().map(|callee| takes(callee, rollback)).unwrap_or_default();
    let callee = callee.unwrap_or(Callee::Command(Digest::from_bytes([0; 32])));
    let task = task(draft, &callee, inputs, provides.clone(), rollback);
    check_stack(draft, &task, mistakes);
    let role = match list {
        Some(list) => {
            let max_parallel = draft.for_each.as_ref().and_then(|each| each.max_parallel);
            Role::ForEach(Box::new(ForEach { task, list, max_parallel }))
        }
        None => Role::Task(Box::new(task)),
    };
    ResolvedTask {
        role,
        requirements: wants,
        provides: visible_provides(draft, provides),
        may_provide,
        schemas,
        parameters: takes,
    }
}

/// Refuses a stack that no sandbox gives.
fn check_stack(draft: &DraftTask, task: &Task, mistakes: &mut Vec<Diagnostic>) {
    let stack = task.limits.stack;
    if stack > MAX_STACK_BYTES {
        let message = format!(
            "task {:?} has a stack of {}, and the largest is {}",
            draft.name,
            Size(stack),
            Size(MAX_STACK_BYTES)
        );
        mistakes.push(
            Diagnostic::error(draft.span("stack"), message).hint("recurse less deeply, or keep the data in memory"),
        );
    }
}

/// The parameters that take the element which a call is for want nothing of others.
fn take_elements(
    draft: &DraftTask,
    element: &ValueName,
    (inputs, wants): (&mut [Input], &mut Vec<Requirement>),
    mistakes: &mut Vec<Diagnostic>,
) {
    let all = wants.len();
    wants.retain(|want| {
        let takes = want.value == *element;
        if takes {
            inputs[want.input].source = Source::Element;
        }
        !takes
    });
    if wants.len() == all {
        let message = format!("task {:?} is called for each {element:?}, and takes no value of that name", draft.name);
        let taken = quoted(inputs.iter().map(|input| input.parameter.as_str()));
        let hint = format!("it takes {taken}: name one of them with as = \"...\", or rename it with requires");
        mistakes.push(Diagnostic::error(draft.span("for_each"), message).hint(hint));
    }
}

/// Where the list comes from that a task is called for: from elsewhere, it is wanted after all its inputs.
fn list(index: NodeIndex, each: &DraftForEach, input: usize, wants: &mut Vec<Requirement>) -> Source {
    match &each.list {
        DraftList::Literal(list) => {
            let elements: Vec<&str> = list.iter().map(Json::as_str).collect();
            let text = format!("[{}]", elements.join(","));
            Source::Constant(Value::Json(Json::parse(text).expect("elements that are JSON make a list that is")))
        }
        DraftList::Value(value) => {
            wants.push(Requirement {
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

/// What others may take of a task: nothing of one that was removed.
fn visible_provides(draft: &DraftTask, provides: Renames) -> Renames {
    if draft.retired { Renames::new() } else { provides }
}

/// A task that waits. It says itself what it provides, and calls nobody.
fn resolve_waiting_task(draft: &DraftTask, awaits: &str, mistakes: &mut Vec<Diagnostic>) -> ResolvedTask {
    for key in CALL_KEYS.iter().filter(|key| draft.spans.contains_key(**key)) {
        let message = format!("task {:?} waits, and has no call that {key:?} could be of", draft.name);
        mistakes.push(Diagnostic::error(draft.span(key), message).hint("leave it out"));
    }
    if awaits.trim().is_empty() {
        let message = format!("task {:?} waits for nothing", draft.name);
        mistakes.push(Diagnostic::error(draft.span("wait"), message).hint("say it in a word: wait = \"approval\""));
    }
    let provides = provides(draft, None, mistakes);
    let wait = Wait { waits_for: awaits.into(), provides: provides.clone(), deadline: draft.deadline };
    let provides = visible_provides(draft, provides);
    let (role, may_provide) = (Role::Wait(Box::new(wait)), MayProvide::Nothing);
    ResolvedTask {
        role,
        requirements: Vec::new(),
        provides,
        may_provide,
        schemas: BTreeMap::new(),
        parameters: BTreeMap::new(),
    }
}

impl<'d> Modules<'d> {
    /// What a task calls; else why that is not known, where it is not only that its module was not found.
    fn find(&self, draft: &DraftTask, uses: &str) -> Result<Callee<'d>, Option<Diagnostic>> {
        if self.is_missing(alias_of(uses)) { Err(None) } else { self.find_resolved(draft, uses).map_err(Some) }
    }

    /// Whether the flow names a module that was not found.
    pub(super) fn is_missing(&self, alias: &str) -> bool {
        self.named.contains_key(alias) && !self.resolved.contains_key(alias)
    }

    /// What a task may provide that calls something of a module.
    fn may_provide(&self, uses: &str) -> MayProvide {
        match self.resolved.get(alias_of(uses)).map(|module| &module.content) {
            Some(ModuleContent::Tasks(tasks)) => {
                let provided = tasks.iter().flat_map(|task| &task.provides);
                MayProvide::OneOf(provided.map(|provided| provided.name.clone()).collect())
            }
            Some(ModuleContent::Command) | None => MayProvide::Anything,
        }
    }

    fn find_resolved(&self, draft: &DraftTask, uses: &str) -> Result<Callee<'d>, Diagnostic> {
        let refuse = |message: String| Diagnostic::error(draft.span("use"), format!("task {:?} {message}", draft.name));
        let (alias, export) = match uses.split_once('#') {
            Some((alias, export)) => (alias, Some(export)),
            None => (uses, None),
        };
        let Some(module) = self.resolved.get(alias) else {
            let (why, hint) = self.unknown_module_reason(alias);
            return Err(refuse(why).hint(hint));
        };
        match (&module.content, export) {
            (ModuleContent::Command, None) => Ok(Callee::Command(module.digest)),
            (ModuleContent::Command, Some(export)) => {
                let mistake =
                    refuse(format!("uses {export:?} of {alias:?}, which is a command and one task by itself"));
                Err(mistake.hint(format!("write use = {alias:?}")))
            }
            (ModuleContent::Tasks(tasks), None) => match tasks.as_slice() {
                [only] => Ok(Callee::Task(module.digest, only)),
                [] => {
                    let mistake = refuse(format!("uses module {alias:?}, which holds no task"));
                    Err(mistake.hint("build the module with a task in it, or use another one"))
                }
                [first, ..] => {
                    let mistake =
                        refuse(format!("does not say which task of {alias:?} it uses; it has {}", listed(tasks)));
                    Err(mistake.hint(format!("write use = \"{alias}#{}\"", first.name)))
                }
            },
            (ModuleContent::Tasks(tasks), Some(export)) => {
                let found = tasks.iter().find(|task| task.name.as_str() == export);
                found.map(|info| Callee::Task(module.digest, info)).ok_or_else(|| {
                    let hint = suggest::did_you_mean(export, tasks.iter().map(|task| task.name.as_str()));
                    let hint = hint.unwrap_or_else(|| format!("{alias:?} has {}", listed(tasks)));
                    refuse(format!("uses {export:?}, which module {alias:?} does not have")).hint(hint)
                })
            }
        }
    }
}

impl Modules<'_> {
    fn unknown_module_reason(&self, alias: &str) -> (String, String) {
        if alias.is_empty() {
            return ("does not say which module it uses".into(), "write use = \"module#task\"".into());
        }
        let why = format!("uses module {alias:?}, which the flow does not name");
        if let Some((module, export)) = self.split_other_separator(alias) {
            return (why, format!("did you mean \"{module}#{export}\"? `#` parts a module from its task"));
        }
        let known = || self.resolved.keys().chain(self.named.keys()).map(String::as_str);
        if let Some((module, export)) = parted_by_dot(alias) {
            let meant = suggest::closest(module, known()).unwrap_or(module);
            let mut hint = format!("did you mean \"{meant}#{export}\"? `#` parts a module from its task");
            if !self.named.contains_key(meant) {
                hint.push_str(&format!("; and write {meant:?} = \"path, tag or digest\" under [modules]"));
            }
            return (why, hint);
        }
        let hint = suggest::did_you_mean(alias, known());
        let hint = hint.unwrap_or_else(|| format!("write {alias:?} = \"path, tag or digest\" under [modules]"));
        (why, hint)
    }

    /// A module that the flow names and its task, where something else than `#` stands between them.
    fn split_other_separator<'a>(&self, text: &'a str) -> Option<(&'a str, &'a str)> {
        let parted = [".", "::", ":", "/", "@"].into_iter().filter_map(|mark| text.split_once(mark));
        parted.into_iter().find(|(module, export)| !export.is_empty() && self.named.contains_key(*module))
    }
}

/// A module and its task as in Python, and no path of a file.
fn parted_by_dot(text: &str) -> Option<(&str, &str)> {
    let (module, export) = text.rsplit_once('.')?;
    let is_name = |text: &str| !text.is_empty() && !text.contains(['/', '\\', '.', '#', ' ']);
    (is_name(module) && is_name(export) && export != "wasm").then_some((module, export))
}

/// The alias of the module that `use` names.
pub(super) fn alias_of(uses: &str) -> &str {
    uses.split('#').next().unwrap_or_default()
}

/// What the module says of each parameter that is taken.
fn takes(callee: &Callee<'_>, rollback: bool) -> BTreeMap<ValueName, ParameterSpec> {
    let Callee::Task(_, info) = callee else { return BTreeMap::new() };
    let of_rollback = match &info.rollback {
        Rollback::Guest { requires } if rollback => requires.as_slice(),
        Rollback::Guest { .. } | Rollback::None => &[],
    };
    let said = info.requires.iter().chain(of_rollback).filter_map(|parameter| {
        let schema = Schema::new(parameter.schema.as_ref()?);
        Some((parameter.name.clone(), ParameterSpec { schema, optional: parameter.optional }))
    });
    said.collect()
}

fn listed(tasks: &[TaskInfo]) -> String {
    quoted(tasks.iter().map(|task| task.name.as_str()))
}

/// Names as messages list them.
pub(super) fn quoted<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

fn provides(draft: &DraftTask, callee: Option<&Callee<'_>>, mistakes: &mut Vec<Diagnostic>) -> Renames {
    let stated = draft.provides.clone();
    let provides = match callee {
        Some(Callee::Task(_, info)) => {
            let own = || info.provides.iter().map(|provided| &provided.name);
            if let Some(stated) = &stated {
                for name in stated.keys().filter(|name| !own().any(|known| known == *name)) {
                    let message = format!("task {:?} does not provide {name:?}", draft.name);
                    let hint = format!("{:?} provides {}", info.name, quoted(own().map(ValueName::as_str)));
                    mistakes.push(Diagnostic::error(draft.span(&format!("provides.{name}")), message).hint(hint));
                }
            }
            stated.unwrap_or_else(|| own().map(|name| (name.clone(), name.clone())).collect())
        }
        Some(Callee::Command(_)) | None => stated.unwrap_or_default(),
    };
    let mut seen = BTreeSet::new();
    for (own, flows) in &provides {
        if !seen.insert(flows) {
            let message = format!("task {:?} provides {flows:?} twice", draft.name);
            let mistake = Diagnostic::error(draft.span(&format!("provides.{own}")), message);
            mistakes.push(mistake.hint("give each value a name of its own"));
        }
    }
    provides
}

/// What the module says of each value that is provided.
fn schemas(callee: &Callee<'_>, provides: &Renames) -> BTreeMap<ValueName, Schema> {
    let Callee::Task(_, info) = callee else { return BTreeMap::new() };
    let said = info.provides.iter().filter_map(|provided| {
        let name = provides.get(&provided.name)?;
        Some((name.clone(), Schema::new(provided.schema.as_ref()?)))
    });
    said.collect()
}

fn rollback(draft: &DraftTask, callee: Option<&Callee<'_>>, mistakes: &mut Vec<Diagnostic>) -> bool {
    match (draft.rollback, callee) {
        (Some(true), Some(Callee::Task(_, TaskInfo { name, rollback: Rollback::None, .. }))) => {
            let message = format!("task {:?} is to be rolled back, but {name:?} has no rollback", draft.name);
            mistakes.push(Diagnostic::error(draft.span("rollback"), message).hint("leave rollback out"));
            false
        }
        (None, Some(Callee::Task(_, info))) => info.rollback != Rollback::None,
        (stated, Some(Callee::Task(..) | Callee::Command(_)) | None) => stated.unwrap_or(false),
    }
}

fn check_requires(draft: &DraftTask, info: &TaskInfo, mistakes: &mut Vec<Diagnostic>) {
    let of_rollback = match &info.rollback {
        Rollback::Guest { requires } => requires.as_slice(),
        Rollback::None => &[],
    };
    let known = || info.requires.iter().chain(of_rollback).map(|parameter| &parameter.name);
    for name in draft.requires.iter().flat_map(BTreeMap::keys) {
        if !known().any(|known| known == name) {
            let message = format!("task {:?} has no parameter {name:?}", draft.name);
            let hint = format!("{:?} requires {}", info.name, quoted(known().map(ValueName::as_str)));
            mistakes.push(Diagnostic::error(draft.span(&format!("requires.{name}")), message).hint(hint));
        }
    }
}

/// What apply takes, then what rollback alone takes; each name once.
fn parameters(info: &TaskInfo, rollback: bool) -> Vec<TaskParameter> {
    let of_rollback = match &info.rollback {
        Rollback::Guest { requires } if rollback => requires.as_slice(),
        Rollback::Guest { .. } | Rollback::None => &[],
    };
    let taken = |audience| {
        move |parameter: &Parameter| {
            let Parameter { name, optional, .. } = parameter.clone();
            TaskParameter { name, audience, optional, needed: !optional }
        }
    };
    let mut all: Vec<TaskParameter> = Vec::new();
    let listed = info.requires.iter().map(taken(InputUse::ApplyAndRollback));
    for parameter in listed.chain(of_rollback.iter().map(taken(InputUse::Rollback))) {
        match all.iter_mut().find(|known| known.name == parameter.name) {
            Some(known) => known.needed |= parameter.needed,
            None => all.push(parameter),
        }
    }
    all
}

/// The inputs of a task, with the constants in their places, and the values that the others want.
fn inputs(index: NodeIndex, draft: &DraftTask, taken: &[TaskParameter]) -> (Vec<Input>, Vec<Requirement>) {
    let (mut inputs, mut wants) = (Vec::new(), Vec::new());
    for TaskParameter { name, audience, optional, needed } in taken {
        let constant = draft.with.get(name).cloned().map(Source::Constant);
        if constant.is_none() {
            let renamed = draft.requires.as_ref().and_then(|renames| renames.get(name));
            wants.push(Requirement {
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
        inputs.push(Input { parameter: name.clone(), source, optional: *optional, used_by: *audience });
    }
    for (name, value) in draft.with.iter().filter(|(name, _)| taken.iter().all(|taken| taken.name != **name)) {
        let (parameter, source) = (name.clone(), Source::Constant(value.clone()));
        inputs.push(Input { parameter, source, optional: false, used_by: InputUse::ApplyAndRollback });
    }
    (inputs, wants)
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
        queue: draft.queue.clone().unwrap_or_else(|| QueueName::new("default").expect("it keeps the rules of names")),
        priority: draft.priority,
        pace: draft.pace,
        expires: draft.expires,
        delivery_limit: draft.delivery_limit,
    }
}
