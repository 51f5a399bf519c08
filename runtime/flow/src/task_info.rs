//! What a module says of its tasks.

use crate::{Export, Json, LimitOverrides, RetryPolicy, ValueName};

/// One task of a module, as its `describe` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskInfo {
    /// What follows `#` in `use = "module#task"`.
    pub name: Export,
    /// What it does, in its author's words.
    pub doc: String,
    /// What `apply` takes.
    pub requires: Vec<Parameter>,
    /// What it leaves.
    pub provides: Vec<Provided>,
    /// Whether what it did can be taken back, and what that takes.
    pub rollback: Rollback,
    /// The retry policy it is written for.
    pub retry: Option<RetryPolicy>,
    /// The limits it is written for.
    pub limits: LimitOverrides,
}

/// Whether a task can be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollback {
    /// Nothing is called: the task passes through rolling-back by itself.
    None,
    /// The guest's `rollback` is called, with these inputs besides those of `apply`.
    Guest {
        /// What it takes that `apply` does not.
        requires: Vec<Parameter>,
    },
}

/// A named value that a task takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: ValueName,
    /// What it means.
    pub doc: String,
    /// Its JSON schema, where known.
    pub schema: Option<Json>,
    /// Whether the task can do without.
    pub optional: bool,
}

/// A named value that a task leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// Its name.
    pub name: ValueName,
    /// What it means.
    pub doc: String,
    /// Its JSON schema, where known.
    pub schema: Option<Json>,
}
