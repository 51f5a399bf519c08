//! Work that takes long for large requests, such as reading and wiring flows: in threads of its own, so that the server answers
//! others and its engine goes on, and a few at a time, so that it does not take all cores.

use tokio::sync::Semaphore;

/// Number of requests that are worked on at the same time. The others wait in the order in which they came.
const MAX_AT_ONCE: usize = 2;

static TURNS: Semaphore = Semaphore::const_new(MAX_AT_ONCE);

/// Does work when it is its turn. Dropping the future leaves begun work to end by itself, without another taking its place before.
pub(crate) async fn in_turn<Output: Send + 'static>(work: impl FnOnce() -> Output + Send + 'static) -> Output {
    let turn = TURNS.acquire().await.expect("the semaphore is never closed");
    let working = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    match working.await {
        Ok(output) => output,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime ends, and nobody waits for the work any more.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn a_few_work_at_the_same_time() {
        let (working, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = |number: usize| {
            let (working, most) = (working.clone(), most.clone());
            in_turn(move || {
                most.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
                working.fetch_sub(1, Ordering::SeqCst);
                number
            })
        };
        let done = futures::future::join_all((0..20).map(work)).await;
        assert_eq!(done, (0..20).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), MAX_AT_ONCE);
    }
}
