//! Rules of consuming: which consumer gets which delivery, and how a consumer ends.

use std::collections::BTreeSet;

use super::{Harness, body, end, message, next, quorum, take};
use crate::{ConsumeError, QueueKind};

/// The error names the queue.
pub async fn consuming_a_missing_queue_fails(world: &Harness) {
    let nowhere = world.unique("nowhere");
    match world.broker.consume(&nowhere, 1).await {
        Err(ConsumeError::NoQueue { queue }) => assert_eq!(queue, nowhere),
        Err(other) => panic!("it must say that there is no queue, and says {other}"),
        Ok(_) => panic!("nothing is consumed"),
    }
}

/// The deliveries are still unsettled: the caller of `drain` settles them. Nothing arrives after them.
pub async fn a_drained_consumer_returns_its_deliveries(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    for text in ["a", "b", "c", "d"] {
        world.send(&queue, text).await;
    }
    let mut consumer = world.consume(&queue, 3).await;
    let first = next(&mut consumer).await;
    while !consumer.has_fetched() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let fetched = consumer.drain().await;
    assert_eq!(body(&first), "a");
    first.accept();
    let mut other = world.consume(&queue, 10).await;
    let next_to_it = next(&mut other).await;
    assert!(!next_to_it.redelivered, "what was drained did not go back");
    let mut seen: Vec<String> = fetched.iter().map(body).chain([body(&next_to_it)]).collect();
    next_to_it.accept();
    while seen.len() < 3 {
        seen.push(take(&mut other).await);
    }
    assert_eq!(seen, ["b", "c", "d"]);
    fetched.into_iter().for_each(crate::Delivery::requeue);
    assert!(next(&mut other).await.redelivered);
}

/// Another consumer gets the deliveries beyond the prefetch.
pub async fn prefetch_limits_unsettled_deliveries(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    let mut greedy = world.consume(&queue, 3).await;
    for number in 0..5 {
        world.send(&queue, &number.to_string()).await;
    }
    let mut held = Vec::new();
    for number in 0..3 {
        let delivery = next(&mut greedy).await;
        assert_eq!(body(&delivery), number.to_string());
        held.push(delivery);
    }
    let mut other = world.consume(&queue, 2).await;
    let fourth = next(&mut other).await;
    let fifth = next(&mut other).await;
    assert_eq!((body(&fourth), body(&fifth)), ("3".to_owned(), "4".to_owned()));
    // One delivery was settled, so one more arrives.
    world.send(&queue, "5").await;
    held.pop().expect("three are held").accept();
    assert_eq!(take(&mut greedy).await, "5");
}

/// With a prefetch of zero nothing would ever arrive.
pub async fn a_prefetch_of_zero_is_one(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    world.send(&queue, "first").await;
    world.send(&queue, "second").await;
    let mut consumer = world.consume(&queue, 0).await;
    let first = next(&mut consumer).await;
    let mut other = world.consume(&queue, 1).await;
    assert_eq!(take(&mut other).await, "second");
    assert_eq!(body(&first), "first");
}

