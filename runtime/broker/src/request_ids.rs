//! Unguessable request ids: only a process that can read a request can answer it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Makes the correlation ids of one requester.
#[derive(Debug)]
pub struct RequestIds {
    /// 128 random bits.
    prefix: String,
    next: AtomicU64,
}

impl RequestIds {
    /// Ids that no other requester makes.
    ///
    /// # Panics
    /// When the operating system gives no random bytes: nothing can be kept apart then.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        Self { prefix: format!("{:032x}", u128::from_le_bytes(bytes)), next: AtomicU64::new(0) }
    }

    /// The id of the next request.
    pub fn next(&self) -> String {
        format!("{}-{}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
