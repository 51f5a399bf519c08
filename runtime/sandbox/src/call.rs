//! The input and the result of a call.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use flow::{
    CallAccess, Export, Failure, FailureSummary, FlowName, Limits, NodeName, Outcome, RunId, Timestamp, ValueName,
    Values,
};
use gateway::{LookupShare, Outbound};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{call_slot::CallSlot, host_state::DirectoryUsages};

/// One call of a guest: a job, as the sandbox receives it.
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
    /// The number of the firing, from 1.
    pub firing: u64,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The same for every attempt of one firing.
    pub idempotency_key: String,
    /// When the job was dispatched: the guest's wall clock shows this time.
    pub job_time: Timestamp,
    /// The task's inputs, by its module's names.
    pub inputs: Values,
    /// Apply or rollback.
    pub action: Action,
    /// The limits of the call.
    pub limits: Limits,
    /// The outputs that the task must provide, by its module's names.
    pub required_outputs: Vec<ValueName>,
    /// What it may reach outside its sandbox.
    pub outside: Outside,
    /// Cancelled to stop this one call.
    pub interrupt: CancellationToken,
    /// Its slot, which it lends while it waits for something outside.
    pub slot: Arc<dyn CallSlot>,
}

/// What a call may reach outside its sandbox. By default it is nothing.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    /// The clocks of the machine, instead of those of the job.
    pub clock: bool,
    /// The randomness of the machine, instead of that of the attempt.
    pub random: bool,
    /// The settings of the operator that it may read.
    pub settings: Settings,
    /// The directories that it may use.
    pub directories: Directories,
    /// The TCP connections that it may make.
    pub sockets: Sockets,
    /// The arguments of its program, after its name.
    pub arguments: Vec<String>,
    /// What checks and sends its requests; `None` where no guest has a network.
    pub gateway: Option<Arc<dyn Outbound>>,
}

/// The settings of the operator that a call may read: each that its flow asks for, or why it is denied.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Settings {
    /// The values of `wasi:config/store`.
    pub config: BTreeMap<String, Result<String, String>>,
    /// The environment variables.
    pub variables: BTreeMap<String, Result<String, String>>,
}

/// The directories of the machine that a call may use.
#[derive(Debug, Clone, Default)]
pub struct Directories {
    /// Each that its flow asks for, or why it is denied. The guest finds one at `/NAME`.
    pub all: BTreeMap<String, Result<Directory, String>>,
    /// What is known of them in this process.
    pub usages: Arc<DirectoryUsages>,
}

/// The TCP connections that a call may make.
#[derive(Debug, Clone)]
pub enum Sockets {
    /// Some.
    Granted {
        /// The rules that allow them.
        access: Arc<CallAccess>,
        /// What looks up their hosts.
        lookups: LookupShare,
    },
    /// None, and why.
    Denied(String),
}

impl Default for Sockets {
    fn default() -> Self {
        Self::Denied("no guest has a network here".into())
    }
}

/// A directory that a call may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    /// The size up to which the call may fill it, in bytes, or why the call may only read.
    pub write: Result<u64, String>,
}

/// The function of the task to call.
#[derive(Debug, Clone)]
pub enum Action {
    /// Does the task's work.
    Apply,
    /// Undoes the task's work.
    Rollback {
        /// The outcome of the apply.
        outcome: Outcome,
        /// The failed tasks, with their failures.
        failures: FailureSummary,
    },
}

/// The result of a call.
#[derive(Debug, Clone)]
pub struct CallReport {
    /// The outcome of the call.
    pub completion: Completion,
    /// The lines the guest logged, up to the limit.
    pub log: Vec<LogLine>,
    /// The guest's standard output. A command's apply returns its outputs there, and this is then empty.
    pub stdout: Bytes,
    /// The guest's standard error, up to the limit.
    pub stderr: Bytes,
    /// The resources that the call used.
    pub stats: Stats,
    /// The functions on the guest's stack when it trapped, innermost first.
    pub backtrace: Vec<Frame>,
}

/// A function on the stack of a guest that trapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Its name, or its number in the module. A very long one is cut.
    pub function: String,
    /// File, line and column, where the module has them.
    pub place: Option<String>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// The guest succeeded and returned these values; a rollback returns none.
    Succeeded(Values),
    /// The guest reported a failure, or reached a limit.
    Failed(Failure),
    /// The call was stopped from outside before it ended.
    Interrupted,
}

/// The resources that a call used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Wall-clock time from its start, without the time for which it waited for a slot.
    pub duration: Duration,
    /// CPU time of the threads that ran it, while they ran it. It includes the host's work for the guest on these threads.
    pub cpu: Duration,
    /// Bytes over all its linear memories.
    pub memory: u64,
}

/// One line that a guest logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The severity.
    pub level: Level,
    /// The line.
    pub message: String,
}

/// The severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Every step in detail.
    Trace,
    /// Details for developers.
    Debug,
    /// Information for everyone.
    Info,
    /// An unexpected event.
    Warn,
    /// An error.
    Error,
}

impl Level {
    /// The name of the level.
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

/// One of a guest's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standard {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Receives a guest's output while it runs. Called from within the guest's call: it must be quick and must not block.
pub trait Observer: Send + Sync {
    /// The guest logged a line. Lines beyond the limit are not reported.
    fn log(&self, level: Level, line: &str);

    /// The guest printed some bytes, which need not be complete lines. Bytes beyond the limit and the outputs that a command
    /// prints are not reported.
    fn print(&self, standard: Standard, bytes: &[u8]);

    /// The guest reported its progress, from 0 to 1, and its current step.
    fn progress(&self, fraction: f64, message: &str);
}
