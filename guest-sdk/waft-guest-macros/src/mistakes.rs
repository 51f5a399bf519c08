//! Every mistake in what a macro was given, told at once.

use quote::ToTokens;
use syn::Error;

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Mistakes(Option<Error>);

impl Mistakes {
    /// Adds a mistake, to be shown at these tokens.
    pub(crate) fn add(&mut self, at: impl ToTokens, message: impl std::fmt::Display) {
        self.extend(Error::new_spanned(at, message));
    }

    /// Adds mistakes found elsewhere.
    pub(crate) fn extend(&mut self, error: Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// The value, or the mistakes that were added and stand in its place.
    pub(crate) fn take<T>(&mut self, read: syn::Result<T>) -> Option<T> {
        read.map_err(|error| self.extend(error)).ok()
    }

    /// What was read, unless there was any mistake.
    pub(crate) fn none_or<T>(self, read: T) -> syn::Result<T> {
        match self.0 {
            Some(all) => Err(all),
            None => Ok(read),
        }
    }
}
