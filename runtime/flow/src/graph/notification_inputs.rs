//! Type checks of notification values against the parameters of tasks.

use super::{Flow, NodeIndex};
use crate::{Json, Schema, Value, ValueName, Values, schema::Budget};

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
    /// The JSON schema of the value, or of each of its elements.
    pub schema: Json,
    /// Whether the task is called for each element of the value.
    pub is_list: bool,
    /// Whether the task does not require it, so that it may be `null`.
    pub optional: bool,
}

impl NotificationInput {
    fn mismatch(&self, value: &Value, budget: &Budget) -> Option<String> {
        let is_null = matches!(value, Value::Json(json) if json.as_str().trim() == "null");
        if self.optional && is_null {
            return None;
        }
        let schema = Schema::new(&self.schema);
        if !self.is_list {
            return schema.mismatch_within(value, budget).map(|mismatch| mismatch.to_string());
        }
        match value {
            Value::Json(list) if list.as_str().trim_start().starts_with('[') => {
                let (index, mismatch) = schema.element_mismatch(list, budget)?;
                Some(format!("of its element {index}, {mismatch}"))
            }
            Value::Json(_) | Value::Bytes(_) => Some("\"for_each\" needs a list".into()),
            Value::Stored(_) => None,
        }
    }
}

impl Flow {
    /// Why values cannot complete a waiting task, for people. The values have the flow's names.
    pub fn wait_mismatch(&self, wait: NodeIndex, values: &Values) -> Option<String> {
        self.mismatch(values, |input| input.from == Some(wait))
    }

    /// Why values cannot fire a task, for people. The values have the flow's names.
    pub fn firing_mismatch(&self, entry: NodeIndex, values: &Values) -> Option<String> {
        let reachable = self.reachable_from([entry]);
        self.mismatch(values, |input| input.from.is_none() && reachable.contains(&input.by))
    }

    fn mismatch(&self, values: &Values, is_relevant: impl Fn(&NotificationInput) -> bool) -> Option<String> {
        let budget = Budget::new();
        self.notification_inputs.iter().filter(|input| is_relevant(input)).find_map(|input| {
            let reason = input.mismatch(values.get(&input.value)?, &budget)?;
            let (value, by, parameter) = (&input.value, &self.node(input.by).name, &input.parameter);
            let parameter = if parameter == value { String::new() } else { format!(" as its {parameter:?}") };
            Some(format!("{value:?} does not fit task {by:?}, which takes it{parameter}: {reason}"))
        })
    }
}
