//! What a call is told, and what comes of it.

use std::{fmt, time::Duration};

use bytes::Bytes;
use flow::{Export, Failure, FailureSummary, FlowName, Limits, NodeName, Outcome, RunId, Timestamp, ValueName, Values};
use tokio_util::sync::CancellationToken;

/// One call of a guest: a job, as the sandbox sees it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The run.
    pub run: RunId,
    /// The flow.
    pub flow: FlowName,
    /// The task's name in the flow.
    pub task: NodeName,
    /// The task's name in the module; a WASI command has none.
    pub export: Option<Export>,
    /// How often the task has been triggered, from 1.
    pub firing: u64,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// The same for every attempt of one firing.
    pub idempotency_key: String,
    /// When the job was handed out: the guest's wall clock stands here.
    pub job_time: Timestamp,
    /// What the task takes, by its module's names.
    pub inputs: Values,
    /// Apply or rollback.
    pub action: Action,
    /// What the call may use.
    pub limits: Limits,
    /// What it must leave, by its module's names.
    pub required_outputs: Vec<ValueName>,
    /// Cancelled to stop this one call.
    pub interrupt: CancellationToken,
}

/// Which of its two functions a task is called for.
#[derive(Debug, Clone)]
pub enum Action {
    /// Do what the task is for.
    Apply,
    /// Take it back.
    Rollback {
        /// What apply left.
        outcome: Outcome,
        /// The tasks that failed, and why.
        failures: FailureSummary,
    },
}

/// What a call came to.
#[derive(Debug, Clone)]
pub struct CallReport {
    /// The answer.
    pub completion: Completion,
    /// The lines the guest logged, up to the limit.
    pub log: Vec<LogLine>,
    /// What it wrote to standard output. A command's apply answers there: then this is empty.
    pub stdout: Bytes,
    /// What it wrote to standard error, up to the limit.
    pub stderr: Bytes,
    /// What it took.
    pub stats: Stats,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// It did what it was asked for and left these values; a rollback leaves none.
    Succeeded(Values),
    /// It did not: the guest says so, or a limit.
    Failed(Failure),
    /// It was stopped from outside before it ended.
    Interrupted,
}

/// What a call took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Wall-clock time from its start.
    pub duration: Duration,
    /// Bytes over all its linear memories.
    pub memory: u64,
}

/// One line that a guest logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// The line.
    pub message: String,
}

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For one who follows every step.
    Trace,
    /// For a developer.
    Debug,
    /// For everyone.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something went wrong.
    Error,
}

impl Level {
    /// The level's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

/// Which of a guest's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standard {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Hears what a guest says while it runs. Called from within the guest's call: it must be quick and must not block.
pub trait Observer: Send + Sync {
    /// The guest logged a line. What is beyond the limit is not told.
    fn log(&self, level: Level, line: &str);

    /// The guest has printed some bytes, which need not be whole lines. What is beyond the limit is not told, and neither is
    /// the answer that a command prints.
    fn print(&self, standard: Standard, bytes: &[u8]);

    /// The guest tells how far it is, from 0 to 1, and what it does now.
    fn progress(&self, fraction: f64, message: &str);
}
