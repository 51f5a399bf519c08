//! Permits for what only a few may do at the same time: a request waits for one, and dropping it gives it to the next. Namespaces
//! take turns, as `queue.rs` describes.

mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use self::queue::Queue;
pub(crate) use self::queue::{Full, MAX_WAITING, Owner};

/// A few permits. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Permits(Arc<Mutex<Queue<oneshot::Sender<Permit>>>>);

/// A permit; dropping it gives it back. `None` if it was given to someone who had gone.
#[derive(Debug)]
pub(crate) struct Permit(Option<Permits>);

impl Permits {
    pub(crate) fn new(number: usize) -> Self {
        Self(Arc::new(Mutex::new(Queue::new(number))))
    }

    /// Waits for a permit. Dropping the future gives up the place in the queue, and loses no permit.
    ///
    /// # Errors
    /// [`Full`] when too many requests of the owner wait already.
    pub(crate) async fn acquire(&self, owner: Owner) -> Result<Permit, Full> {
        let permit = {
            let mut queue = self.lock();
            if queue.take() {
                return Ok(Permit(Some(self.clone())));
            }
            let (tx, permit) = oneshot::channel();
            queue.wait(owner, tx, oneshot::Sender::is_closed)?;
            permit
        };
        Ok(permit.await.expect("the queue of this clone drops no sender"))
    }

    /// A panic in another thread cannot leave the queue half changed.
    fn lock(&self) -> MutexGuard<'_, Queue<oneshot::Sender<Permit>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(permits) = self.0.take() else { return };
        loop {
            // Not held while a permit is sent: one that arrives too late is dropped there, and comes here again.
            let next = permits.lock().give_back();
            let Some(next) = next else { return };
            match next.send(Self(Some(permits.clone()))) {
                Ok(()) => return,
                Err(mut unused) => unused.0 = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_permit_goes_to_the_next_one_who_still_waits() {
        let permits = Permits::new(1);
        let first = permits.acquire(None).await.unwrap();
        let (mut gone, mut late, mut next) =
            (Box::pin(permits.acquire(None)), Box::pin(permits.acquire(None)), Box::pin(permits.acquire(None)));
        for waiting in [&mut gone, &mut late, &mut next] {
            assert!(waiting.now_or_never().is_none(), "there is one permit");
        }
        drop(gone);
        drop(first);
        assert!(next.as_mut().now_or_never().is_none(), "another one was first");
        // It has the permit, and has not looked.
        drop(late);
        let last = next.now_or_never().expect("it is the next").unwrap();
        drop(last);
        permits.acquire(None).now_or_never().expect("the permit is free again").unwrap();
    }
}
