//! Finds what a task calls: the module that its `use` names, and the task in it. An unknown one is refused with a suggestion.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    Diagnostic, Digest, ModuleContent, ModuleInfo, TaskInfo, ValueName,
    draft::{DraftTask, ModuleReference},
    suggest,
};

use super::{
    MayProvide,
    described::{DescribedTask, Descriptions},
};

/// The maximum number of names that a message lists: a module may have a thousand tasks, and many tasks may need the message.
const MAX_QUOTED: usize = 20;

/// The modules a flow may use.
pub(in crate::wire) struct Modules<'d> {
    /// The resolved modules.
    pub(in crate::wire) resolved: &'d BTreeMap<String, ModuleInfo>,
    /// The modules that the flow names.
    pub(in crate::wire) named: &'d BTreeMap<String, ModuleReference>,
    descriptions: Descriptions,
    /// All values that the tasks of a module provide, by its alias.
    provided: RefCell<BTreeMap<&'d str, Arc<BTreeSet<ValueName>>>>,
}

/// The callee of a task.
pub(super) enum Callee<'d> {
    Task(Digest, &'d TaskInfo),
    Command(Digest),
}

impl<'d> Modules<'d> {
    pub(in crate::wire) fn new(
        resolved: &'d BTreeMap<String, ModuleInfo>,
        named: &'d BTreeMap<String, ModuleReference>,
    ) -> Self {
        Self { resolved, named, descriptions: Descriptions::default(), provided: RefCell::default() }
    }

    /// The callee of a task, or why it is unknown; `None` where the only reason is that its module was not found.
    pub(super) fn find(&self, draft: &DraftTask, uses: &str) -> Result<Callee<'d>, Option<Diagnostic>> {
        if self.is_missing(alias_of(uses)) { Err(None) } else { self.find_resolved(draft, uses).map_err(Some) }
    }

    /// Whether the flow names a module that was not found.
    pub(in crate::wire) fn is_missing(&self, alias: &str) -> bool {
        self.named.contains_key(alias) && !self.resolved.contains_key(alias)
    }

    /// The values that a task may provide if it calls something in a module.
    pub(super) fn may_provide(&self, uses: &str) -> MayProvide {
        let Some((alias, module)) = self.resolved.get_key_value(alias_of(uses)) else { return MayProvide::Anything };
        match &module.content {
            ModuleContent::Tasks(tasks) => {
                let all = || {
                    let provided = tasks.iter().flat_map(|task| &task.provides);
                    Arc::new(provided.map(|provided| provided.name.clone()).collect())
                };
                MayProvide::OneOf(self.provided.borrow_mut().entry(alias).or_insert_with(all).clone())
            }
            ModuleContent::Command => MayProvide::Anything,
        }
    }

    /// The description of a callee's values, by the text of `use`.
    pub(super) fn described(&self, uses: &str, callee: &Callee<'_>, rollback: bool) -> Arc<DescribedTask> {
        self.descriptions.of(uses, callee, rollback)
    }

    /// Counts the values of a callee. Returns whether the flow has few enough of them.
    pub(super) fn count_values(
        &self,
        draft: &DraftTask,
        callee: &Callee<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> bool {
        self.descriptions.count(draft, callee, diagnostics)
    }

    fn find_resolved(&self, draft: &DraftTask, uses: &str) -> Result<Callee<'d>, Diagnostic> {
        let refuse = |message: String| Diagnostic::error(draft.span("use"), format!("task {:?} {message}", draft.name));
        let (alias, export) = match uses.split_once('#') {
            Some((alias, export)) => (alias, Some(export)),
            None => (uses, None),
        };
        let Some(module) = self.resolved.get(alias) else {
            let (reason, hint) = self.unknown_module_reason(alias);
            return Err(refuse(reason).hint(hint));
        };
        match (&module.content, export) {
            (ModuleContent::Command, None) => Ok(Callee::Command(module.digest)),
            (ModuleContent::Command, Some(export)) => {
                let diagnostic =
                    refuse(format!("uses {export:?} of {alias:?}, which is a command and one task by itself"));
                Err(diagnostic.hint(format!("write use = {alias:?}")))
            }
            (ModuleContent::Tasks(tasks), None) => match tasks.as_slice() {
                [only] => Ok(Callee::Task(module.digest, only)),
                [] => {
                    let diagnostic = refuse(format!("uses module {alias:?}, which has no task"));
                    Err(diagnostic.hint("build the module with a task in it, or use another one"))
                }
                [first, ..] => {
                    let diagnostic =
                        refuse(format!("does not say which task of {alias:?} it uses; it has {}", listed(tasks)));
                    Err(diagnostic.hint(format!("write use = \"{alias}#{}\"", first.name)))
                }
            },
            (ModuleContent::Tasks(tasks), Some(export)) => {
                let task = tasks.iter().find(|task| task.name.as_str() == export);
                task.map(|info| Callee::Task(module.digest, info)).ok_or_else(|| {
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
        let reason = format!("uses module {alias:?}, which the flow does not name");
        if let Some((module, export)) = self.split_other_separator(alias) {
            return (reason, format!("did you mean \"{module}#{export}\"? `#` separates a module from its task"));
        }
        let known = || self.resolved.keys().chain(self.named.keys()).map(String::as_str);
        if let Some((module, export)) = split_at_dot(alias) {
            let closest = suggest::closest(module, known()).unwrap_or(module);
            let mut hint = format!("did you mean \"{closest}#{export}\"? `#` separates a module from its task");
            if !self.named.contains_key(closest) {
                hint.push_str(&format!("; and write {closest:?} = \"path, tag or digest\" under [modules]"));
            }
            return (reason, hint);
        }
        let hint = suggest::did_you_mean(alias, known());
        let hint = hint.unwrap_or_else(|| format!("write {alias:?} = \"path, tag or digest\" under [modules]"));
        (reason, hint)
    }

    /// A named module and its task, separated by something other than `#`.
    fn split_other_separator<'a>(&self, text: &'a str) -> Option<(&'a str, &'a str)> {
        let split = [".", "::", ":", "/", "@"].into_iter().filter_map(|mark| text.split_once(mark));
        split.into_iter().find(|(module, export)| !export.is_empty() && self.named.contains_key(*module))
    }
}

/// A module and its task separated by a dot as in Python, but not a file path.
fn split_at_dot(text: &str) -> Option<(&str, &str)> {
    let (module, export) = text.rsplit_once('.')?;
    let is_name = |text: &str| !text.is_empty() && !text.contains(['/', '\\', '.', '#', ' ']);
    (is_name(module) && is_name(export) && export != "wasm").then_some((module, export))
}

/// The alias of the module in `use`.
pub(in crate::wire) fn alias_of(uses: &str) -> &str {
    uses.split('#').next().unwrap_or_default()
}

fn listed(tasks: &[TaskInfo]) -> String {
    quoted(tasks.iter().map(|task| task.name.as_str()))
}

/// Quotes and lists names for messages.
pub(in crate::wire) fn quoted<'n>(mut names: impl Iterator<Item = &'n str>) -> String {
    let listed: Vec<String> = names.by_ref().take(MAX_QUOTED).map(|name| format!("{name:?}")).collect();
    match (listed.is_empty(), names.count()) {
        (true, _) => "nothing".into(),
        (false, 0) => listed.join(", "),
        (false, more) => format!("{} and {more} more", listed.join(", ")),
    }
}
