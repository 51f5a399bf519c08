//! Runs blocking work, such as file access and hashing, away from async threads.

use std::{future, panic};

/// Runs blocking work and waits for it. If the future is dropped, the work still runs to its end.
pub(crate) async fn blocking<Output: Send + 'static>(work: impl FnOnce() -> Output + Send + 'static) -> Output {
    match tokio::task::spawn_blocking(work).await {
        Ok(output) => output,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => panic::resume_unwind(payload),
            // Such work is cancelled only when the runtime shuts down, which drops this future too.
            Err(_) => future::pending().await,
        },
    }
}
