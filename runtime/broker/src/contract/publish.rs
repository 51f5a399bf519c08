//! Rules of publishing: the meaning of a confirm, and the received message.

use bytes::Bytes;
use futures::{FutureExt, future::join_all};

use super::{Harness, body, message, next, quorum, take};
use crate::{Message, Properties, PublishError, Routing};

/// Once a publish has returned, every connection sees the message.
pub async fn a_confirmed_message_is_in_its_queue(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    for count in 1..=10 {
        harness.send(&queue, "here").await;
        assert_eq!(harness.waiting(&queue).await, count);
    }
}

/// This holds for an unbound key, and for a missing queue.
pub async fn a_mandatory_message_without_a_queue_is_unroutable(harness: &Harness) {
    let exchange = harness.exchange("exchange", crate::ExchangeKind::Direct).await;
    for message in [message(&exchange, "unrouted", "lost"), message("", &harness.unique("missing"), "lost")] {
        let (exchange_name, routing_key) = (message.exchange.clone(), message.key.clone());
        match harness.broker.publish(message).await {
            Err(PublishError::Unroutable { exchange, key }) => {
                assert_eq!((exchange, key), (exchange_name, routing_key));
            }
            other => panic!("it must be unroutable: {other:?}"),
        }
    }
}

/// The message is confirmed like any other.
pub async fn an_optional_message_may_have_no_queue(harness: &Harness) {
    let exchange = harness.exchange("exchange", crate::ExchangeKind::Topic).await;
    let optional = Message { routing: Routing::Optional, ..message(&exchange, "unrouted", "lost") };
    harness.broker.publish(optional).await.expect("no queue is needed");
}

/// With any number of messages in flight, each publish gets the outcome of its own message.
pub async fn only_the_unroutable_of_many_messages_fail(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let missing = harness.unique("missing");
    // Sequences of both kinds with different lengths, so that the broker confirms several at a time.
    let is_lost = |number: usize| (number * number) % 7 < 3;
    let publishes = (0..2000).map(|number| {
        let key = if is_lost(number) { &missing } else { &queue };
        harness.broker.publish(message("", key, &number.to_string()))
    });
    let mut routed = 0;
    for (number, published) in join_all(publishes).await.into_iter().enumerate() {
        match published {
            Ok(()) if !is_lost(number) => routed += 1,
            Err(PublishError::Unroutable { .. }) if is_lost(number) => {}
            other => panic!("message {number}: {other:?}"),
        }
    }
    assert_eq!(harness.waiting(&queue).await, routed);
}

/// The error names the exchange; messages sent before and after it arrive.
pub async fn publishing_to_a_missing_exchange_affects_no_other_message(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let missing = harness.unique("missing");
    let publishes = (0..100).map(|number| {
        let is_lost = number % 10 == 5;
        let message = if is_lost { message(&missing, "key", "lost") } else { message("", &queue, "routed") };
        harness.broker.publish(message).map(move |published| (is_lost, published))
    });
    for (is_lost, published) in join_all(publishes).await {
        match published {
            Ok(()) if !is_lost => {}
            Err(PublishError::Refused { exchange, .. }) if is_lost => assert_eq!(exchange, missing),
            other => panic!("unexpected outcome: {other:?}"),
        }
    }
    assert_eq!(harness.waiting(&queue).await, 90);
}

/// This holds while many publishes wait for their confirms, in any order of the confirms.
pub async fn messages_keep_their_order(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let mut consumer = harness.consume(&queue, 50).await;
    let publishes = (0..500).map(|number| harness.broker.publish(message("", &queue, &number.to_string())));
    let publishing = join_all(publishes);
    let consuming = async {
        for number in 0..500 {
            assert_eq!(take(&mut consumer).await, number.to_string());
        }
    };
    let (published, ()) = futures::join!(publishing, consuming);
    assert!(published.iter().all(Result::is_ok));
}

