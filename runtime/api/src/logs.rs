//! The output of guests.

use serde::{Deserialize, Serialize};

use crate::{Usage, open_enum::open_enum};

open_enum! {
    /// The function of a task that a call executes.
    Action from flow::Action {
        /// Executes the task.
        Apply = "apply",
        /// Rolls the task back.
        Rollback = "rollback",
    }
}

open_enum! {
    /// The level of a logged line, or the stream of a printed one.
    LogLevel {
        /// A line of the level trace.
        Trace = "trace",
        /// A line of the level debug.
        Debug = "debug",
        /// A line of the level info.
        Info = "info",
        /// A line of the level warn.
        Warn = "warn",
        /// A line of the level error.
        Error = "error",
        /// A line that the guest printed to standard output.
        Stdout = "stdout",
        /// A line that the guest printed to standard error.
        Stderr = "stderr",
    }
}

/// Which output of a run's guests to read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct LogsQuery {
    /// Only attempts of this task; of a task with `for_each`, also those of its elements. It may be an element: `fetch[3]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The value of `next` on the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The maximum number of attempts, from 1 to 1,000; 1,000 if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl LogsQuery {
    /// Selects attempts of a task, and of its elements.
    #[must_use]
    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }

    /// Continues after a page, given its [`RunLogs::next`].
    #[must_use]
    pub fn after(mut self, next: impl Into<String>) -> Self {
        self.after = Some(next.into());
        self
    }

    /// Limits the number of attempts of a page.
    #[must_use]
    pub fn limit(mut self, attempts: usize) -> Self {
        self.limit = Some(attempts);
        self
    }
}

/// A page of the output of guests during the attempts of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RunLogs {
    /// The attempts with output, in the order in which they ended.
    pub logs: Vec<AttemptLog>,
    /// The cursor for the next page; left out on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The output of a guest during one attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct AttemptLog {
    /// The task.
    pub task: String,
    /// The attempt.
    pub attempt: u32,
    /// The firing.
    pub firing: u64,
    /// `apply` or `rollback`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub call: Action,
    /// The worker that executed it, where known.
    pub worker: Option<String>,
    /// When it ended.
    pub at: String,
    /// The lines.
    pub lines: Vec<LogLine>,
    /// Whether the guest wrote more than is stored.
    pub cut: bool,
    /// What the attempt used, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// One line that a guest wrote.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct LogLine {
    /// The name of the level; `stdout` or `stderr` for printed lines.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub level: LogLevel,
    /// The line.
    pub text: String,
}
