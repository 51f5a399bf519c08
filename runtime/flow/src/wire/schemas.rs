//! The known types of values before a run: the schemas that modules give for provided values, and the run's inputs.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    layout::{Layout, Slot},
    task::ResolvedTask,
};
use crate::{NodeIndex, Schema, Strategy, ValueName, Values, graph::Source};

/// The known types of the values of a flow.
pub(super) struct Schemas<'a, 'd> {
    pub(super) layout: &'a Layout<'d>,
    pub(super) tasks: &'a BTreeMap<NodeIndex, ResolvedTask>,
    /// The inputs that each firing surely starts with; in a flow that fires more than once a notification may contain
    /// others.
    pub(super) inputs: Option<&'a Values>,
}

impl Schemas<'_, '_> {
    /// The schema of a source, if one is known.
    pub(super) fn of(&self, source: &Source) -> Option<Cow<'_, Schema>> {
        match source {
            Source::Constant(value) => Schema::of_value(value).map(Cow::Owned),
            Source::RunInput(name) => Schema::of_value(self.inputs?.get(name)?).map(Cow::Owned),
            Source::Node { node, value } => self.provided_schema(*node, value),
            Source::Failure(_) => Some(Cow::Owned(Schema::of_failure())),
            Source::LoopCarried { .. } | Source::Element | Source::Absent => None,
        }
    }

    fn provided_schema(&self, node: NodeIndex, value: &ValueName) -> Option<Cow<'_, Schema>> {
        match self.layout.slot(node) {
            Slot::Task { .. } => self.tasks.get(&node)?.schemas.get(value).map(Cow::Borrowed),
            // The fan-in follows its task, and joins the results into lists.
            Slot::FanIn { .. } => {
                let task = self.tasks.get(&NodeIndex(node.0.checked_sub(1)?))?;
                task.schemas.get(value).cloned().map(|element| Cow::Owned(element.list_of()))
            }
            Slot::Begin(scope) => match &self.layout.flow(*scope).body.controller.as_ref()?.strategy {
                Strategy::Times(_) => Some(Cow::Owned(Schema::of("integer"))),
                Strategy::ForEach(_) | Strategy::ForEachOf(_) | Strategy::Always => None,
            },
            Slot::End(_) => None,
        }
    }
}
