//! Permits for what only a few may do at the same time: a request waits for one, and dropping it gives it to the next. Namespaces
//! take turns, as `queue.rs` describes.

mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use self::queue::Queue;
pub use self::queue::{Full, Owner};

/// A few permits. Clones share them.
#[derive(Debug, Clone)]
pub struct Permits(Arc<Mutex<Queue<oneshot::Sender<Permit>>>>);

/// A permit; dropping it gives it back. `None` if it was given to someone who had gone.
#[derive(Debug)]
pub struct Permit(Option<(Permits, Owner)>);

impl Permits {
    /// Creates some permits. The last free one is for an owner that has none: so an owner has at most all but one, if there are
    /// several. At most `max_waiting` requests of one owner wait.
    #[must_use]
    pub fn new(number: usize, max_waiting: usize) -> Self {
        Self(Arc::new(Mutex::new(Queue::new(number, max_waiting))))
    }

    /// Waits for a permit. Dropping the future gives up the place in the queue, and loses no permit.
    ///
    /// # Errors
    /// [`Full`] when too many requests of the owner wait already.
    pub async fn acquire(&self, owner: Owner) -> Result<Permit, Full> {
        let permit = {
            let mut queue = self.lock();
            if queue.take(&owner) {
                return Ok(Permit(Some((self.clone(), owner))));
            }
            let (tx, permit) = oneshot::channel();
            queue.wait(owner, tx, oneshot::Sender::is_closed)?;
            permit
        };
        Ok(permit.await.expect("the queue of this clone drops no sender"))
    }

    /// Gives each free permit to the next request that may have it.
    fn hand_out(&self) {
        loop {
            // Not held while a permit is sent: one that arrives too late is dropped there, and comes here again.
            let next = self.lock().next();
            let Some((owner, next)) = next else { return };
            if let Err(mut unused) = next.send(Permit(Some((self.clone(), owner.clone())))) {
                unused.0 = None;
                self.lock().give_back(&owner);
            }
        }
    }

    /// A panic in another thread cannot leave the queue half changed.
    fn lock(&self) -> MutexGuard<'_, Queue<oneshot::Sender<Permit>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some((permits, owner)) = self.0.take() else { return };
        permits.lock().give_back(&owner);
        permits.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_permit_goes_to_the_next_one_who_still_waits() {
        let permits = Permits::new(1, 16);
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
