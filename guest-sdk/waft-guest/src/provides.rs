//! A struct whose fields are the values a task provides.

use crate::{Failure, content::Value, info::Provided, inputs::Inputs};

/// A struct whose fields are the values a task provides, each with its doc comment.
///
/// ```
/// use waft_guest::prelude::*;
///
/// #[derive(Provides)]
/// struct Halves {
///     /// The first half.
///     first: String,
///     /// The second half.
///     second: String,
/// }
///
/// #[task(provides = fields)]
/// fn halve(text: &str) -> Halves {
///     let (first, second) = text.split_at(text.floor_char_boundary(text.len() / 2));
///     Halves { first: first.into(), second: second.into() }
/// }
/// # fn main() {}
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not define its fields as values",
    note = "put `#[derive(Provides)]` on the struct, or name the values: `provides = [\"first\", \"second\"]`"
)]
pub trait Provides: Sized {
    /// The descriptions of the fields.
    #[doc(hidden)]
    fn provided() -> Vec<Provided>;

    /// The fields as values.
    #[doc(hidden)]
    fn into_values(self) -> Result<Vec<Value>, Failure>;

    /// The struct from its values, for a rollback.
    #[doc(hidden)]
    fn from_values(values: Inputs) -> Result<Self, Failure>;
}
