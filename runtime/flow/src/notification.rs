//! What a task of another flow did, as a listener receives it.

use crate::{FlowName, NodeName, Value, Values};

/// The notification of a task of another flow.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskNotification {
    /// The flow.
    pub flow: FlowName,
    /// Its task.
    pub task: NodeName,
    /// The outcome of the task.
    pub outcome: NotificationOutcome,
    /// The key of the notification, the same for each delivery.
    pub key: String,
}

/// The outcome of a task of another flow.
#[derive(Debug, Clone, PartialEq)]
pub enum NotificationOutcome {
    /// It succeeded with these values, by its flow's names.
    Success(Values),
    /// It failed permanently; the failure as a value, as failure listeners receive it.
    Failure(Value),
}
