//! Commands to a run, and their response.

use flow::Value;
use serde::{Deserialize, Serialize};

#[cfg(feature = "openapi")]
use crate::schema;
use crate::{RunState, ValuesObject};

/// The state of a run after a command was recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RunStateResponse {
    /// The run's id.
    pub run: String,
    /// Its state.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: RunState,
    /// Whether the command was a cancel, and the run is not rolled back yet. After another command it is `false`; the run
    /// itself shows whether it is being cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelling: bool,
}

/// Marks a failed rollback as done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Notification {
    /// The task.
    pub task: String,
    /// The values. A waiting task provides them under its own names; a task that fires takes them under the flow's names.
    #[serde(default, skip_serializing_if = "ValuesObject::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Values))]
    pub values: ValuesObject,
    /// Why the task fails. A notification with a failure has no values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The deduplication key: of several notifications with one key, only the first fires a persistent flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Notification {
    /// A notification of a task, at first without values.
    #[must_use]
    pub fn of(task: impl Into<String>) -> Self {
        Self { task: task.into(), ..Self::default() }
    }

    /// Adds a value.
    #[must_use]
    pub fn value(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.values.insert(name, &Value::json(&value.into()));
        self
    }

    /// Adds a value of bytes.
    #[must_use]
    pub fn value_bytes(mut self, name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        self.values.insert(name, &Value::Bytes(bytes.as_ref().into()));
        self
    }

    /// Makes the task fail with a message; the notification then carries no values.
    #[must_use]
    pub fn fail(mut self, message: impl Into<String>) -> Self {
        self.failure = Some(message.into());
        self
    }

    /// Sets the deduplication key: two notifications with one key fire a persistent flow once.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}
