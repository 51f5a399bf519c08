//! Rules of publishing: the meaning of a confirm, and the received message.

use bytes::Bytes;
use futures::{FutureExt, future::join_all};

use super::{Harness, body, message, next, quorum, take};
use crate::{Message, Properties, PublishError, Routing};

/// Once a publish has returned, every connection sees the message.
pub async fn a_confirmed_message_is_in_its_queue(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    for count in 1..=10 {
        world.send(&queue, "here").await;
        assert_eq!(world.waiting(&queue).await, count);
    }
}

/// This holds for every way to miss all queues.
pub async fn a_mandatory_message_without_a_queue_is_unroutable(world: &Harness) {
    let exchange = world.exchange("exchange", crate::ExchangeKind::Direct).await;
    for message in [message(&exchange, "nobody", "lost"), message("", &world.unique("nowhere"), "lost")] {
        let (to, with) = (message.exchange.clone(), message.key.clone());
        match world.broker.publish(message).await {
            Err(PublishError::Unroutable { exchange, key }) => {
                assert_eq!((exchange, key), (to, with));
            }
            other => panic!("it must be unroutable, and is {other:?}"),
        }
    }
}

/// The message is confirmed like any other.
pub async fn an_optional_message_may_have_no_queue(world: &Harness) {
    let exchange = world.exchange("exchange", crate::ExchangeKind::Topic).await;
    let heard = Message { routing: Routing::Optional, ..message(&exchange, "nobody", "lost") };
    world.broker.publish(heard).await.expect("nobody has to listen");
}

/// With any number of messages in flight, each publish gets the outcome of its own message.
pub async fn of_many_messages_only_the_unroutable_fail(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    let nowhere = world.unique("nowhere");
    // Sequences of both kinds with different lengths, so that the broker confirms several at a time.
    let is_lost = |number: usize| (number * number) % 7 < 3;
    let publishes = (0..2000).map(|number| {
        let key = if is_lost(number) { &nowhere } else { &queue };
        world.broker.publish(message("", key, &number.to_string()))
    });
    let mut kept = 0;
    for (number, published) in join_all(publishes).await.into_iter().enumerate() {
        match published {
            Ok(()) if !is_lost(number) => kept += 1,
            Err(PublishError::Unroutable { .. }) if is_lost(number) => {}
            other => panic!("message {number} must not be {other:?}"),
        }
    }
    assert_eq!(world.waiting(&queue).await, kept);
}

/// The error names the exchange; messages sent before and after it arrive.
pub async fn publishing_to_a_missing_exchange_affects_no_other_message(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    let nowhere = world.unique("nowhere");
    let publishes = (0..100).map(|number| {
        let lost = number % 10 == 5;
        let to = if lost { message(&nowhere, "key", "lost") } else { message("", &queue, "kept") };
        world.broker.publish(to).map(move |published| (lost, published))
    });
    for (lost, published) in join_all(publishes).await {
        match published {
            Ok(()) if !lost => {}
            Err(PublishError::Refused { exchange, .. }) if lost => assert_eq!(exchange, nowhere),
            other => panic!("a message must not be {other:?}"),
        }
    }
    assert_eq!(world.waiting(&queue).await, 90);
}

/// This holds while many wait for their confirms at once, in whatever order the confirms arrive.
pub async fn messages_keep_the_order_in_which_they_were_sent(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    let mut consumer = world.consume(&queue, 50).await;
    let publishes = (0..500).map(|number| world.broker.publish(message("", &queue, &number.to_string())));
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
pub async fn all_message_properties_arrive(world: &Harness) {
    let exchange = world.exchange("exchange", crate::ExchangeKind::Topic).await;
    let queue = world.queue("queue", quorum()).await;
    world.bind(&exchange, "#", &queue).await;
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
    let mut consumer = world.consume(&queue, 1).await;
    for persistent in [true, false] {
        let sent = Message { persistent, ..sent.clone() };
        world.broker.publish(sent.clone()).await.expect("the queue takes everything");
        let delivery = next(&mut consumer).await;
        // Routing was decided when the message was published.
        assert_eq!(delivery.message, Message { routing: Routing::Optional, ..sent });
        delivery.accept();
    }
    let plain = message("", &queue, "plain");
    world.broker.publish(plain.clone()).await.expect("the queue takes everything");
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.message, Message { routing: Routing::Optional, ..plain });
}

/// The bodies are compared byte for byte.
pub async fn empty_and_large_bodies_arrive_unchanged(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    let mut consumer = world.consume(&queue, 1).await;
    // No body frame, one, and many: a broker splits at about 128 KiB.
    for size in [0, 1, 128 * 1024, 5_000_000] {
        let body: Bytes = (0..size).map(|at: u32| at.to_le_bytes()[at as usize % 3]).collect();
        let sent = Message { body: body.clone(), ..message("", &queue, "") };
        world.broker.publish(sent).await.expect("the queue takes everything");
        let delivery = next(&mut consumer).await;
        assert!(delivery.message.body == body, "a body of {size} bytes arrives otherwise");
        delivery.accept();
    }
}

/// A priority is a hint: its effect on the order depends on the queue.
pub async fn a_priority_loses_no_message(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    for priority in 0..10 {
        let sent = Message { priority, ..message("", &queue, &priority.to_string()) };
        world.broker.publish(sent).await.expect("the queue takes everything");
    }
    let mut consumer = world.consume(&queue, 10).await;
    let mut taken = Vec::new();
    for _ in 0..10 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.message.priority.to_string(), body(&delivery));
        taken.push(delivery.message.priority);
        delivery.accept();
    }
    taken.sort_unstable();
    assert_eq!(taken, Vec::from_iter(0..10));
}

/// A cancelled message may or may not arrive; all others do.
pub async fn a_publish_may_be_cancelled(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    for _ in 0..20 {
        drop(world.broker.publish(message("", &queue, "perhaps")).now_or_never());
    }
    world.send(&queue, "surely").await;
    let mut consumer = world.consume(&queue, 50).await;
    while take(&mut consumer).await != "surely" {}
}
