//! The answer of a worker to a call.

use crate::{CallId, Execution, Failure, Values, WorkerName};

/// A worker's answer to one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// The call.
    pub call: CallId,
    /// The result.
    pub answer: TaskResult,
    /// The number of the execution.
    pub execution: Execution,
    /// Whether the job was delivered before, to a worker that was lost with its answer: the effects of that execution are
    /// unknown.
    pub redelivered: bool,
    /// The worker that executed the call.
    pub worker: Option<WorkerName>,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskResult {
    /// It succeeded and provided these values, by the module's names.
    Succeeded(Values),
    /// It failed.
    Failed(Failure),
}
