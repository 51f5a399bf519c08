//! Collects all errors in the input of a macro, to report them at once.

use quote::ToTokens;
use syn::Error;

/// The errors so far.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    /// Adds an error, to be shown at these tokens.
    pub(crate) fn add(&mut self, at: impl ToTokens, message: impl std::fmt::Display) {
        self.extend(Error::new_spanned(at, message));
    }

    /// Adds errors from another source.
    pub(crate) fn extend(&mut self, error: Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// The value; on an error, adds it and returns `None`.
    pub(crate) fn collect<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.extend(error)).ok()
    }

    /// Returns the value if there was no error.
    pub(crate) fn into_result<T>(self, value: T) -> syn::Result<T> {
        match self.0 {
            Some(all) => Err(all),
            None => Ok(value),
        }
    }
}
