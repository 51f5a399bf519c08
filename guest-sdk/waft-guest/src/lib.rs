//! The library for waft tasks: a task is a plain function with an attribute.
//!
//! ```
//! use waft_guest::prelude::*;
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Pan {
//!     size_cm: u32,
//! }
//!
//! /// Chooses a pan for the given amount of batter.
//! #[task(provides = "pan", rollback = put_back)]
//! fn choose_pan(
//!     /// How much batter there is.
//!     batter_ml: u32,
//! ) -> Result<Pan, Failure> {
//!     if batter_ml > 5_000 {
//!         return Err(Failure::permanent("no pan is that large"));
//!     }
//!     Ok(Pan { size_cm: 20 + batter_ml / 100 })
//! }
//!
//! fn put_back(call: &Call, pan: Outcome<Pan>) -> Result<(), Failure> {
//!     if let Outcome::Provided(pan) = pan {
//!         log::info!("{}: puts the pan of {} cm back", call.task, pan.size_cm);
//!     }
//!     Ok(())
//! }
//!
//! waft_guest::export!(choose_pan);
//! # fn main() {
//! assert_eq!(choose_pan(900).unwrap().size_cm, 29);
//! # }
//! ```
//!
//! The crate of the task is a `cdylib` for `wasm32-wasip1`. On any other target the functions are plain
//! functions, so `cargo test` tests them; logging and progress then go to standard error.
//!
//! # A task
//!
//! `#[task]` names the task after its function, with dashes: `choose_pan` is `choose-pan`. Its doc comment is the
//! task's, the names of its parameters are the values it requires, and their doc comments are those of the values. The
//! attribute takes, separated by commas:
//!
//! | key | meaning |
//! | --- | --- |
//! | `provides = "pan"` | what the function returns is the value `pan` |
//! | `provides = ["pan", "lid"]` | it returns a tuple of these values |
//! | `provides = fields` | it returns a struct whose fields are the values, see [`Provides`](trait@Provides) |
//! | `rollback = put_back` | the function that undoes this one |
//! | `retry(attempts = 3, backoff = "exponential", initial = "1s", max = "60s", jitter = true)` | when a failed call is retried, unless the flow overrides it |
//! | `timeout = "30s"`, `memory = "64MiB"` | the limits for which the task is written |
//!
//! A parameter may be of any type that [`serde`] reads, or a reference to one (`&str`, `&[u8]`, `&Pan`). `Option<T>`
//! makes it optional. `Vec<u8>` and [`Bytes`] hold bytes unchanged. A parameter of type [`&Call`](Call) describes the
//! current call. The function returns a value, or a `Result` whose error becomes a [`Failure`].
//!
//! # A rollback
//!
//! Without an attribute it takes any of [`&Call`](Call), [`Outcome<T>`](Outcome) and [`Failures`]. With
//! [`#[rollback]`](macro@rollback) it also takes inputs by name: those of the task, and others of its own.
//!
//! # Determinism
//!
//! A call is a function of its job: the clock is fixed at the job's time, randomness is seeded from the attempt, and
//! there are no files, variables or sockets unless they are granted.

// The macros refer to this crate by its name; so can its own tests.
extern crate self as waft_guest;

mod bytes;
mod call;
pub mod config;
mod content;
mod failure;
pub mod http;
mod info;
mod inputs;
pub mod log;
mod module;
pub mod net;
mod outcome;
mod progress;
mod provides;
mod rollback;
mod schema;
mod task;
#[cfg(target_family = "wasm")]
mod wasm;

pub use bytes::Bytes;
pub use call::Call;
pub use config::get as config;
pub use failure::{Failure, FailureKind, RecordedFailure, Retryable};
pub use outcome::{Failures, Outcome};
pub use progress::progress;
pub use provides::Provides;
/// Lets a rollback take inputs by name: those of the task whose `rollback` it is, and others of its own.
///
/// ```
/// use waft_guest::prelude::*;
///
/// #[task(provides = "server", rollback = destroy)]
/// fn create(region: String) -> String {
///     format!("server-1.{region}")
/// }
///
/// #[rollback]
/// fn destroy(region: &str, server: Outcome<String>) -> Result<(), Failure> {
///     log::info!("gives {server:?} in {region} back");
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// `&Call`, `Outcome<T>` and `Failures` are selected by their types. `T` is what the task returns.
pub use waft_guest_macros::rollback;
pub use waft_guest_macros::{Provides, export, task};
pub use {schemars, serde, serde_json};

/// Common imports for the functions of a module.
pub mod prelude {
    pub use crate::{
        Bytes, Call, Failure, FailureKind, Failures, Outcome, Provides, RecordedFailure, log, progress, rollback, task,
    };
    // The derive refers to the crate by its name, so it is exported too.
    pub use schemars::{self, JsonSchema};
    pub use serde::{Deserialize, Serialize};
}

/// Called by the output of the macros. It may change in any version.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_family = "wasm")]
    pub use crate::wasm::{Tasks, bindings, runtime};
    pub use crate::{
        content::{Content, Value, value},
        info::{Backoff, Limits, Parameter, Provided, Retry, TaskInfo},
        inputs::Inputs,
        module::Entry,
        rollback::{ByName, ByType, NamedRollback, Rollback, RollbackFunction, Undo},
        schema::{HasSchema, NoSchema, Schema},
        task::{RollbackCall, Task},
    };
}
