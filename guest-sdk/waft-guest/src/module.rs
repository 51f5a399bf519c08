//! The tasks of one module, found by name. `export!` lists them.

use crate::{
    Call, Failure,
    content::Value,
    info::TaskInfo,
    inputs::Inputs,
    task::{RollbackCall, Task},
};

/// One task of a module.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    name: &'static str,
    info: fn() -> TaskInfo,
    apply: fn(&Call, Inputs) -> Result<Vec<Value>, Failure>,
    rollback: fn(&Call, RollbackCall) -> Result<(), Failure>,
}

impl Entry {
    /// The entry of a task.
    #[must_use]
    pub const fn of<T: Task>() -> Self {
        Self { name: T::NAME, info: T::info, apply: T::apply, rollback: T::rollback }
    }

    /// The task of that name.
    ///
    /// # Errors
    /// A permanent failure when the module has no such task.
    pub fn find<'a>(tasks: &'a [Self], name: &str) -> Result<&'a Self, Failure> {
        tasks
            .iter()
            .find(|task| task.name == name)
            .ok_or_else(|| Failure::permanent(format!("this module has no task {name:?}")))
    }

    /// See [`Task::info`].
    #[must_use]
    pub fn info(&self) -> TaskInfo {
        (self.info)()
    }

    /// See [`Task::apply`].
    ///
    /// # Errors
    /// As there.
    pub fn apply(&self, call: &Call, inputs: Inputs) -> Result<Vec<Value>, Failure> {
        (self.apply)(call, inputs)
    }

    /// See [`Task::rollback`].
    ///
    /// # Errors
    /// As there.
    pub fn rollback(&self, call: &Call, rollback: RollbackCall) -> Result<(), Failure> {
        (self.rollback)(call, rollback)
    }
}
