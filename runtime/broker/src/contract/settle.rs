//! Rules of settling: what happens to a delivered message.

use std::{sync::Arc, thread};

use super::{Harness, body, next, quorum, take};
use crate::{Delivery, Message, QueueKind};

/// The message was not delivered before.
pub async fn a_first_delivery_is_not_redelivered(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    harness.send(&queue, "new").await;
    let delivery = next(&mut harness.consume(&queue, 1).await).await;
    assert!(!delivery.redelivered);
    assert_eq!(delivery.returned, 0);
}

/// Not even when the connection that accepted it is lost.
pub async fn an_accepted_message_is_never_redelivered(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let other = harness.another().await;
    let mut consumer = other.consume(&queue, 10).await.expect("the queue is there");
    for number in 0..10 {
        harness.send(&queue, &number.to_string()).await;
    }
    let mut deliveries = Vec::new();
    for _ in 0..10 {
        deliveries.push(next(&mut consumer).await);
    }
    // All but one are settled, in another order.
    let unsettled = deliveries.remove(4);
    deliveries.reverse();
    deliveries.into_iter().for_each(Delivery::accept);
    other.close().await;
    drop(unsettled);
    harness.send(&queue, "last").await;
    let mut later = harness.consume(&queue, 10).await;
    assert_eq!(take(&mut later).await, "4");
    assert_eq!(take(&mut later).await, "last");
}

/// Not even when later messages are accepted at the same moment.
pub async fn a_requeued_message_is_not_accepted_with_later_ones(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let mut consumer = harness.consume(&queue, 10).await;
    for number in 0..4 {
        harness.send(&queue, &number.to_string()).await;
    }
    let mut deliveries = Vec::new();
    for _ in 0..4 {
        deliveries.push(next(&mut consumer).await);
    }
    let first = deliveries.remove(0);
    deliveries.into_iter().for_each(Delivery::accept);
    first.requeue();
    let again = next(&mut consumer).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("0", true));
    again.accept();
    harness.send(&queue, "last").await;
    assert_eq!(take(&mut consumer).await, "last", "the consumer's channel is still open");
}

/// Each redelivery raises the count by one.
pub async fn a_requeued_message_is_redelivered(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let mut consumer = harness.consume(&queue, 1).await;
    harness.send(&queue, "requeued").await;
    for returned in 0..4 {
        let delivery = next(&mut consumer).await;
        assert_eq!(body(&delivery), "requeued");
        assert_eq!(delivery.returned, returned);
        assert_eq!(delivery.redelivered, returned > 0);
        delivery.requeue();
    }
    next(&mut consumer).await.accept();
}

/// Dropping a delivery requeues it.
pub async fn a_dropped_delivery_is_redelivered(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let mut consumer = harness.consume(&queue, 1).await;
    harness.send(&queue, "requeued").await;
    drop(next(&mut consumer).await);
    let redelivered = next(&mut consumer).await;
    assert_eq!(body(&redelivered), "requeued");
    assert!(redelivered.redelivered);
}

/// It stays in its position, with or without a delivery limit.
pub async fn a_returned_message_keeps_its_position(harness: &Harness) {
    for kind in [quorum(), with_limit(5, None)] {
        let queue = harness.queue("queue", kind).await;
        for body in ["first", "second", "third"] {
            harness.send(&queue, body).await;
        }
        let mut consumer = harness.consume(&queue, 1).await;
        next(&mut consumer).await.requeue();
        for body in ["first", "second", "third"] {
            assert_eq!(take(&mut consumer).await, body);
        }
    }
}

/// This exceeds the default limit of any broker.
pub async fn without_a_limit_a_message_is_redelivered_forever(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    harness.send(&queue, "requeued").await;
    let mut consumer = harness.consume(&queue, 1).await;
    for returned in 0..30 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.returned, returned);
        delivery.requeue();
    }
    assert_eq!(take(&mut consumer).await, "requeued");
}

fn with_limit(limit: u32, dead_letter_to: Option<String>) -> QueueKind {
    let delivery_limit = Some(limit);
    QueueKind::Quorum { delivery_limit, dead_letter_to, single_active_consumer: false, expires: None }
}

/// Checks a message in its dead-letter queue.
fn check_dead_letter(delivery: &Delivery, from: &str, reason: &str, original: &str) {
    let headers = &delivery.message.properties.headers;
    let header = |name: &str| headers.get(name).map(String::as_str);
    assert_eq!(header("x-first-death-queue"), Some(from));
    assert_eq!(header("x-first-death-reason"), Some(reason));
    assert_eq!(header("task"), Some("bake"), "its own headers stay");
    assert_eq!(body(delivery), original);
}

