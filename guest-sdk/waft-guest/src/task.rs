//! What `#[task]` makes of a function.

use crate::{Call, Failure, Failures, Outcome, content::Value, info::TaskInfo, inputs::Inputs};

/// A function with `#[task]`. Its implementor is a type of the function's name, which `export!` finds there.
#[diagnostic::on_unimplemented(
    message = "this function is not a task",
    label = "not a task",
    note = "put `#[task]` on the function"
)]
pub trait Task {
    /// The task's name in its module.
    const NAME: &'static str;

    /// Its description for `describe`.
    fn info() -> TaskInfo;

    /// Calls the function.
    ///
    /// # Errors
    /// The function's own failure, or a permanent one when an input does not fit its parameter.
    fn apply(call: &Call, inputs: Inputs) -> Result<Vec<Value>, Failure>;

    /// Calls the function that undoes it.
    ///
    /// # Errors
    /// That function's own failure, or a permanent one when a value does not fit its parameter.
    fn rollback(call: &Call, rollback: RollbackCall) -> Result<(), Failure>;
}

/// What a rollback receives besides its call.
#[derive(Debug, Clone)]
pub struct RollbackCall {
    /// The inputs of `apply`, and of the rollback itself.
    pub inputs: Inputs,
    /// The outcome of `apply`.
    pub outcome: Outcome<Inputs>,
    /// Every task that failed.
    pub failures: Failures,
}
