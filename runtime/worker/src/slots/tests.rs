//! Slots with a virtual clock.

use futures::{FutureExt as _, future::poll_fn};

use super::*;

/// A call whose job has just arrived.
async fn begun(slots: &Arc<Slots>) -> Slot {
    slots.acquire().await.begin().expect("nobody took its slot")
}

/// A call that has lent its slot.
async fn lent(slots: &Arc<Slots>) -> Slot {
    let slot = begun(slots).await;
    assert!(slot.lendable().lend());
    slot
}

fn try_begin(slots: &Arc<Slots>) -> Option<Slot> {
    slots.acquire().now_or_never()?.begin()
}

async fn call(slots: &Arc<Slots>, length: Duration) {
    let _slot = begun(slots).await;
    tokio::time::advance(length).await;
}

/// Whether a call that waits for a slot again has one now.
fn has_returned(slot: &Arc<dyn CallSlot>) -> bool {
    poll_fn(|context| slot.poll_take_back(context)).now_or_never().is_some()
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
    let leased = begun(&slots).await;
    leased.lease();
    leased.lease();
    assert_eq!(slots.prefetch(), 2, "the broker does not count the leased call");
    let other = begun(&slots).await;
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

#[tokio::test(start_paused = true)]
async fn a_lent_slot_serves_other_jobs() {
    let slots = Slots::new(1);
    let waiting = begun(&slots).await;
    assert!(try_begin(&slots).is_none());
    assert!(waiting.lendable().lend());
    let other = try_begin(&slots).expect("the slot is lent");
    assert!(!waiting.lendable().lend(), "it has none");
    assert!(try_begin(&slots).is_none());
    drop(other);
    assert!(has_returned(&waiting.lendable()), "the slot is free again");
    assert!(try_begin(&slots).is_none(), "the first call has it");
    drop(waiting);
    assert!(try_begin(&slots).is_some());
}

#[tokio::test(start_paused = true)]
async fn calls_return_in_order_and_before_new_jobs() {
    let slots = Slots::new(1);
    let mut calls = Vec::new();
    for _ in 0..3 {
        let call = begun(&slots).await;
        assert!(call.lendable().lend());
        calls.push(call);
    }
    let computing = begun(&slots).await;
    let mut next_job = Box::pin(slots.acquire());
    assert!(next_job.as_mut().now_or_never().is_none());
    for returning in [2, 0, 1] {
        assert!(!has_returned(&calls[returning].lendable()));
    }
    drop(computing);
    assert_eq!([0, 1, 2].map(|call| has_returned(&calls[call].lendable())), [false, false, true]);
    // The one after it has ended before its turn.
    drop(calls.remove(0));
    drop(calls.pop());
    assert!(has_returned(&calls[0].lendable()));
    assert!(next_job.as_mut().now_or_never().is_none(), "it comes last");
    drop(calls);
    assert!(next_job.now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_returning_call_is_woken() {
    let slots = Slots::new(1);
    let waiting = begun(&slots).await;
    assert!(waiting.lendable().lend());
    let other = begun(&slots).await;
    let slot = waiting.lendable();
    assert!(!has_returned(&slot), "the other call has the slot");
    let end = async { drop(other) };
    // The second is polled once the first waits.
    futures::join!(poll_fn(|context| slot.poll_take_back(context)), end);
}

#[tokio::test(start_paused = true)]
async fn a_returning_call_takes_a_slot_that_is_reserved_for_the_next_job() {
    let slots = Slots::new(1);
    let waiting = begun(&slots).await;
    assert!(waiting.lendable().lend());
    let reserved = slots.acquire().await;
    assert!(has_returned(&waiting.lendable()), "no job has arrived for it");
    assert!(reserved.begin().is_none(), "the job comes later");
    assert!(slots.acquire().now_or_never().is_none());
    assert!(waiting.lendable().lend());
    let reserved = slots.acquire().await;
    assert!(has_returned(&waiting.lendable()));
    drop((waiting, reserved));
    let _first = try_begin(&slots).expect("there is one slot");
    assert!(try_begin(&slots).is_none(), "and no more");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_ends_while_it_waits_or_returns_leaves_no_slot_behind() {
    let slots = Slots::new(1);
    let waiting = begun(&slots).await;
    assert!(waiting.lendable().lend());
    let late = waiting.lendable();
    drop(waiting);
    assert!(!late.lend() && !late.give_way() && has_returned(&late), "its call has ended");
    let returning = begun(&slots).await;
    assert!(returning.lendable().lend());
    let other = begun(&slots).await;
    assert!(!has_returned(&returning.lendable()));
    drop(returning);
    drop(other);
    let _first = try_begin(&slots).expect("there is one slot");
    assert!(try_begin(&slots).is_none(), "and no more");
    assert_eq!(slots.lock().calls.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_got_a_slot_and_ends_before_it_looks_frees_the_slot() {
    let slots = Slots::new(1);
    let returning = begun(&slots).await;
    assert!(returning.lendable().lend());
    let other = begun(&slots).await;
    assert!(!has_returned(&returning.lendable()));
    drop(other);
    drop(returning);
    assert!(try_begin(&slots).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_computing_call_gives_way_to_returning_calls_after_its_time() {
    let slots = Slots::new(1);
    let waiting = begun(&slots).await;
    assert!(waiting.lendable().lend());
    let computing = begun(&slots).await;
    tokio::time::advance(TIME_SLICE).await;
    assert!(!computing.lendable().give_way(), "no call returns");
    assert!(!has_returned(&waiting.lendable()));
    assert!(computing.lendable().give_way());
    assert!(has_returned(&waiting.lendable()));
    assert!(!has_returned(&computing.lendable()));
    assert!(!waiting.lendable().give_way(), "it has not computed for long");
    tokio::time::advance(TIME_SLICE).await;
    assert!(waiting.lendable().give_way());
    assert!(has_returned(&computing.lendable()));
    assert!(slots.acquire().now_or_never().is_none(), "new jobs come later");
}

#[tokio::test(start_paused = true)]
async fn calls_that_compute_for_long_end_in_their_order() {
    let slots = Slots::new(1);
    let (first, second, third) = (lent(&slots).await, lent(&slots).await, begun(&slots).await);
    tokio::time::advance(SHORT_BURST).await;
    assert!(!has_returned(&second.lendable()));
    assert!(third.lendable().give_way(), "nobody knows yet for how long the other computes");
    assert!(has_returned(&second.lendable()) && !has_returned(&first.lendable()));
    tokio::time::advance(SHORT_BURST).await;
    assert!(second.lendable().give_way());
    assert!(has_returned(&first.lendable()) && !has_returned(&second.lendable()));
    tokio::time::advance(SHORT_BURST).await;
    assert!(!first.lendable().give_way(), "the others were begun later");
    drop(first);
    assert!(has_returned(&second.lendable()) && !has_returned(&third.lendable()));
    tokio::time::advance(SHORT_BURST).await;
    assert!(!second.lendable().give_way());
    drop(second);
    assert!(has_returned(&third.lendable()));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_computes_for_long_goes_on_after_all_short_ones_that_are_ready() {
    let slots = Slots::new(1);
    let (one, other, long) = (lent(&slots).await, lent(&slots).await, begun(&slots).await);
    tokio::time::advance(SHORT_BURST).await;
    assert!(!has_returned(&one.lendable()) && !has_returned(&other.lendable()));
    assert!(long.lendable().give_way());
    assert!(has_returned(&one.lendable()) && one.lendable().lend());
    assert!(has_returned(&other.lendable()) && !has_returned(&long.lendable()));
    assert!(!has_returned(&one.lendable()), "it returns again");
    assert!(other.lendable().lend());
    assert!(has_returned(&long.lendable()), "before those that are ready since then");
}

#[tokio::test(start_paused = true)]
async fn short_calls_that_always_return_do_not_keep_a_slot_from_one_that_computes_for_long() {
    let slots = Slots::new(1);
    let (one, other, long) = (lent(&slots).await, lent(&slots).await, begun(&slots).await);
    tokio::time::advance(SHORT_BURST).await;
    assert!(!has_returned(&one.lendable()) && !has_returned(&other.lendable()));
    assert!(long.lendable().give_way() && has_returned(&one.lendable()));
    tokio::time::advance(SHORT_BURST / 2).await;
    assert!(one.lendable().lend() && !has_returned(&one.lendable()));
    assert!(has_returned(&other.lendable()), "the long one has waited shortly");
    tokio::time::advance(SHORT_BURST / 2).await;
    assert!(other.lendable().lend());
    assert!(
        has_returned(&long.lendable()) && !has_returned(&one.lendable()),
        "it has waited for as long as a short one computes"
    );
}

#[tokio::test(start_paused = true)]
async fn a_taken_reservation_leaves_credit_for_the_next_job() {
    let slots = Slots::new(1);
    let call = lent(&slots).await;
    let reserved = slots.acquire().await;
    assert!(has_returned(&call.lendable()));
    assert_eq!(slots.min_prefetch(), 2, "the broker counts the delivery of the call");
    drop(reserved);
}

#[tokio::test(start_paused = true)]
async fn a_call_lends_its_slot_to_a_returning_one_only() {
    let slots = Slots::new(1);
    let (other, call) = (lent(&slots).await, begun(&slots).await);
    assert!(!call.lendable().lend_to_returning(), "no call returns");
    assert!(!has_returned(&other.lendable()));
    assert!(call.lendable().lend_to_returning());
    assert!(has_returned(&other.lendable()));
}

#[tokio::test(start_paused = true)]
async fn prefetch_counts_waiting_calls_until_their_deliveries_are_settled() {
    let slots = Slots::new(2);
    let waiting = begun(&slots).await;
    assert!(waiting.lendable().lend());
    assert_eq!(
        (slots.prefetch(), slots.min_prefetch()),
        (3, 3),
        "the broker counts its delivery, and both slots serve"
    );
    let _other = begun(&slots).await;
    assert_eq!(slots.prefetch(), 3);
    waiting.lease();
    assert_eq!(slots.prefetch(), 2);
    let again = begun(&slots).await;
    assert!(again.lendable().lend());
    assert_eq!(slots.prefetch(), 3);
    slots.opened();
    assert_eq!(slots.prefetch(), 1, "new consumers count no call, and one of the calls has a slot");
    assert!(has_returned(&again.lendable()));
    assert_eq!((slots.prefetch(), slots.min_prefetch()), (1, 1), "both slots serve calls that no consumer counts");
    drop(again);
    assert_eq!(slots.prefetch(), 1);
    drop(waiting);
    assert_eq!(slots.prefetch(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_the_time_with_a_slot_is_the_length_of_a_call() {
    let slots = Slots::new(1);
    for _ in 0..100 {
        let slot = begun(&slots).await;
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(slot.lendable().lend());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(has_returned(&slot.lendable()));
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let length = slots.lock().length;
    assert!(length <= Duration::from_millis(3), "{length:?}");
    assert!(slots.prefetch() > 10, "{}", slots.prefetch());
}
