//! Commands to a run, and their response.

use serde::{Deserialize, Serialize};

#[cfg(feature = "server")]
use super::schema;
use super::{RunState, ValuesObject};

/// The state of a run after a command was recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub struct RunStateResponse {
    /// The run's id.
    pub run: String,
    /// Its state.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub state: RunState,
    /// Whether the run was cancelled and is not rolled back yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelling: bool,
}

/// Marks a failed rollback as done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub struct SkipRollback {
    /// The task.
    pub task: String,
    /// Why its rollback is no longer needed.
    pub reason: String,
}

impl SkipRollback {
    /// Marks the failed rollback of a task as done, for a reason that is stored in the run's history.
    #[must_use]
    pub fn new(task: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { task: task.into(), reason: reason.into() }
    }
}

/// A notification of a task: the task succeeds with the values that it provides, or it fails. A task of a persistent flow
/// that calls a guest fires with the values.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub struct Notification {
    /// The task.
    pub task: String,
    /// The values. A waiting task provides them under its own names; a task that fires takes them under the flow's names.
    #[serde(default, skip_serializing_if = "ValuesObject::is_empty")]
    #[cfg_attr(feature = "server", schema(value_type = schema::Values))]
    pub values: ValuesObject,
    /// Why the task fails. A notification with a failure has no values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The deduplication key: of several notifications with one key, only the first fires a persistent flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}
