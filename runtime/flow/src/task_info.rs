//! The descriptions of a module's tasks.

use crate::{Export, Json, LimitOverrides, RetryPolicy, ValueName};

/// One task of a module, as its `describe` function returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskInfo {
    /// The name after `#` in `use = "module#task"`.
    pub name: Export,
    /// Its description by the author.
    pub doc: String,
    /// The parameters of `apply`.
    pub requires: Vec<Parameter>,
    /// The values that it provides.
    pub provides: Vec<Provided>,
    /// Whether a guest function rolls it back, with the additional parameters.
    pub rollback: Rollback,
    /// The retry policy that its author chose.
    pub retry: Option<RetryPolicy>,
    /// The limits that its author chose.
    pub limits: LimitOverrides,
}

impl TaskInfo {
    /// The size of its texts in bytes: names, descriptions and schemas.
    #[must_use]
    pub fn size(&self) -> usize {
        let Self { name, doc, requires, provides, rollback, retry: _, limits: _ } = self;
        let rollback_parameters = match rollback {
            Rollback::None => &[],
            Rollback::Guest { requires } => requires.as_slice(),
        };
        let schema = |schema: &Option<Json>| schema.as_ref().map_or(0, |schema| schema.as_str().len());
        let of_parameter =
            |parameter: &Parameter| parameter.name.as_str().len() + parameter.doc.len() + schema(&parameter.schema);
        let of_provided =
            |provided: &Provided| provided.name.as_str().len() + provided.doc.len() + schema(&provided.schema);
        name.as_str().len()
            + doc.len()
            + requires.iter().chain(rollback_parameters).map(of_parameter).sum::<usize>()
            + provides.iter().map(of_provided).sum::<usize>()
    }
}

/// The rollback of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollback {
    /// No guest is called: the task passes through rolling-back by itself.
    None,
    /// The guest's `rollback` is called, with these inputs in addition to those of `apply`.
    Guest {
        /// The additional parameters.
        requires: Vec<Parameter>,
    },
}

/// A named value that a task takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: ValueName,
    /// Its description.
    pub doc: String,
    /// Its JSON schema, where known.
    pub schema: Option<Json>,
    /// Whether the value may be missing.
    pub optional: bool,
}

/// A named value that a task provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// Its name.
    pub name: ValueName,
    /// Its description.
    pub doc: String,
    /// Its JSON schema, where known.
    pub schema: Option<Json>,
}
