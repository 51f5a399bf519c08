//! Permits: which calls of tasks with `max_running` or `rate` may start, and which wait.

use serde::{Deserialize, Serialize};

use crate::Action;

/// Which tasks to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct PermitsQuery {
    /// Only tasks of this flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// Only tasks of flows in this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The maximum number of tasks: 1 to 50; the default is 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only the tasks behind those of an earlier page: its `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A page of tasks whose calls need permits.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Permits {
    /// The tasks with calls that hold a permit or wait for one, in order of flow and task.
    pub tasks: Vec<TaskPermits>,
    /// The shards about which no engine has answered within two seconds. The calls of their runs are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<String>,
    /// What to pass as `after` for the next page; left out at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The permits of a task. The calls of `waft run` take permits of the same task, and are not counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct TaskPermits {
    /// The flow.
    pub flow: String,
    /// The task.
    pub task: String,
    /// The maximum number of calls that run at once: the smallest of all runs with such a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// The maximum rate of starts, such as `10/s`: the slowest of all runs with such a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// The number of calls that hold a permit. A task with only a `rate` needs none once its call has started.
    pub given: u64,
    /// The number of calls that wait for a permit.
    pub waiting: u64,
    /// Calls that hold a permit, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<PermitCall>,
    /// Calls that wait, at most 20: those that are next among the runs of their shard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<PermitCall>,
}

/// A call that holds a permit or waits for one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct PermitCall {
    /// The run.
    pub run: String,
    /// The task; of a task with `for_each`, the element: `fetch[3]`.
    pub task: String,
    /// The firing of the task.
    pub firing: u64,
    /// The attempt.
    pub attempt: u32,
    /// Whether it executes the task or rolls it back.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub call: Action,
}
