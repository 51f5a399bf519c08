//! What the consumers of a value expect of it: the schemas of their parameters, and whether the value is the list of a `for_each`.

use std::collections::{BTreeMap, BTreeSet};

use flow::{
    Flow, Json, ModuleContent, NodeIndex, Rollback, Task, TaskInfo, ValueName,
    graph::{Role, Source},
};

use crate::Modules;

/// What the nodes of a flow expect of the values that they take.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    /// The values that are the list of a `for_each`, with the schema of an element, where known.
    lists: BTreeMap<Taken, Option<Json>>,
    /// The different schemas of parameters, the first few of each value.
    schemas: BTreeMap<Taken, Vec<Json>>,
}

/// The maximum number of schemas that are kept for a value: one of them mostly fits all parameters.
const MAX_SCHEMAS: usize = 16;

/// A value that a node takes: of a node, or of a notification.
type Taken = (Option<NodeIndex>, ValueName);

impl Consumers {
    /// What the nodes of a flow expect.
    pub(crate) fn of(flow: &Flow, modules: &Modules) -> Self {
        let mut consumers = Self::default();
        for index in flow.indices() {
            match &flow.node(index).role {
                Role::Task(task) => consumers.add_inputs(task, modules),
                Role::ForEach(each) => {
                    consumers.add_inputs(&each.task, modules);
                    let element = each.task.inputs.iter().find(|input| input.source == Source::Element);
                    let schema = element.and_then(|input| parameter_schema(&each.task, &input.parameter, modules));
                    consumers.add_list(&each.list, schema);
                }
                Role::Controller(controller) => {
                    controller.list.iter().for_each(|list| consumers.add_list(list, None));
                }
                Role::Wait(_) | Role::FanIn(_) | Role::Begin | Role::End => {}
            }
        }
        consumers
    }

    /// The values of notifications of which something is expected.
    pub(crate) fn notified(&self) -> BTreeSet<&ValueName> {
        let taken = self.lists.keys().chain(self.schemas.keys());
        taken.filter(|(provider, _)| provider.is_none()).map(|(_, value)| value).collect()
    }

    /// Whether a value is the list of a `for_each`.
    pub(crate) fn is_list(&self, provider: Option<NodeIndex>, value: &ValueName) -> bool {
        self.lists.contains_key(&(provider, value.clone()))
    }

    /// The schema of each element of a list, where known.
    pub(crate) fn element_schema(&self, provider: Option<NodeIndex>, value: &ValueName) -> Option<&Json> {
        self.lists.get(&(provider, value.clone()))?.as_ref()
    }

    /// The schemas of the parameters that take a value, as far as they are known.
    pub(crate) fn schemas(&self, provider: Option<NodeIndex>, value: &ValueName) -> &[Json] {
        self.schemas.get(&(provider, value.clone())).map_or(&[], Vec::as_slice)
    }

    fn add_inputs(&mut self, task: &Task, modules: &Modules) {
        for input in &task.inputs {
            let Some(schema) = parameter_schema(task, &input.parameter, modules) else { continue };
            for taken in values_of(&input.source) {
                let known = self.schemas.entry(taken).or_default();
                if known.len() < MAX_SCHEMAS && !known.contains(&schema) {
                    known.push(schema.clone());
                }
            }
        }
    }

    fn add_list(&mut self, list: &Source, schema: Option<Json>) {
        for taken in values_of(list) {
            let known = self.lists.entry(taken).or_default();
            if known.is_none() {
                known.clone_from(&schema);
            }
        }
    }
}

/// The values that a source may read, of nodes and of notifications.
fn values_of(source: &Source) -> BTreeSet<Taken> {
    match source {
        Source::Node { node, value } => BTreeSet::from([(Some(*node), value.clone())]),
        Source::RunInput(value) => BTreeSet::from([(None, value.clone())]),
        Source::LoopCarried { nodes, value, initial } => {
            let carried = nodes.iter().map(|node| (Some(*node), value.clone()));
            carried.chain([(None, value.clone())]).chain(values_of(initial)).collect()
        }
        Source::Constant(_) | Source::Element | Source::Failure(_) | Source::Absent => BTreeSet::new(),
    }
}

/// The description of a task by its module.
pub(crate) fn described<'m>(task: &Task, modules: &'m Modules) -> Option<&'m TaskInfo> {
    match modules.get(&task.module)? {
        ModuleContent::Tasks(tasks) => tasks.iter().find(|info| Some(&info.name) == task.export.as_ref()),
        ModuleContent::Command => None,
    }
}

fn parameter_schema(task: &Task, parameter: &ValueName, modules: &Modules) -> Option<Json> {
    let info = described(task, modules)?;
    let of_rollback = match &info.rollback {
        Rollback::Guest { requires } => requires.as_slice(),
        Rollback::None => &[],
    };
    let known = info.requires.iter().chain(of_rollback).find(|known| known.name == *parameter)?;
    known.schema.clone()
}
