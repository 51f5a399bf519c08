//! Rules of consuming: which consumer gets which delivery, and how a consumer ends.

use std::collections::BTreeSet;

use super::{Harness, body, end, message, next, quorum, take};
use crate::{ConsumeError, Delivery, QueueKind, TakeLimits};

/// The error names the queue.
pub async fn consuming_a_missing_queue_fails(harness: &Harness) {
    let missing = harness.unique("missing");
    match harness.broker.consume(&missing, 1).await {
        Err(ConsumeError::NoQueue { queue }) => assert_eq!(queue, missing),
        Err(other) => panic!("the error must name the missing queue: {other}"),
        Ok(_) => panic!("a missing queue is consumed"),
    }
}

/// The deliveries are still unsettled: the caller of `drain` settles them. Nothing arrives after them.
pub async fn a_drained_consumer_returns_its_deliveries(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    for text in ["a", "b", "c", "d"] {
        harness.send(&queue, text).await;
    }
    let mut consumer = harness.consume(&queue, 3).await;
    let first = next(&mut consumer).await;
    while !consumer.has_fetched() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let fetched = consumer.drain().await;
    assert_eq!(body(&first), "a");
    first.accept();
    let mut other = harness.consume(&queue, 10).await;
    let remaining = next(&mut other).await;
    assert!(!remaining.redelivered, "drained deliveries did not return to the queue");
    let mut bodies: Vec<String> = fetched.iter().map(body).chain([body(&remaining)]).collect();
    remaining.accept();
    while bodies.len() < 3 {
        bodies.push(take(&mut other).await);
    }
    assert_eq!(bodies, ["b", "c", "d"]);
    fetched.into_iter().for_each(crate::Delivery::requeue);
    assert!(next(&mut other).await.redelivered);
}

/// Another consumer gets the deliveries beyond the prefetch.
pub async fn prefetch_limits_unsettled_deliveries(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let mut limited = harness.consume(&queue, 3).await;
    for number in 0..5 {
        harness.send(&queue, &number.to_string()).await;
    }
    let mut held = Vec::new();
    for number in 0..3 {
        let delivery = next(&mut limited).await;
        assert_eq!(body(&delivery), number.to_string());
        held.push(delivery);
    }
    let mut other = harness.consume(&queue, 2).await;
    let fourth = next(&mut other).await;
    let fifth = next(&mut other).await;
    assert_eq!((body(&fourth), body(&fifth)), ("3".to_owned(), "4".to_owned()));
    // One delivery was settled, so one more arrives.
    harness.send(&queue, "5").await;
    held.pop().expect("three are held").accept();
    assert_eq!(take(&mut limited).await, "5");
}

/// With a prefetch of zero nothing would ever arrive.
pub async fn a_prefetch_of_zero_is_one(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    harness.send(&queue, "first").await;
    harness.send(&queue, "second").await;
    let mut consumer = harness.consume(&queue, 0).await;
    let first = next(&mut consumer).await;
    let mut other = harness.consume(&queue, 1).await;
    assert_eq!(take(&mut other).await, "second");
    assert_eq!(body(&first), "first");
}