/// It arrives with the reason and all its properties.
pub async fn a_rejected_message_is_dead_lettered(harness: &Harness) {
    let (exchange, dead_letters) = harness.dead_letters().await;
    let queue = harness.queue("queue", with_limit(5, Some(exchange))).await;
    let mut message = super::message("", &queue, "rejected");
    message.properties.message_id = Some("message-1".to_owned());
    message.properties.headers.insert("task".to_owned(), "bake".to_owned());
    harness.broker.publish(message).await.expect("the queue is there");
    next(&mut harness.consume(&queue, 1).await).await.dead_letter();
    let dead_letter = next(&mut harness.consume(&dead_letters, 1).await).await;
    check_dead_letter(&dead_letter, &queue, "rejected", "rejected");
    assert_eq!(dead_letter.message.properties.message_id.as_deref(), Some("message-1"));
}

/// The consumer gets the others, in their order.
pub async fn a_message_that_the_filter_stops_is_dead_lettered(harness: &Harness) {
    let (exchange, dead_letters) = harness.dead_letters().await;
    let queue = harness.queue("queue", with_limit(5, Some(exchange))).await;
    for body in ["one", "too long", "two"] {
        harness.send(&queue, body).await;
    }
    let filter = Arc::new(|message: &Message| message.body.len() <= 3);
    let mut consumer = harness.broker.consume_filtered(&queue, 1, filter).await.expect("the queue is there");
    assert_eq!([take(&mut consumer).await, take(&mut consumer).await], ["one", "two"]);
    let dead_letter = next(&mut harness.consume(&dead_letters, 1).await).await;
    assert_eq!(body(&dead_letter), "too long");
}

/// Nobody needs it any more.
pub async fn a_transient_message_that_the_filter_stops_is_dropped(harness: &Harness) {
    let (exchange, dead_letters) = harness.dead_letters().await;
    let queue = harness.queue("queue", with_limit(5, Some(exchange))).await;
    let transient = Message { persistent: false, ..super::message("", &queue, "dropped") };
    harness.broker.publish(transient).await.expect("the queue is there");
    for body in ["too long", "two"] {
        harness.send(&queue, body).await;
    }
    let filter = Arc::new(|message: &Message| message.body.len() <= 3);
    let mut consumer = harness.broker.consume_filtered(&queue, 1, filter).await.expect("the queue is there");
    assert_eq!(take(&mut consumer).await, "two");
    // It was sent after the other one.
    assert_eq!(take(&mut harness.consume(&dead_letters, 1).await).await, "too long");
    assert_eq!(harness.waiting(&dead_letters).await, 0);
}

/// The limit is the maximum number of redeliveries; the next one dead-letters the message.
pub async fn a_message_beyond_its_delivery_limit_is_dead_lettered(harness: &Harness) {
    let (exchange, dead_letters) = harness.dead_letters().await;
    let queue = harness.queue("queue", with_limit(2, Some(exchange))).await;
    let mut message = super::message("", &queue, "poison");
    message.properties.headers.insert("task".to_owned(), "bake".to_owned());
    harness.broker.publish(message).await.expect("the queue is there");
    let mut consumer = harness.consume(&queue, 1).await;
    for returned in 0..=2 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.returned, returned);
        drop(delivery);
    }
    let dead_letter = next(&mut harness.consume(&dead_letters, 1).await).await;
    check_dead_letter(&dead_letter, &queue, "delivery_limit", "poison");
    harness.send(&queue, "healthy").await;
    assert_eq!(take(&mut consumer).await, "healthy");
}

/// After a rejection or too many redeliveries, the next message arrives.
pub async fn a_message_without_a_dead_letter_queue_is_dropped(harness: &Harness) {
    let queue = harness.queue("queue", with_limit(1, None)).await;
    for body in ["rejected", "poison", "healthy"] {
        harness.send(&queue, body).await;
    }
    let mut consumer = harness.consume(&queue, 1).await;
    next(&mut consumer).await.dead_letter();
    for _ in 0..2 {
        let poison = next(&mut consumer).await;
        assert_eq!(body(&poison), "poison");
        poison.requeue();
    }
    assert_eq!(take(&mut consumer).await, "healthy");
}

/// Any thread works, outside of any runtime.
pub async fn a_delivery_can_be_settled_anywhere(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let mut consumer = harness.consume(&queue, 2).await;
    harness.send(&queue, "accepted").await;
    harness.send(&queue, "dropped").await;
    let (accepted, dropped) = (next(&mut consumer).await, next(&mut consumer).await);
    let settled = thread::spawn(move || {
        accepted.accept();
        drop(dropped);
    });
    settled.join().expect("settling does not panic");
    let redelivered = next(&mut consumer).await;
    assert_eq!(body(&redelivered), "dropped");
    assert!(redelivered.redelivered);
}
