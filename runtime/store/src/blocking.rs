//! Work that blocks, files and hashing, away from the threads that must not.

use std::{future, panic};

/// Runs blocking work and waits for it. Dropped, the work still goes to its end.
pub(crate) async fn blocking<Output: Send + 'static>(work: impl FnOnce() -> Output + Send + 'static) -> Output {
    match tokio::task::spawn_blocking(work).await {
        Ok(output) => output,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => panic::resume_unwind(payload),
            // Only a runtime that shuts down cancels such work, and then drops who waits for it, too.
            Err(_) => future::pending().await,
        },
    }
}
