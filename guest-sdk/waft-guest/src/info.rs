//! What a module says of its tasks; the contract's own types, for every target.

/// One task, as `describe` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskInfo {
    /// What follows `#` in `use = "module#task"`.
    pub name: &'static str,
    /// Its doc comment.
    pub doc: &'static str,
    /// What `apply` takes.
    pub requires: Vec<Parameter>,
    /// What it leaves.
    pub provides: Vec<Provided>,
    /// What its rollback takes that `apply` does not, if it has one.
    pub rollback: Option<Vec<Parameter>>,
    /// The retry policy it is written for.
    pub retry: Option<Retry>,
    /// The limits it is written for.
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
    /// Whether the task can do without.
    pub optional: bool,
}

/// A value that a task leaves.
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
    /// It stays.
    Fixed,
}

/// When a failed call is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all.
    pub attempts: u32,
    /// How the pause grows.
    pub backoff: Backoff,
    /// The first pause.
    pub initial_milliseconds: u64,
    /// The longest pause.
    pub max_milliseconds: u64,
    /// Whether a pause is cut by chance, to no less than its half.
    pub jitter: bool,
}

/// Limits a task is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a call may take.
    pub timeout_milliseconds: Option<u64>,
    /// How much memory it may have.
    pub memory_bytes: Option<u64>,
}
