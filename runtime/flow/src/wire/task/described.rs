//! The values of the tasks of modules, as the modules describe them. Each description is read once for all tasks of the flow that
//! use it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    sync::Arc,
};

use super::callee::Callee;
use crate::{
    Diagnostic, Json, Parameter, Rollback, Schema, TaskInfo, ValueName,
    draft::{DraftTask, Renames},
    schema::tree_bytes,
};

/// The maximum size of all schemas of a flow's modules in memory, in bytes: about a hundred modules of a hundred kilobytes. The
/// schemas beyond it count as not given.
const MAX_SCHEMA_BYTES: usize = 128 << 20;

/// The maximum number of values that the modules of a flow's tasks describe, counted for each task.
const MAX_DESCRIBED_VALUES: usize = 1_000_000;

/// The maximum number of parameters and provided values of one task: each call has all of them in its message.
const MAX_TASK_VALUES: usize = 10_000;

/// A module's description of the values of one of its tasks.
#[derive(Default)]
pub(in crate::wire) struct DescribedTask {
    /// The parameters, by the task's names.
    pub(in crate::wire) parameters: BTreeMap<ValueName, ParameterSpec>,
    /// The schemas of the provided values, by the task's names.
    provided: BTreeMap<ValueName, Schema>,
}

/// A module's description of a parameter.
pub(in crate::wire) struct ParameterSpec {
    pub(in crate::wire) schema: Schema,
    /// The text of the schema without spaces, which all tasks share.
    pub(in crate::wire) text: Json,
    /// Whether it may be missing, and so be `null`.
    pub(in crate::wire) optional: bool,
}

/// The descriptions that were read.
pub(super) struct Descriptions {
    /// By the text of `use`, and whether the task has a rollback.
    read: RefCell<BTreeMap<(String, bool), Arc<DescribedTask>>>,
    schema_bytes: Cell<usize>,
    values: Cell<usize>,
    is_reported: Cell<bool>,
}

impl Default for Descriptions {
    fn default() -> Self {
        Self {
            read: RefCell::default(),
            schema_bytes: Cell::new(MAX_SCHEMA_BYTES),
            values: Cell::new(MAX_DESCRIBED_VALUES),
            is_reported: Cell::new(false),
        }
    }
}

impl DescribedTask {
    /// The schemas of the provided values, by the flow's names.
    pub(super) fn schemas(&self, provides: &Renames) -> BTreeMap<ValueName, Schema> {
        let named = |(own, of_flow): (&ValueName, &ValueName)| Some((of_flow.clone(), self.provided.get(own)?.clone()));
        provides.iter().filter_map(named).collect()
    }
}

impl Descriptions {
    /// The description of a callee, by the text of `use`.
    pub(super) fn of(&self, uses: &str, callee: &Callee<'_>, rollback: bool) -> Arc<DescribedTask> {
        let Callee::Task(_, info) = callee else { return Arc::default() };
        let key = (uses.to_owned(), rollback);
        if let Some(read) = self.read.borrow().get(&key) {
            return read.clone();
        }
        let described = Arc::new(self.read(info, rollback));
        self.read.borrow_mut().insert(key, described.clone());
        described
    }

    fn read(&self, info: &TaskInfo, rollback: bool) -> DescribedTask {
        let rollback_parameters = match &info.rollback {
            Rollback::Guest { requires } if rollback => requires.as_slice(),
            Rollback::Guest { .. } | Rollback::None => &[],
        };
        let parameter = |parameter: &Parameter| {
            let schema = self.schema(parameter.schema.as_ref()?)?;
            let text = schema.to_json();
            Some((parameter.name.clone(), ParameterSpec { schema, text, optional: parameter.optional }))
        };
        let parameters = info.requires.iter().chain(rollback_parameters).filter_map(parameter).collect();
        let provided = info
            .provides
            .iter()
            .filter_map(|provided| Some((provided.name.clone(), self.schema(provided.schema.as_ref()?)?)));
        DescribedTask { parameters, provided: provided.collect() }
    }

    /// Reads a schema, if there is memory left for it.
    fn schema(&self, text: &Json) -> Option<Schema> {
        let left = self.schema_bytes.get().checked_sub(tree_bytes(text.as_str()))?;
        self.schema_bytes.set(left);
        Some(Schema::new(text))
    }

