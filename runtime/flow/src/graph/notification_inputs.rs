//! Type checks of notification values against the parameters of tasks.

use std::collections::BTreeMap;

use super::{Flow, NodeIndex, Role};
use crate::{
    Json, NodeName, Schema, Value, ValueName, Values,
    schema::{Budget, ReadValue},
};

/// The type of a task's parameter that a notification may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationInput {
    /// The waiting task that the notification completes; `None` where the notification fires a task.
    pub from: Option<NodeIndex>,
    /// The value, by the flow's name.
    pub value: ValueName,
    /// The task with the parameter.
    pub by: NodeIndex,
    /// The task's name for the value.
    pub parameter: ValueName,
    /// The JSON schema of the value, or of each of its elements. Inputs with the same schema share its text.
    pub schema: Json,
    /// Whether the task is called for each element of the value.
    pub is_list: bool,
    /// Whether the task does not require it, so that it may be `null`.
    pub optional: bool,
}

impl NotificationInput {
    fn mismatch<'v>(
        &self,
        (name, value): (&'v ValueName, &Value),
        read: &mut ReadOnce<'v>,
        budget: &Budget,
    ) -> Option<String> {
        let is_null = matches!(value, Value::Json(json) if json.as_str().trim() == "null");
        if self.optional && is_null {
            return None;
        }
        if self.is_list {
            match value {
                Value::Json(list) if list.as_str().trim_start().starts_with('[') => {}
                Value::Json(_) | Value::Bytes(_) => return Some("\"for_each\" needs a list".into()),
                Value::Stored(_) => return None,
            }
        }
        let (schema, value) = read.both(&self.schema, (name, value), budget)?;
        if !self.is_list {
            return schema.mismatch_within(value, budget).map(|mismatch| mismatch.to_string());
        }
        let (index, mismatch) = schema.element_mismatch(value, budget)?;
        Some(format!("of its element {index}, {mismatch}"))
    }
}

/// What a check has read: each value and each schema once for all parameters that have it.
#[derive(Default)]
struct ReadOnce<'v> {
    values: BTreeMap<&'v ValueName, ReadValue>,
    /// Schemas by the address of their text, which tasks share; `None` for one that was too large to be read.
    schemas: BTreeMap<*const u8, Option<Schema>>,
}

impl<'v> ReadOnce<'v> {
    /// A schema and a value; `None` where the schema is too large.
    fn both(
        &mut self,
        schema: &Json,
        (name, value): (&'v ValueName, &Value),
        budget: &Budget,
    ) -> Option<(&Schema, &ReadValue)> {
        let read = || Schema::read(schema, budget);
        let schema = self.schemas.entry(schema.as_str().as_ptr()).or_insert_with(read).as_ref()?;
        Some((schema, self.values.entry(name).or_insert_with(|| ReadValue::new(value, budget))))
    }
}

impl Flow {
    /// Why values cannot complete a waiting task, for people. The values have the flow's names. An engine may ask it while its runs
    /// wait: it takes some milliseconds at most, and accepts what is too large for that.
    pub fn wait_mismatch(&self, wait: NodeIndex, values: &Values) -> Option<String> {
        self.mismatch_of_wait(wait, values, &Budget::of_notification())
    }

    /// Why values cannot fire a task, for people. The values have the flow's names. As for [`Flow::wait_mismatch`], it takes some
    /// milliseconds at most beside the search for the tasks that come after this one.
    pub fn firing_mismatch(&self, entry: NodeIndex, values: &Values) -> Option<String> {
        self.mismatch_of_firing(entry, values, &Budget::of_notification())
    }

    /// Why the values of a notification do not fit the parameters that they reach, for people. The values have the task's names. It
    /// says nothing of whether the task can be notified. It may take a second: no engine should do it while its runs wait.
    #[must_use]
    pub fn notification_mismatch(&self, task: &NodeName, values: &Values) -> Option<String> {
        let is_task = |index: &NodeIndex| {
            let node = self.node(*index);
            node.name == *task && matches!(node.role, Role::Task(_) | Role::ForEach(_) | Role::Wait(_))
        };
        let index = self.indices().find(is_task)?;
        match &self.node(index).role {
            Role::Wait(wait) => {
                let named =
                    |(own, of_flow): (&ValueName, &ValueName)| Some((of_flow.clone(), values.get(own)?.clone()));
                let values = wait.provides.iter().filter_map(named).collect();
                self.mismatch_of_wait(index, &values, &Budget::new())
            }
            Role::Task(_) | Role::ForEach(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => {
                self.mismatch_of_firing(index, values, &Budget::new())
            }
        }
    }

    fn mismatch_of_wait(&self, wait: NodeIndex, values: &Values, budget: &Budget) -> Option<String> {
        self.mismatch(values, budget, |input| input.from == Some(wait))
    }

    fn mismatch_of_firing(&self, entry: NodeIndex, values: &Values, budget: &Budget) -> Option<String> {
        let mut inputs = self.notification_inputs.iter();
        if !inputs.any(|input| input.from.is_none() && values.contains_key(&input.value)) {
            return None;
        }
        let reachable = self.reachable_from([entry]);
        self.mismatch(values, budget, |input| input.from.is_none() && reachable.contains(&input.by))
    }

    fn mismatch(
        &self,
        values: &Values,
        budget: &Budget,
        is_relevant: impl Fn(&NotificationInput) -> bool,
    ) -> Option<String> {
        let mut read = ReadOnce::default();
        for input in self.notification_inputs.iter().filter(|input| is_relevant(input)) {
            let Some((name, value)) = values.get_key_value(&input.value) else { continue };
            if !budget.spend(1) {
                return None;
            }
            if let Some(reason) = input.mismatch((name, value), &mut read, budget) {
                let (by, parameter) = (&self.node(input.by).name, &input.parameter);
                let parameter = if parameter == name { String::new() } else { format!(" as its {parameter:?}") };
                return Some(format!("{name:?} does not fit task {by:?}, which takes it{parameter}: {reason}"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
