//! The descriptions of tasks: the contract's own types, for every target.

/// The description of a task, for `describe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskInfo {
    /// What follows `#` in `use = "module#task"`.
    pub name: &'static str,
    /// Its doc comment.
    pub doc: &'static str,
    /// What `apply` takes.
    pub requires: Vec<Parameter>,
    /// What it provides.
    pub provides: Vec<Provided>,
    /// What its rollback takes that `apply` does not, if it has one.
    pub rollback: Option<Vec<Parameter>>,
    /// The retry policy for which it is written.
    pub retry: Option<Retry>,
    /// The limits for which it is written.
    pub limits: Limits,
}

/// A value that a task takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its doc comment.
    pub doc: &'static str,
    /// Its JSON schema, where known.
    pub schema: Option<String>,
    /// Whether the task works without it.
    pub optional: bool,
}

/// A value that a task provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// Its name.
    pub name: &'static str,
    /// Its doc comment.
    pub doc: &'static str,
    /// Its JSON schema, where known.
    pub schema: Option<String>,
}

/// How the pause between attempts grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// It doubles.
    Exponential,
    /// It stays the same.
    Fixed,
}

/// When a failed call is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The total number of attempts.
    pub attempts: u32,
    /// How the pause grows.
    pub backoff: Backoff,
    /// The first pause.
    pub initial_milliseconds: u64,
    /// The longest pause.
    pub max_milliseconds: u64,
    /// Whether a pause is shortened randomly, to at least half.
    pub jitter: bool,
}

/// The limits for which a task is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a call may take.
    pub timeout_milliseconds: Option<u64>,
    /// How much memory it may use.
    pub memory_bytes: Option<u64>,
}
