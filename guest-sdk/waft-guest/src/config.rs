//! Configuration values, for tasks whose flow asks for them and whose operator grants them.
//!
//! ```no_run
//! use waft_guest::prelude::*;
//!
//! /// Says where servers are created.
//! #[task(provides = "region")]
//! fn region() -> Result<String, Failure> {
//!     Ok(waft_guest::config("region")?)
//! }
//! # fn main() {}
//! ```
//!
//! The flow names the values, and the operator of the worker grants them:
//!
//! ```toml
//! [[task]]
//! name = "region"
//! use = "cloud#region"
//! allow = { config = ["region"] }
//! ```
//!
//! Outside waft there are no values. In a test, [`with_values`] gives some.

#[cfg(not(target_family = "wasm"))]
mod test_values;
#[cfg(target_family = "wasm")]
mod wasi;

use std::fmt;

use crate::Failure;

#[cfg(not(target_family = "wasm"))]
use test_values as source;
#[cfg(not(target_family = "wasm"))]
pub use test_values::with_values;
#[cfg(target_family = "wasm")]
use wasi as source;

/// Why a value cannot be read: another attempt fails in the same way.
// It does not implement `std::error::Error`: such an error becomes a transient failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    name: String,
    reason: String,
}

/// Reads a configuration value.
///
/// # Errors
/// [`Error`] when the flow does not ask for the value, or the operator does not grant it.
pub fn get(name: &str) -> Result<String, Error> {
    let value = source::get(name).and_then(|value| value.ok_or_else(|| "it has no value".to_owned()));
    value.map_err(|reason| Error { name: name.to_owned(), reason })
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the configuration value {} cannot be read: {}", self.name, self.reason)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::permanent(error.to_string())
    }
}
