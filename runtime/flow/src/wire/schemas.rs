//! The known types of values before a run: the schemas that modules give for provided values, and the run's inputs.

use std::{cell::RefCell, collections::BTreeMap};

use super::{
    layout::{Layout, Slot},
    task::ResolvedTask,
};
use crate::{NodeIndex, Schema, Strategy, ValueName, Values, graph::Source, schema::Budget};

/// The known types of the values of a flow.
pub(super) struct Schemas<'a, 'd> {
    pub(super) layout: &'a Layout<'d>,
    pub(super) tasks: &'a BTreeMap<NodeIndex, ResolvedTask>,
    /// The inputs that each firing surely starts with; in a flow that fires more than once a notification may contain
    /// others.
    pub(super) inputs: Option<&'a Values>,
    pub(super) of_inputs: &'a InputSchemas,
}

/// The schemas of the inputs, each made once, whatever reads it.
pub(super) struct InputSchemas {
    made: RefCell<BTreeMap<ValueName, Option<Schema>>>,
    /// The steps that are left to read inputs, and to find the types that conditions read.
    pub(super) budget: Budget,
}

impl InputSchemas {
    pub(super) fn new() -> Self {
        Self { made: RefCell::default(), budget: Budget::new() }
    }

    fn of(&self, name: &ValueName, inputs: &Values) -> Option<Schema> {
        if let Some(made) = self.made.borrow().get(name) {
            return made.clone();
        }
        let schema = Schema::of_value(inputs.get(name)?, &self.budget);
        self.made.borrow_mut().insert(name.clone(), schema.clone());
        schema
    }
}

impl Schemas<'_, '_> {
    /// The schema of a source, if one is known.
    pub(super) fn of(&self, source: &Source) -> Option<Schema> {
        match source {
            Source::Constant(value) => Schema::of_value(value, &self.of_inputs.budget),
            Source::RunInput(name) => self.of_inputs.of(name, self.inputs?),
            Source::Node { node, value } => self.provided_schema(*node, value),
            Source::Failure(_) => Some(Schema::of_failure()),
            Source::LoopCarried { .. } | Source::Element | Source::Absent => None,
        }
    }

    fn provided_schema(&self, node: NodeIndex, value: &ValueName) -> Option<Schema> {
        match self.layout.slot(node) {
            Slot::Task { .. } => self.tasks.get(&node)?.schemas.get(value).cloned(),
            // The fan-in follows its task, and joins the results into lists.
            Slot::FanIn { .. } => {
                let task = self.tasks.get(&NodeIndex(node.0.checked_sub(1)?))?;
                task.schemas.get(value).map(Schema::list_of)
            }
            Slot::Begin(scope) => match &self.layout.flow(*scope).body.controller.as_ref()?.strategy {
                Strategy::Times(_) => Some(Schema::of("integer")),
                Strategy::ForEach(_) | Strategy::ForEachOf(_) | Strategy::Always => None,
            },
            Slot::End(_) => None,
        }
    }
}