/// Each message goes to exactly one consumer.
pub async fn consumers_share_a_queue(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    let other = world.another().await;
    let mut one = world.consume(&queue, 1).await;
    let mut two = other.consume(&queue, 1).await.expect("the queue is there");
    world.send(&queue, "a").await;
    world.send(&queue, "b").await;
    let (a, b) = (next(&mut one).await, next(&mut two).await);
    assert_eq!(BTreeSet::from([body(&a), body(&b)]), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    a.accept();
    b.accept();
    other.close().await;
}

/// Another consumer gets nothing even while the active one is at its prefetch limit. Then it takes over, starting with the
/// returned deliveries of the first.
pub async fn a_single_active_consumer_receives_everything_until_it_ends(world: &Harness) {
    let kind =
        QueueKind::Quorum { delivery_limit: None, dead_letter_to: None, single_active_consumer: true, expires: None };
    let queue = world.queue("queue", kind).await;
    let first_engine = world.another().await;
    let mut active = first_engine.consume(&queue, 1).await.expect("the queue is there");
    let mut standby = world.consume(&queue, 1).await;
    for number in 0..4 {
        world.send(&queue, &number.to_string()).await;
    }
    for number in 0..3 {
        assert_eq!(take(&mut active).await, number.to_string());
    }
    let left = next(&mut active).await;
    assert_eq!(body(&left), "3");
    first_engine.close().await;
    assert_eq!(take(&mut standby).await, "3");
    world.send(&queue, "4").await;
    assert_eq!(take(&mut standby).await, "4");
}

/// They arrive in the same order, marked as redelivered.
pub async fn a_cancelled_consumer_returns_fetched_deliveries(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    let mut consumer = world.consume(&queue, 3).await;
    for body in ["taken", "fetched", "fetched too"] {
        world.send(&queue, body).await;
    }
    let taken = next(&mut consumer).await;
    consumer.cancel();
    end(&mut consumer).await;
    let mut other = world.consume(&queue, 3).await;
    assert_eq!(take(&mut other).await, "fetched");
    assert_eq!(take(&mut other).await, "fetched too");
    assert_eq!(body(&taken), "taken");
    taken.accept();
}

/// The same as for a cancelled consumer.
pub async fn a_dropped_consumer_returns_fetched_deliveries(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    let mut consumer = world.consume(&queue, 2).await;
    world.send(&queue, "taken").await;
    world.send(&queue, "fetched").await;
    let taken = next(&mut consumer).await;
    drop(consumer);
    let mut other = world.consume(&queue, 1).await;
    assert_eq!(take(&mut other).await, "fetched");
    drop(taken);
    assert_eq!(take(&mut other).await, "taken");
}

/// An accepted delivery is gone; a requeued one goes to another consumer.
pub async fn a_delivery_can_be_settled_after_its_consumer_was_cancelled(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    let mut consumer = world.consume(&queue, 2).await;
    world.send(&queue, "accepted").await;
    world.send(&queue, "requeued").await;
    let accepted = next(&mut consumer).await;
    let requeued = next(&mut consumer).await;
    consumer.cancel();
    accepted.accept();
    requeued.requeue();
    let mut other = world.consume(&queue, 2).await;
    assert_eq!(take(&mut other).await, "requeued");
    world.send(&queue, "last").await;
    assert_eq!(take(&mut other).await, "last");
}

/// This holds on every connection.
pub async fn a_deleted_queue_ends_its_consumers(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    let other = world.another().await;
    let mut consumer = world.consume(&queue, 1).await;
    let mut foreign = other.consume(&queue, 1).await.expect("the queue is there");
    world.broker.delete_queue(&queue).await.expect("it is there");
    end(&mut consumer).await;
    end(&mut foreign).await;
    other.close().await;
}

/// The consumers of other connections continue.
pub async fn a_closed_connection_ends_its_consumers(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    let other = world.another().await;
    let mut ended = other.consume(&queue, 1).await.expect("the queue is there");
    let mut consumer = world.consume(&queue, 1).await;
    other.close().await;
    end(&mut ended).await;
    world.send(&queue, "still here").await;
    assert_eq!(take(&mut consumer).await, "still here");
}

/// This includes deliveries that were only fetched; settling them later has no effect.
pub async fn a_closed_connection_returns_unsettled_deliveries(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    let other = world.another().await;
    let mut consumer = other.consume(&queue, 2).await.expect("the queue is there");
    other.publish(message("", &queue, "taken")).await.expect("the queue is there");
    other.publish(message("", &queue, "fetched")).await.expect("the queue is there");
    let taken = next(&mut consumer).await;
    other.close().await;
    taken.accept();
    let mut heir = world.consume(&queue, 2).await;
    for body in ["taken", "fetched"] {
        let delivery = next(&mut heir).await;
        assert_eq!(super::body(&delivery), body);
        delivery.accept();
    }
}

/// First without waiting, then the rest with waiting.
pub async fn try_next_returns_a_fetched_delivery(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    let mut consumer = world.consume(&queue, 10).await;
    assert!(consumer.try_next().is_none(), "nothing was sent");
    for number in 0..10 {
        world.send(&queue, &number.to_string()).await;
    }
    let mut number = 0;
    while number < 10 {
        let delivery = match consumer.try_next() {
            Some(delivery) => delivery,
            None => next(&mut consumer).await,
        };
        assert_eq!(body(&delivery), number.to_string());
        delivery.accept();
        number += 1;
    }
    assert!(consumer.try_next().is_none(), "everything was taken");
}