/// Each message goes to exactly one consumer.
pub async fn consumers_share_a_queue(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let other = harness.another().await;
    let mut one = harness.consume(&queue, 1).await;
    let mut two = other.consume(&queue, 1).await.expect("the queue is there");
    harness.send(&queue, "a").await;
    harness.send(&queue, "b").await;
    let (a, b) = (next(&mut one).await, next(&mut two).await);
    assert_eq!(BTreeSet::from([body(&a), body(&b)]), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    a.accept();
    b.accept();
    other.close().await;
}

/// Another consumer gets nothing even while the active one is at its prefetch limit. Then it takes over, starting with the
/// returned deliveries of the first.
pub async fn a_single_active_consumer_receives_everything_until_it_ends(harness: &Harness) {
    let kind =
        QueueKind::Quorum { delivery_limit: None, dead_letter_to: None, single_active_consumer: true, expires: None };
    let queue = harness.queue("queue", kind).await;
    let first_engine = harness.another().await;
    let mut active = first_engine.consume(&queue, 1).await.expect("the queue is there");
    let mut standby = harness.consume(&queue, 1).await;
    for number in 0..4 {
        harness.send(&queue, &number.to_string()).await;
    }
    for number in 0..3 {
        assert_eq!(take(&mut active).await, number.to_string());
    }
    let unsettled = next(&mut active).await;
    assert_eq!(body(&unsettled), "3");
    first_engine.close().await;
    assert_eq!(take(&mut standby).await, "3");
    harness.send(&queue, "4").await;
    assert_eq!(take(&mut standby).await, "4");
}

/// They arrive in the same order, marked as redelivered.
pub async fn a_cancelled_consumer_returns_fetched_deliveries(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let mut consumer = harness.consume(&queue, 3).await;
    for body in ["received", "fetched", "fetched too"] {
        harness.send(&queue, body).await;
    }
    let received = next(&mut consumer).await;
    consumer.cancel();
    end(&mut consumer).await;
    let mut other = harness.consume(&queue, 3).await;
    assert_eq!(take(&mut other).await, "fetched");
    assert_eq!(take(&mut other).await, "fetched too");
    assert_eq!(body(&received), "received");
    received.accept();
}

/// The same as for a cancelled consumer.
pub async fn a_dropped_consumer_returns_fetched_deliveries(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let mut consumer = harness.consume(&queue, 2).await;
    harness.send(&queue, "received").await;
    harness.send(&queue, "fetched").await;
    let received = next(&mut consumer).await;
    drop(consumer);
    let mut other = harness.consume(&queue, 1).await;
    assert_eq!(take(&mut other).await, "fetched");
    drop(received);
    assert_eq!(take(&mut other).await, "received");
}

/// An accepted delivery is deleted; a requeued one goes to another consumer.
pub async fn a_delivery_can_be_settled_after_its_consumer_was_cancelled(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let mut consumer = harness.consume(&queue, 2).await;
    harness.send(&queue, "accepted").await;
    harness.send(&queue, "requeued").await;
    let accepted = next(&mut consumer).await;
    let requeued = next(&mut consumer).await;
    consumer.cancel();
    accepted.accept();
    requeued.requeue();
    let mut other = harness.consume(&queue, 2).await;
    assert_eq!(take(&mut other).await, "requeued");
    harness.send(&queue, "last").await;
    assert_eq!(take(&mut other).await, "last");
}

/// This holds on every connection.
pub async fn a_deleted_queue_ends_its_consumers(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let other = harness.another().await;
    let mut consumer = harness.consume(&queue, 1).await;
    let mut other_consumer = other.consume(&queue, 1).await.expect("the queue is there");
    harness.broker.delete_queue(&queue).await.expect("it is there");
    end(&mut consumer).await;
    end(&mut other_consumer).await;
    other.close().await;
}

/// The consumers of other connections continue.
pub async fn a_closed_connection_ends_its_consumers(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let other = harness.another().await;
    let mut ended = other.consume(&queue, 1).await.expect("the queue is there");
    let mut consumer = harness.consume(&queue, 1).await;
    other.close().await;
    end(&mut ended).await;
    harness.send(&queue, "still here").await;
    assert_eq!(take(&mut consumer).await, "still here");
}

/// This includes deliveries that were only fetched; settling them later has no effect.
pub async fn a_closed_connection_returns_unsettled_deliveries(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let other = harness.another().await;
    let mut consumer = other.consume(&queue, 2).await.expect("the queue is there");
    other.publish(message("", &queue, "received")).await.expect("the queue is there");
    other.publish(message("", &queue, "fetched")).await.expect("the queue is there");
    let received = next(&mut consumer).await;
    other.close().await;
    received.accept();
    let mut later = harness.consume(&queue, 2).await;
    for body in ["received", "fetched"] {
        let delivery = next(&mut later).await;
        assert_eq!(super::body(&delivery), body);
        delivery.accept();
    }
}

/// First without waiting, then the rest with waiting.
pub async fn try_next_returns_a_fetched_delivery(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let mut consumer = harness.consume(&queue, 10).await;
    assert!(consumer.try_next().is_none(), "nothing was sent");
    for number in 0..10 {
        harness.send(&queue, &number.to_string()).await;
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
    assert!(consumer.try_next().is_none(), "all deliveries were received");
}

async fn wait_for_waiting(harness: &Harness, queue: &str, count: u64) {
    while harness.waiting(queue).await != count {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// The rest waits in the queue, and so do they unless they are accepted.
pub async fn messages_are_taken_within_limits(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    for number in 0..5 {
        harness.send(&queue, &number.to_string()).await;
    }
    for (messages, bytes, expected) in [(9, 99, 5), (2, 99, 2), (9, 3, 3), (9, 0, 0), (0, 99, 0)] {
        // RabbitMQ puts the messages back some time after they were dropped.
        wait_for_waiting(harness, &queue, 5).await;
        let taken = harness.broker.take(&queue, TakeLimits { messages, bytes }).await.expect("the queue is there");
        // The broker may put the messages back in another order.
        let numbers: BTreeSet<String> = taken.iter().map(body).collect();
        assert_eq!((numbers.len(), taken.len()), (expected, expected), "of {messages} messages and {bytes} bytes");
    }
    wait_for_waiting(harness, &queue, 5).await;
    let limits = TakeLimits { messages: 5, bytes: 99 };
    let taken = harness.broker.take(&queue, limits).await.expect("the queue is there");
    let last = taken.last().map(body).expect("there are five");
    taken.into_iter().take(4).for_each(Delivery::accept);
    assert_eq!(take(&mut harness.consume(&queue, 1).await).await, last);
}

/// The error says that it is missing.
pub async fn nothing_is_taken_from_a_missing_queue(harness: &Harness) {
    let queue = harness.name_queue("queue");
    let taken = harness.broker.take(&queue, TakeLimits { messages: 1, bytes: 1 }).await;
    assert!(matches!(taken, Err(ConsumeError::NoQueue { .. })));
}
