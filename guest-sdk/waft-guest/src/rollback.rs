//! How a task's rollback is called: by the names of a `#[rollback]` function, or else by its types alone.
//!
//! `#[task(rollback = put_back)]` cannot see whether `put_back` has the attribute. It calls [`RollbackFunction`]: method
//! lookup finds [`ByName`] first if the attribute created an implementation of [`NamedRollback`], and otherwise [`ByType`],
//! which needs one more reference.

use std::{collections::BTreeSet, marker::PhantomData};

use serde::de::DeserializeOwned;

use crate::{Call, Failure, Failures, Outcome, info::Parameter, inputs::Inputs, task::RollbackCall};

/// The arguments of a rollback of a task that provides `T`.
#[derive(Debug)]
pub struct Undo<T> {
    call: RollbackCall,
    decode: fn(Inputs) -> Result<T, Failure>,
}

impl<T> Undo<T> {
    /// `decode` creates what the task provided from its values.
    #[must_use]
    pub const fn new(call: RollbackCall, decode: fn(Inputs) -> Result<T, Failure>) -> Self {
        Self { call, decode }
    }

    /// See [`Inputs::required`].
    ///
    /// # Errors
    /// As there.
    pub fn required<V: DeserializeOwned + 'static>(&mut self, name: &str, expected: &str) -> Result<V, Failure> {
        self.call.inputs.required(name, expected)
    }

    /// See [`Inputs::optional`].
    ///
    /// # Errors
    /// As there.
    pub fn optional<V: DeserializeOwned + 'static>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<Option<V>, Failure> {
        self.call.inputs.optional(name, expected)
    }

    /// The outcome of the task.
    ///
    /// # Errors
    /// A permanent failure when the values are not what the task provides now.
    pub fn outcome(&self) -> Result<Outcome<T>, Failure> {
        Ok(match self.call.outcome.clone() {
            Outcome::Provided(values) => Outcome::Provided((self.decode)(values)?),
            Outcome::Failed(failure) => Outcome::Failed(failure),
            Outcome::Unknown => Outcome::Unknown,
        })
    }

    /// The tasks that failed: the first 16 by name, with messages of 2 KiB at most.
    #[must_use]
    pub fn failures(&self) -> Failures {
        self.call.failures.clone()
    }
}

/// A function with `#[rollback]`.
pub trait NamedRollback {
    /// The inputs it takes by name.
    fn requires() -> Vec<Parameter>;
}

/// A function with `#[rollback]` for a task that provides `T`.
#[diagnostic::on_unimplemented(
    message = "this function cannot be the rollback of a task that provides `{T}`",
    label = "its `Outcome` is not an `Outcome<{T}>`"
)]
pub trait Rollback<T>: NamedRollback {
    /// Calls the function.
    ///
    /// # Errors
    /// Its own failure, or a permanent one when a value does not fit its parameter.
    fn rollback(call: &Call, undo: Undo<T>) -> Result<(), Failure>;
}

/// A function, the type of its name (created by `#[rollback]`, or a stand-in), and what its task provides.
#[derive(Debug)]
pub struct RollbackFunction<N, F, T> {
    function: F,
    types: PhantomData<(N, T)>,
}

impl<N, F, T> RollbackFunction<N, F, T> {
    /// The function of that name.
    #[must_use]
    pub const fn new(function: F) -> Self {
        Self { function, types: PhantomData }
    }
}

/// Calls a function with `#[rollback]`.
pub trait ByName<N, T> {
    /// What the rollback takes that `apply` does not.
    fn requires_besides(&self, apply: &[Parameter]) -> Vec<Parameter>;

    /// See [`Rollback::rollback`].
    ///
    /// # Errors
    /// As there.
    fn rollback(&self, call: &Call, undo: Undo<T>) -> Result<(), Failure>
    where
        N: Rollback<T>;
}

impl<N: NamedRollback, F, T> ByName<N, T> for RollbackFunction<N, F, T> {
    fn requires_besides(&self, apply: &[Parameter]) -> Vec<Parameter> {
        let known: BTreeSet<&str> = apply.iter().map(|parameter| parameter.name).collect();
        N::requires().into_iter().filter(|parameter| !known.contains(parameter.name)).collect()
    }

    fn rollback(&self, call: &Call, undo: Undo<T>) -> Result<(), Failure>
    where
        N: Rollback<T>,
    {
        N::rollback(call, undo)
    }
}

/// Calls a function without an attribute.
pub trait ByType<F, T> {
    /// Nothing: types have no names.
    fn requires_besides(&self, apply: &[Parameter]) -> Vec<Parameter>;

    /// Calls the function.
    ///
    /// # Errors
    /// As [`Rollback::rollback`].
    fn rollback<'a, Arguments>(&self, call: &'a Call, undo: Undo<T>) -> Result<(), Failure>
    where
        F: PlainRollback<'a, T, Arguments>;
}

impl<N, F, T> ByType<F, T> for &RollbackFunction<N, F, T> {
    fn requires_besides(&self, _: &[Parameter]) -> Vec<Parameter> {
        Vec::new()
    }

    fn rollback<'a, Arguments>(&self, call: &'a Call, undo: Undo<T>) -> Result<(), Failure>
    where
        F: PlainRollback<'a, T, Arguments>,
    {
        self.function.call(call, &undo)
    }
}

/// A function with parameters that are all selected by type.
#[diagnostic::on_unimplemented(
    message = "this function cannot be the rollback of a task that provides `{T}`",
    label = "its parameters or what it returns do not fit",
    note = "a rollback takes any of `&Call`, `Outcome<{T}>` and `Failures`, and returns `Result<(), Failure>`",
    note = "to take inputs by name too, it needs the attribute `#[rollback]`"
)]
pub trait PlainRollback<'a, T, Arguments> {
    /// Calls the function.
    ///
    /// # Errors
    /// As [`Rollback::rollback`].
    fn call(&self, call: &'a Call, undo: &Undo<T>) -> Result<(), Failure>;
}

/// A parameter that is selected by its type.
pub trait Part<'a, T>: Sized {
    /// The argument for it.
    ///
    /// # Errors
    /// A permanent failure when the values do not fit.
    fn part(call: &'a Call, undo: &Undo<T>) -> Result<Self, Failure>;
}

impl<'a, T> Part<'a, T> for &'a Call {
    fn part(call: &'a Call, _: &Undo<T>) -> Result<Self, Failure> {
        Ok(call)
    }
}

impl<T> Part<'_, T> for Outcome<T> {
    fn part(_: &Call, undo: &Undo<T>) -> Result<Self, Failure> {
        undo.outcome()
    }
}

impl<T> Part<'_, T> for Failures {
    fn part(_: &Call, undo: &Undo<T>) -> Result<Self, Failure> {
        Ok(undo.failures())
    }
}

macro_rules! plain_rollback {
    ($($argument:ident)*) => {
        impl<'a, T, F, $($argument,)*> PlainRollback<'a, T, ($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Result<(), Failure>,
            $($argument: Part<'a, T>,)*
        {
            fn call(&self, _call: &'a Call, _undo: &Undo<T>) -> Result<(), Failure> {
                self($($argument::part(_call, _undo)?),*)
            }
        }
    };
}

plain_rollback!();
plain_rollback!(A);
plain_rollback!(A B);
plain_rollback!(A B C);
