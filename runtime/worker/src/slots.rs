//! The slots of a worker: how many calls run at once, how long calls take, and how many jobs to prefetch for them.
//!
//! A call holds a slot from the arrival of its job to its result, including the check whether the call is still wanted. While
//! the signal is published, the slot serves the next job: waiting for the broker needs no core.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Amount of work to prefetch for each slot, if calls take as long as before. It covers some round trips to the
/// broker.
const PREFETCH_TIME: Duration = Duration::from_millis(50);

/// Maximum prefetch count of one queue, unless there are more slots. A broker delivers some thousand jobs per second, so
/// this is [`PREFETCH_TIME`] of its throughput.
const MAX_PREFETCH: u16 = 256;

/// Assumed length of calls before the first one: long, so that nothing is prefetched.
const INITIAL_CALL_LENGTH: Duration = Duration::from_secs(1);

/// The slots of one worker.
pub(crate) struct Slots {
    count: u16,
    free: Arc<Semaphore>,
    state: Mutex<State>,
}

struct State {
    /// Number of slots that run a call.
    running: u16,
    /// Number of times that the queues were opened. A consumer's prefetch counts only calls whose jobs it delivered.
    opening: u64,
    /// Slots held by calls that no open consumer's prefetch counts: of an earlier opening, or under a lease.
    uncounted: u16,
    /// Length of calls, weighted towards the latest ones and towards long ones.
    length: Duration,
}

impl Slots {
    pub(crate) fn new(count: u16) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(count.into()));
        let state = Mutex::new(State { running: 0, opening: 0, uncounted: 0, length: INITIAL_CALL_LENGTH });
        Arc::new(Self { count, free, state })
    }

    /// The number of slots.
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Waits for a free slot. Cancel-safe.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Slot {
        let permit = self.free.clone().acquire_owned().await.expect("the semaphore is never closed");
        Slot { slots: self.clone(), _permit: permit, started_at: None, opening: 0, is_counted: false }
    }

    /// Returns the prefetch count of a queue, running jobs included: one for each slot, plus as many as the slots
    /// process in [`PREFETCH_TIME`].
    pub(crate) fn prefetch(&self) -> u16 {
        let state = self.lock();
        let length = state.length.as_nanos().max(1);
        let prefetched = u128::from(self.count) * PREFETCH_TIME.as_nanos() / length;
        let prefetched = u16::try_from(prefetched).unwrap_or(MAX_PREFETCH).min(MAX_PREFETCH.saturating_sub(self.count));
        (self.count - state.uncounted.min(self.count)).saturating_add(prefetched).max(1)
    }

    /// Records that the queues were opened again: their prefetch counts no call that runs now.
    pub(crate) fn opened(&self) {
        let mut state = self.lock();
        state.opening += 1;
        state.uncounted = state.running;
    }

    /// Records that calls run longer than fetched jobs may wait.
    pub(crate) fn on_stalled(&self, wait: Duration) {
        let mut state = self.lock();
        state.length = state.length.max(wait);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is a single operation, so a panic in another thread leaves no partial one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot in use. Dropping it frees the slot.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    _permit: OwnedSemaphorePermit,
    /// When its job arrived.
    started_at: Option<Instant>,
    /// The opening whose consumer delivered its job.
    opening: u64,
    is_counted: bool,
}

impl Slot {
    /// Records that a job arrived for the slot, from a consumer that is open now.
    pub(crate) fn begin(&mut self) {
        let mut state = self.slots.lock();
        state.running += 1;
        self.started_at = Some(Instant::now());
        self.opening = state.opening;
        self.is_counted = true;
    }

    /// Records that the job's delivery is settled while its call runs on, so the consumer's prefetch no longer counts
    /// it.
    pub(crate) fn lease(&mut self) {
        let mut state = self.slots.lock();
        if self.is_counted && self.opening == state.opening {
            state.uncounted += 1;
        }
        self.is_counted = false;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(started_at) = self.started_at else { return };
        let mut state = self.slots.lock();
        state.running = state.running.saturating_sub(1);
        if !self.is_counted || self.opening != state.opening {
            state.uncounted = state.uncounted.saturating_sub(1);
        }
        let length = started_at.elapsed();
        // Long calls count at once, since jobs fetched behind them wait; short ones only when there are many of them.
        state.length =
            if length > state.length { (state.length + length) / 2 } else { (state.length * 9 + length) / 10 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn call(slots: &Arc<Slots>, length: Duration) {
        let mut slot = slots.acquire().await;
        slot.begin();
        tokio::time::advance(length).await;
    }

    #[tokio::test(start_paused = true)]
    async fn prefetch_starts_after_short_calls() {
        let slots = Slots::new(2);
        assert_eq!(slots.prefetch(), 2);
        for _ in 0..100 {
            call(&slots, Duration::from_millis(5)).await;
        }
        let prefetched = slots.prefetch() - 2;
        assert!((19..=20).contains(&prefetched), "{prefetched} jobs of 5 ms are about 50 ms of work for two slots");
    }

    #[tokio::test(start_paused = true)]
    async fn prefetch_is_limited() {
        let slots = Slots::new(2);
        for _ in 0..200 {
            call(&slots, Duration::ZERO).await;
        }
        assert_eq!(slots.prefetch(), MAX_PREFETCH);
        let slots = Slots::new(1_000);
        assert_eq!(slots.prefetch(), 1_000, "each slot can have its job");
    }

    #[tokio::test(start_paused = true)]
    async fn one_long_call_stops_prefetch() {
        let slots = Slots::new(2);
        for _ in 0..100 {
            call(&slots, Duration::from_millis(1)).await;
        }
        assert!(slots.prefetch() > 50, "{}", slots.prefetch());
        call(&slots, Duration::from_secs(1)).await;
        assert_eq!(slots.prefetch(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn prefetch_excludes_calls_without_consumer_credit() {
        let slots = Slots::new(3);
        let mut leased = slots.acquire().await;
        leased.begin();
        leased.lease();
        leased.lease();
        assert_eq!(slots.prefetch(), 2, "the broker does not count the leased call");
        let mut other = slots.acquire().await;
        other.begin();
        slots.opened();
        assert_eq!(slots.prefetch(), 1, "both run, and the new consumer counts neither");
        drop(leased);
        assert_eq!(slots.prefetch(), 2);
        drop(other);
        assert_eq!(slots.prefetch(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unused_slot_does_not_affect_the_call_length() {
        let slots = Slots::new(1);
        let slot = slots.acquire().await;
        slots.opened();
        tokio::time::advance(Duration::from_secs(60)).await;
        drop(slot);
        assert_eq!(slots.lock().length, INITIAL_CALL_LENGTH);
        assert_eq!(slots.prefetch(), 1);
    }
}
