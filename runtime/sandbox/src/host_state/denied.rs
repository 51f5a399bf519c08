//! Why something was denied to a guest.

use std::sync::{Arc, Mutex, PoisonError};

/// Why the first denied thing was denied, if one was. Requests and writes go on in the background, so it is shared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Denied(Arc<Mutex<Option<String>>>);

impl Denied {
    /// Notes a reason, unless there is one.
    pub(super) fn note(&self, reason: impl FnOnce() -> String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(reason);
    }

    /// The first reason.
    pub(super) fn first(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
