//! Guests that are futures, with a virtual clock.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::run::{MAX_SLOT_WAIT, StopReason};

/// A slot that other calls can keep from this one.
#[derive(Debug, Default)]
struct TestSlot {
    /// Whether it is lent or was given away now.
    is_away: AtomicBool,
    is_taken: AtomicBool,
    wants_it: AtomicBool,
    lent: AtomicUsize,
    gave_way: AtomicUsize,
    waker: AtomicWaker,
}

impl TestSlot {
    fn lent(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }

    fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Relaxed)
    }

    fn set_taken(&self, is_taken: bool) {
        self.is_taken.store(is_taken, Ordering::Relaxed);
        self.waker.wake();
    }
}

impl CallSlot for TestSlot {
    fn lend(&self) -> bool {
        assert!(!self.is_away.swap(true, Ordering::Relaxed), "it has its slot");
        self.lent.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn lend_to_returning(&self) -> bool {
        self.wants_it.swap(false, Ordering::Relaxed) && self.lend()
    }

    fn give_way(&self) -> bool {
        if self.wants_it.swap(false, Ordering::Relaxed) {
            self.is_away.store(true, Ordering::Relaxed);
            self.gave_way.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        false
    }

    fn poll_take_back(&self, context: &mut Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        if self.is_taken.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        self.is_away.store(false, Ordering::Relaxed);
        Poll::Ready(())
    }
}

/// What a call has whose module has no code.
const fn bytes(memory: u64) -> Held {
    Held { memory, code: Code { module: 0, bytes: 0 } }
}

/// What one call has.
struct Harness {
    slot: TestSlot,
    waiting: WaitingCalls,
    watch: Watchdog,
    interrupt: CancellationToken,
}

impl Harness {
    fn new(limits: WaitingLimits) -> Self {
        let interrupt = CancellationToken::new();
        let watch = Watchdog::start(Duration::from_secs(10), [interrupt.clone(), CancellationToken::new()]);
        Self { slot: TestSlot::default(), waiting: WaitingCalls::new(limits, 1, 100), watch, interrupt }
    }

    /// Runs a guest that holds ten bytes and one mapping.
    async fn run<T>(&self, guest: impl Future<Output = T>) -> Result<T, StopReason> {
        let Self { slot, waiting, watch, .. } = self;
        let lending = Lending { slot, waiting, watch, held: &|| bytes(10), mappings: 1 };
        let guest = async { Ok(in_slot(lending, guest).await) };
        watch.run(guest).await.map_err(|error| error.downcast::<StopReason>().expect("a reason"))
    }
}

impl Default for Harness {
    fn default() -> Self {
        Self::new(WaitingLimits { calls: 1, memory: 10 })
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_sleeps_lends_its_slot_and_has_it_again_afterwards() {
    let harness = Harness::default();
    let slept = harness.run(async {
        sleep(Duration::from_secs(1)).await;
        harness.slot.is_away()
    });
    assert_eq!(slept.await, Ok(false), "it is polled with a slot");
    assert_eq!(harness.slot.lent(), 1);
    assert_eq!(harness.waiting.lock().calls, 0, "others may wait");
    assert_eq!(harness.run(sleep(WAITING_AFTER / 2)).await, Ok(()));
    assert_eq!(harness.slot.lent(), 1, "that was short");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_computes_never_lends_its_slot() {
    let harness = Harness::default();
    let yielding = harness.watch.yielding().clone();
    let computing = harness.run(async {
        for _ in 0..100 {
            // On a busy machine, other tasks take long.
            yielding.clone().until(sleep(WAITING_AFTER * 2)).await;
        }
    });
    assert_eq!(computing.await, Ok(()));
    assert_eq!(harness.slot.lent(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_computes_as_long_as_it_waits_keeps_its_slot() {
    let harness = Harness::default();
    let yielding = harness.watch.yielding().clone();
    let guest = async {
        for _ in 0..100 {
            sleep(WAITING_AFTER / 2).await;
            yielding.clone().until(sleep(WAITING_AFTER / 2)).await;
        }
    };
    assert_eq!(harness.run(guest).await, Ok(()));
    assert_eq!(harness.slot.lent(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_only_takes_naps_lends_its_slot_at_once() {
    let harness = Harness::default();
    let naps = async {
        for _ in 0..10 {
            sleep(WAITING_AFTER * 2 / 3).await;
        }
    };
    assert_eq!(harness.run(naps).await, Ok(()));
    assert_eq!(harness.slot.lent(), 9, "the first nap was short enough");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_waits_lends_its_slot_at_once_to_a_call_that_can_go_on() {
    let harness = Harness::default();
    harness.slot.wants_it.store(true, Ordering::Relaxed);
    assert_eq!(harness.run(sleep(WAITING_AFTER / 4)).await, Ok(()));
    assert_eq!(harness.slot.lent(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_guest_is_not_polled_without_a_slot_and_its_timeout_stands_still() {
    let harness = Harness::default();
    let mut call = Box::pin(harness.run(sleep(Duration::from_secs(6))));
    assert!(tokio::time::timeout(Duration::from_secs(5), &mut call).await.is_err());
    assert!(harness.slot.is_away());
    harness.slot.set_taken(true);
    assert!(tokio::time::timeout(Duration::from_secs(60), &mut call).await.is_err(), "it waits for a slot");
    let elapsed = harness.watch.elapsed();
    assert!(elapsed < Duration::from_millis(6_100), "{elapsed:?}");
    harness.slot.set_taken(false);
    assert_eq!(call.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_has_waited_for_a_slot_has_the_rest_of_its_timeout() {
    let harness = Harness::default();
    let started = Instant::now();
    let mut call = Box::pin(harness.run(async {
        sleep(Duration::from_secs(6)).await;
        sleep(Duration::from_secs(6)).await;
    }));
    assert!(tokio::time::timeout(Duration::from_secs(5), &mut call).await.is_err());
    harness.slot.set_taken(true);
    assert!(tokio::time::timeout(Duration::from_secs(60), &mut call).await.is_err());
    harness.slot.set_taken(false);
    assert_eq!(call.await, Err(StopReason::Timeout));
    let elapsed = started.elapsed();
    assert!((69_000..69_100).contains(&elapsed.as_millis()), "ten seconds, and 59 for the slot: {elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_stands_still_only_for_some_time() {
    let harness = Harness::default();
    let started = Instant::now();
    harness.slot.set_taken(true);
    assert_eq!(harness.run(sleep(Duration::from_secs(6))).await, Err(StopReason::Timeout));
    assert_eq!(started.elapsed().as_secs(), 10 + MAX_SLOT_WAIT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_times_out_and_others_may_wait() {
    let harness = Harness::default();
    assert_eq!(harness.run(sleep(Duration::from_secs(11))).await, Err(StopReason::Timeout));
    assert_eq!((harness.slot.lent(), harness.waiting.lock().calls), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_interrupted_while_it_waits_and_while_it_waits_for_a_slot() {
    for is_taken in [false, true] {
        let harness = Harness::default();
        let mut call = Box::pin(harness.run(sleep(Duration::from_secs(2))));
        harness.slot.set_taken(is_taken);
        let time = Duration::from_secs(if is_taken { 5 } else { 1 });
        assert!(tokio::time::timeout(time, &mut call).await.is_err());
        harness.interrupt.cancel();
        assert_eq!(call.now_or_never(), Some(Err(StopReason::Interrupt)));
        assert_eq!(harness.waiting.lock().calls, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_computing_guest_gives_way_when_another_call_wants_its_slot() {
    let harness = Harness::default();
    let yielding = harness.watch.yielding().clone();
    harness.slot.wants_it.store(true, Ordering::Relaxed);
    harness.slot.set_taken(true);
    let mut call = Box::pin(harness.run(yielding.until(tokio::task::yield_now())));
    assert!(tokio::time::timeout(Duration::from_secs(60), &mut call).await.is_err(), "it waits for a slot");
    harness.slot.set_taken(false);
    assert_eq!(call.await, Ok(()));
    assert_eq!(harness.slot.gave_way.load(Ordering::Relaxed), 1);
    assert!(harness.watch.elapsed() < Duration::from_secs(1), "that was no time of the guest");
}

#[tokio::test(start_paused = true)]
async fn a_call_keeps_its_slot_while_too_many_wait_and_lends_it_later() {
    let harness = Harness::default();
    let other = harness.waiting.admit(bytes(0), 0).expect("none waits");
    let mut call = Box::pin(harness.run(sleep(Duration::from_secs(5))));
    assert!(tokio::time::timeout(Duration::from_secs(2), &mut call).await.is_err());
    assert_eq!(harness.slot.lent(), 0);
    drop(other);
    assert_eq!(call.await, Ok(()));
    assert_eq!(harness.slot.lent(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_beyond_the_bound_lends_its_slot_to_one_that_can_go_on() {
    let harness = Harness::new(WaitingLimits { calls: 1, memory: 20 });
    let other = harness.waiting.admit(bytes(0), 0).expect("none waits");
    let mut call = Box::pin(harness.run(sleep(Duration::from_secs(5))));
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut call).await.is_err());
    assert_eq!(harness.slot.lent(), 0);
    harness.slot.wants_it.store(true, Ordering::Relaxed);
    assert!(tokio::time::timeout(Duration::from_secs(2), &mut call).await.is_err());
    assert_eq!((harness.slot.lent(), harness.waiting.lock().calls), (1, 2));
    drop(other);
    assert_eq!(call.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_computing_guest_keeps_its_slot_if_its_memory_is_beyond_the_bound() {
    let harness = Harness::new(WaitingLimits { calls: 8, memory: 9 });
    let yielding = harness.watch.yielding().clone();
    harness.slot.wants_it.store(true, Ordering::Relaxed);
    assert_eq!(harness.run(yielding.until(tokio::task::yield_now())).await, Ok(()));
    assert_eq!(harness.slot.gave_way.load(Ordering::Relaxed), 0);
}

#[test]
fn number_memory_and_mappings_of_waiting_calls_are_bounded() {
    let calls = WaitingCalls::new(WaitingLimits { calls: 3, memory: 100 }, 1, 10);
    let first = calls.admit(bytes(60), 1).expect("it is the first");
    assert!(calls.admit(bytes(41), 1).is_none(), "too much memory");
    assert!(calls.admit(bytes(0), 10).is_none(), "too many mappings");
    let _others =
        [calls.admit(bytes(40), 9).expect("as much as is left"), calls.admit(bytes(0), 0).expect("the third")];
    assert!(calls.admit(bytes(0), 0).is_none(), "too many calls");
    assert!(calls.swap(bytes(101), 0).is_none(), "too much memory");
    let swapped = calls.swap(bytes(100), 0).expect("another one leaves");
    assert!(calls.swap(bytes(0), 0).is_none(), "there is one slot");
    drop((first, swapped));
    assert!(calls.admit(bytes(60), 1).is_some());
    assert!(WaitingCalls::none().admit(bytes(0), 0).is_none() && WaitingCalls::none().swap(bytes(0), 0).is_none());
}

#[test]
fn the_code_of_a_module_counts_once_for_all_its_calls() {
    let with_code = |module, bytes| Held { memory: 10, code: Code { module, bytes } };
    let calls = WaitingCalls::new(WaitingLimits { calls: 8, memory: 100 }, 0, 10);
    let [first, second] = [1, 1].map(|module| calls.admit(with_code(module, 60), 0).expect("80 bytes for both"));
    assert!(calls.admit(with_code(2, 60), 0).is_none(), "another module has code of its own");
    // A call has added a copy of the code for another engine.
    let third = calls.admit(with_code(1, 70), 0).expect("100 bytes");
    assert!(calls.admit(with_code(1, 71), 0).is_none() && calls.admit(bytes(1), 0).is_none());
    drop((first, third));
    assert_eq!(calls.lock().memory, 80, "the other call has the code");
    drop(second);
    assert_eq!(calls.lock().memory, 0);
    assert!(calls.lock().code.is_empty());
    calls.admit(with_code(2, 60), 0).expect("the other module has left");
}