    /// Counts the values of a task that the flow uses. Returns whether they are few enough, and reports the first task whose are not.
    pub(super) fn count(&self, draft: &DraftTask, callee: &Callee<'_>, diagnostics: &mut Vec<Diagnostic>) -> bool {
        let named = |renames: &Option<Renames>| renames.as_ref().map_or(0, Renames::len);
        let count = match callee {
            Callee::Task(_, info) => {
                let rollback_parameters = match &info.rollback {
                    Rollback::Guest { requires } => requires.len(),
                    Rollback::None => 0,
                };
                info.requires.len() + rollback_parameters + info.provides.len()
            }
            // The flow names all of them.
            Callee::Command(_) => draft.with.len() + named(&draft.requires) + named(&draft.provides),
        };
        if count > MAX_TASK_VALUES {
            let message = format!(
                "task {:?} has {count} parameters and provided values together, and the maximum is {MAX_TASK_VALUES}",
                draft.name
            );
            let hint = "let its module take objects instead of many parameters";
            diagnostics.push(Diagnostic::error(draft.span("use"), message).hint(hint));
            return false;
        }
        let left = self.values.get().checked_sub(count);
        if left.is_none() && !self.is_reported.replace(true) {
            let message = format!(
                "the tasks of the flow have more than {MAX_DESCRIBED_VALUES} parameters and provided values together, which is the \
                 maximum; task {:?} is the first beyond it",
                draft.name
            );
            let hint = "let its module take objects instead of many parameters, or divide the flow";
            diagnostics.push(Diagnostic::error(draft.span("use"), message).hint(hint));
        }
        self.values.set(left.unwrap_or(0));
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, LimitOverrides, file};

    fn info(parameters: usize, schema: &str) -> TaskInfo {
        let schema = Some(Json::parse(schema).unwrap());
        let parameter = |number: usize| Parameter {
            name: format!("p{number}").parse().unwrap(),
            doc: String::new(),
            schema: schema.clone(),
            optional: true,
        };
        TaskInfo {
            name: "t".parse().unwrap(),
            doc: String::new(),
            requires: (0..parameters).map(parameter).collect(),
            provides: Vec::new(),
            rollback: Rollback::None,
            retry: None,
            limits: LimitOverrides::default(),
        }
    }

    #[test]
    fn the_tasks_of_a_flow_share_what_was_read() {
        let (descriptions, info) = (Descriptions::default(), info(2, r#"{"enum": [0, 0]}"#));
        let callee = Callee::Task(Digest::from_bytes([1; 32]), &info);
        let first = descriptions.of("m#t", &callee, false);
        let left = descriptions.schema_bytes.get();
        for _ in 0..1_000 {
            assert!(Arc::ptr_eq(&first, &descriptions.of("m#t", &callee, false)));
        }
        assert_eq!((first.parameters.len(), descriptions.schema_bytes.get()), (2, left));
        assert!(!Arc::ptr_eq(&first, &descriptions.of("m#t", &callee, true)), "rollback has parameters of its own");
    }

    #[test]
    fn schemas_beyond_the_memory_for_them_count_as_not_given() {
        let large = info(3, &format!("{{\"enum\": [{}0]}}", "0, ".repeat(900_000)));
        let described = Descriptions::default().of("m#t", &Callee::Task(Digest::from_bytes([1; 32]), &large), false);
        assert_eq!(described.parameters.len(), 2, "each has over fifty megabytes as a tree");
    }

    #[test]
    fn the_first_task_with_too_many_values_is_reported() {
        let draft = file::parse("name = \"f\"\n[[task]]\nname = \"a\"\nuse = \"m#t\"\n").unwrap();
        let crate::draft::DraftNode::Task(task) = &draft.body.nodes[0] else { panic!("it is a task") };
        let (descriptions, info) = (Descriptions::default(), info(1_000, "{}"));
        let callee = Callee::Task(Digest::from_bytes([1; 32]), &info);
        let mut diagnostics = Vec::new();
        let counted = (0..1_002).filter(|_| descriptions.count(task, &callee, &mut diagnostics)).count();
        assert_eq!((counted, diagnostics.len()), (1_000, 1));
        assert!(diagnostics[0].message.starts_with("the tasks of the flow have more than 1000000 parameters"));
    }

    #[test]
    fn a_task_has_a_bounded_number_of_parameters() {
        let text = |requires: usize| {
            let requires: String = (0..requires).map(|number| format!("p{number} = \"x\", ")).collect();
            format!(
                "name = \"f\"\n[[task]]\nname = \"a\"\nuse = \"m\"\nrequires = {{ {} }}\n",
                requires.trim_end_matches(", ")
            )
        };
        let count = |requires, callee: &Callee<'_>| {
            let draft = file::parse(&text(requires)).unwrap();
            let crate::draft::DraftNode::Task(task) = &draft.body.nodes[0] else { panic!("it is a task") };
            let mut diagnostics = Vec::new();
            let is_counted = Descriptions::default().count(task, callee, &mut diagnostics);
            (is_counted, diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect::<Vec<_>>())
        };
        let refusal = "task \"a\" has 10001 parameters and provided values together, and the maximum is 10000";
        let command = Callee::Command(Digest::from_bytes([1; 32]));
        assert_eq!(count(10_000, &command), (true, vec![]));
        assert_eq!(count(10_001, &command), (false, vec![refusal.to_owned()]));
        let info = info(10_001, "{}");
        assert_eq!(count(0, &Callee::Task(Digest::from_bytes([1; 32]), &info)), (false, vec![refusal.to_owned()]));
    }
}