/// Exchange, key, persistence, ids and headers.
pub async fn all_message_properties_arrive(harness: &Harness) {
    let exchange = harness.exchange("exchange", crate::ExchangeKind::Topic).await;
    let queue = harness.queue("queue", quorum()).await;
    harness.bind(&exchange, "#", &queue).await;
    let headers = [("run", "0190"), ("task", "bake"), ("grüße", "süß"), ("empty", "")];
    let sent = Message {
        priority: 3,
        properties: Properties {
            message_id: Some("message-1".to_owned()),
            reply_to: Some("reply-queue".to_owned()),
            correlation_id: Some("question-1".to_owned()),
            content_type: Some("application/json".to_owned()),
            headers: headers.map(|(name, text)| (name.to_owned(), text.to_owned())).into(),
        },
        ..message(&exchange, "cake.bake.0190", "{}")
    };
    let mut consumer = harness.consume(&queue, 1).await;
    for persistent in [true, false] {
        let sent = Message { persistent, ..sent.clone() };
        harness.broker.publish(sent.clone()).await.expect("the queue accepts everything");
        let delivery = next(&mut consumer).await;
        // Routing was decided when the message was published.
        assert_eq!(delivery.message, Message { routing: Routing::Optional, ..sent });
        delivery.accept();
    }
    let plain = message("", &queue, "plain");
    harness.broker.publish(plain.clone()).await.expect("the queue accepts everything");
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.message, Message { routing: Routing::Optional, ..plain });
}

/// The bodies are compared byte for byte.
pub async fn empty_and_large_bodies_arrive_unchanged(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let mut consumer = harness.consume(&queue, 1).await;
    // No body frame, one, and many: a broker splits at about 128 KiB.
    for size in [0, 1, 128 * 1024, 5_000_000] {
        let body: Bytes = (0..size).map(|at: u32| at.to_le_bytes()[at as usize % 3]).collect();
        let sent = Message { body: body.clone(), ..message("", &queue, "") };
        harness.broker.publish(sent).await.expect("the queue accepts everything");
        let delivery = next(&mut consumer).await;
        assert!(delivery.message.body == body, "a body of {size} bytes arrives changed");
        delivery.accept();
    }
}

/// A repetition would not help, and other messages are unaffected.
pub async fn a_message_that_amqp_cannot_carry_is_too_large(harness: &Harness) {
    let exchange = harness.exchange("exchange", crate::ExchangeKind::Topic).await;
    let queue = harness.queue("queue", quorum()).await;
    harness.bind(&exchange, "#", &queue).await;
    let optional = || Message { routing: Routing::Optional, ..message(&exchange, "key", "too large") };
    let long = || Some("x".repeat(256));
    let with = |properties| Message { properties, ..optional() };
    let header = |name: &str, bytes: usize| [(name.to_owned(), "x".repeat(bytes))].into();
    let cases = [
        (Message { key: "x".repeat(256), ..optional() }, "its routing key has 256 bytes"),
        (with(Properties { message_id: long(), ..Properties::default() }), "its message id has 256 bytes"),
        (
            with(Properties { headers: header("big", 200_000), ..Properties::default() }),
            "its headers have 200011 bytes",
        ),
        (
            with(Properties { headers: header(&"x".repeat(256), 1), ..Properties::default() }),
            "its name of a header has 256",
        ),
    ];
    for (sent, says) in cases {
        match harness.broker.publish(sent).await {
            Err(PublishError::TooLarge { reason, .. }) => assert!(reason.starts_with(says), "{reason}"),
            other => panic!("it is too large: {other:?}"),
        }
    }
    let largest =
        Properties { message_id: Some("x".repeat(255)), headers: header("big", 100_000), ..Properties::default() };
    harness.broker.publish(Message { key: "x".repeat(255), ..with(largest) }).await.expect("AMQP carries it");
    assert_eq!(harness.waiting(&queue).await, 1);
}

/// A priority is a hint: its effect on the order depends on the queue.
pub async fn a_priority_loses_no_message(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    for priority in 0..10 {
        let sent = Message { priority, ..message("", &queue, &priority.to_string()) };
        harness.broker.publish(sent).await.expect("the queue accepts everything");
    }
    let mut consumer = harness.consume(&queue, 10).await;
    let mut priorities = Vec::new();
    for _ in 0..10 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.message.priority.to_string(), body(&delivery));
        priorities.push(delivery.message.priority);
        delivery.accept();
    }
    priorities.sort_unstable();
    assert_eq!(priorities, Vec::from_iter(0..10));
}

/// A cancelled message may or may not arrive; all others do.
pub async fn a_publish_may_be_cancelled(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    for _ in 0..20 {
        drop(harness.broker.publish(message("", &queue, "cancelled")).now_or_never());
    }
    harness.send(&queue, "last").await;
    let mut consumer = harness.consume(&queue, 50).await;
    while take(&mut consumer).await != "last" {}
}
