//! The bytes that the requests and responses of a call may still have.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::HttpError;

/// The bytes that are left of a limit.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    left: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, left: AtomicU64::new(limit) }
    }

    /// The bytes that are left.
    pub(crate) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes bytes before they are sent or kept; takes nothing if too few are left.
    ///
    /// # Errors
    /// [`HttpError::TooLarge`] if too few are left.
    pub(crate) fn take(&self, bytes: u64) -> Result<(), HttpError> {
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        taken.map(|_| ()).map_err(|_| self.exceeded())
    }

    /// Counts bytes that have been received: if they are more than are left, none are left.
    ///
    /// # Errors
    /// [`HttpError::TooLarge`] if they are more than were left.
    pub(crate) fn count(&self, bytes: u64) -> Result<(), HttpError> {
        let counted =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(bytes)));
        match counted {
            Ok(left) if left >= bytes => Ok(()),
            Ok(_) | Err(_) => Err(self.exceeded()),
        }
    }

    /// The error for more bytes than are left.
    pub(crate) fn exceeded(&self) -> HttpError {
        HttpError::TooLarge { limit: self.limit }
    }
}
