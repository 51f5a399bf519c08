//! Runs blocking work, such as file access and hashing, away from async threads.

use std::{future, panic, sync::Arc};

/// Runs blocking work and waits for it. If the future is dropped, work that has begun still runs to its end, and other work does not
/// begin: so callers that leave do not make the others wait.
pub(crate) async fn blocking<Output: Send + 'static>(work: impl FnOnce() -> Output + Send + 'static) -> Output {
    // It lives as long as this future.
    let caller = Arc::new(());
    let awaited = Arc::downgrade(&caller);
    let done = tokio::task::spawn_blocking(move || (awaited.strong_count() > 0).then(work)).await;
    drop(caller);
    match done {
        Ok(output) => output.expect("the caller waits for it"),
        Err(error) => match error.try_into_panic() {
            Ok(payload) => panic::resume_unwind(payload),
            // Such work is cancelled only when the runtime shuts down, which drops this future too.
            Err(_) => future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    };

    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn work_that_nobody_waits_for_does_not_begin() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let begun = Arc::new(AtomicU32::new(0));
        let work = || {
            let begun = begun.clone();
            move || begun.fetch_add(1, Ordering::Relaxed)
        };
        runtime.block_on(async {
            let (end, ended) = mpsc::channel::<()>();
            // It takes the only thread.
            let mut first = Box::pin(blocking(move || ended.recv().is_err()));
            assert!(first.as_mut().now_or_never().is_none());
            for _ in 0..100 {
                assert!(blocking(work()).now_or_never().is_none(), "its caller leaves");
            }
            drop(end);
            assert!(first.await);
            assert_eq!(blocking(work()).await, 0, "nothing has begun before");
        });
        assert_eq!(begun.load(Ordering::Relaxed), 1);
    }
}
