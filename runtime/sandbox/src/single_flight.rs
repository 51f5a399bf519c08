//! Work about modules that several calls need at the same time: it is done once, and all get the result.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use flow::Digest;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};

/// The work in progress, by the module that it is about. Only those who wait for it hold it: it stops once all of them are dropped.
pub(crate) struct SingleFlight<Output: Clone>(Mutex<HashMap<Digest, WeakShared<BoxFuture<'static, Output>>>>);

impl<Output: Clone> SingleFlight<Output> {
    /// The work about a module that is in progress, or new work.
    pub(crate) fn join(
        &self,
        module: Digest,
        start: impl FnOnce() -> BoxFuture<'static, Output>,
    ) -> Shared<BoxFuture<'static, Output>> {
        // Each change is a single operation, so a panic in another thread leaves no partial one.
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The others have ended.
        flights.retain(|_, flight| flight.upgrade().is_some());
        if let Some(started) = flights.get(&module).and_then(WeakShared::upgrade) {
            return started;
        }
        let started = start().shared();
        flights.insert(module, started.downgrade().expect("it has not ended, since nobody has polled it"));
        started
    }
}

impl<Output: Clone> Default for SingleFlight<Output> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn those_who_need_a_module_at_the_same_time_share_the_work() {
        let (flights, started) = (SingleFlight::default(), Cell::new(0));
        let join = |byte: u8| {
            flights.join(Digest::from_bytes([byte; 32]), || {
                started.set(started.get() + 1);
                let number = started.get();
                Box::pin(async move {
                    tokio::task::yield_now().await;
                    number
                })
            })
        };
        let (first, second, other) = (join(1), join(1), join(2));
        assert_eq!(tokio::join!(first, other, second), (1, 2, 1));
        assert_eq!(join(1).await, 3, "nobody waits for the first work any more");
        drop(join(1));
        assert_eq!(join(1).await, 5, "work that nobody waits for has stopped");
    }
}
