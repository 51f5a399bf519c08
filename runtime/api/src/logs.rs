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

/// The output of guests during the attempts of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RunLogs {
    /// The attempts with output, in the order in which they ended.
    pub logs: Vec<AttemptLog>,
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
