//! Rules of routing: the queues that receive a message.

use super::{Harness, message, quorum};
use crate::{Binding, Destination, ExchangeKind, Message, Routing};

/// The number of messages in each of these queues.
async fn counts<const N: usize>(harness: &Harness, queues: &[String; N]) -> [u64; N] {
    let mut counts = [0; N];
    for (count, queue) in counts.iter_mut().zip(queues) {
        *count = harness.waiting(queue).await;
    }
    counts
}

async fn queues<const N: usize>(harness: &Harness) -> [String; N] {
    let mut queues = [const { String::new() }; N];
    for queue in &mut queues {
        *queue = harness.queue("queue", quorum()).await;
    }
    queues
}

async fn publish(harness: &Harness, exchange: &str, key: &str) {
    let message = Message { routing: Routing::Optional, ..message(exchange, key, "routed") };
    harness.broker.publish(message).await.expect("the exchange is there");
}

/// All queues bound with the same key receive the message.
pub async fn a_direct_exchange_matches_the_exact_key(harness: &Harness) {
    let exchange = harness.exchange("direct", ExchangeKind::Direct).await;
    let bound = queues::<3>(harness).await;
    harness.bind(&exchange, "a.b", &bound[0]).await;
    harness.bind(&exchange, "a.b", &bound[1]).await;
    harness.bind(&exchange, "a.*", &bound[2]).await;
    for (key, expected) in [("a", [0, 0, 0]), ("a.b", [1, 1, 0]), ("a.*", [1, 1, 1])] {
        publish(harness, &exchange, key).await;
        assert_eq!(counts(harness, &bound).await, expected, "after {key}");
    }
}

/// `*` matches one word, `#` none or more.
pub async fn a_topic_exchange_matches_patterns(harness: &Harness) {
    let exchange = harness.exchange("topic", ExchangeKind::Topic).await;
    let bound = queues::<4>(harness).await;
    for (pattern, queue) in ["cake.bake.#", "cake.*", "#", "*.bake.*.success"].iter().zip(&bound) {
        harness.bind(&exchange, pattern, queue).await;
    }
    for (key, expected) in [
        ("cake", [0, 0, 1, 0]),
        ("cake.bake", [1, 1, 2, 0]),
        ("cake.bake.0190.success", [2, 1, 3, 1]),
        ("cake.mix", [2, 2, 4, 1]),
        ("pie.bake.0190.failure", [2, 2, 5, 1]),
    ] {
        publish(harness, &exchange, key).await;
        assert_eq!(counts(harness, &bound).await, expected, "after {key}");
    }
}

/// The keys have no effect.
pub async fn a_fanout_exchange_reaches_every_queue(harness: &Harness) {
    let exchange = harness.exchange("fanout", ExchangeKind::Fanout).await;
    let bound = queues::<3>(harness).await;
    for (key, queue) in ["", "a", "b"].iter().zip(&bound) {
        harness.bind(&exchange, key, queue).await;
    }
    publish(harness, &exchange, "a").await;
    assert_eq!(counts(harness, &bound).await, [1, 1, 1]);
}

/// No binding is needed.
pub async fn the_default_exchange_routes_by_queue_name(harness: &Harness) {
    let two = queues::<2>(harness).await;
    publish(harness, "", &two[1]).await;
    assert_eq!(counts(harness, &two).await, [0, 1]);
}

/// A bound exchange receives what its binding matches, also over several exchanges.
pub async fn a_bound_exchange_receives_messages(harness: &Harness) {
    let all = harness.exchange("all", ExchangeKind::Topic).await;
    let task = harness.exchange("task", ExchangeKind::Topic).await;
    let fanout = harness.exchange("fanout", ExchangeKind::Fanout).await;
    let bound = queues::<2>(harness).await;
    for (from, key, to) in [(&all, "cake.bake.#", &task), (&task, "*.*.*.success", &fanout)] {
        let (exchange, key, to) = (from.clone(), key.to_owned(), Destination::Exchange(to.clone()));
        harness.broker.bind(&Binding { exchange, key, to }).await.expect("both ends are there");
    }
    harness.bind(&task, "#", &bound[0]).await;
    harness.bind(&fanout, "", &bound[1]).await;
    for (key, expected) in
        [("cake.mix.0190.success", [0, 0]), ("cake.bake.0190.running", [1, 0]), ("cake.bake.0190.success", [2, 1])]
    {
        publish(harness, &all, key).await;
        assert_eq!(counts(harness, &bound).await, expected, "after {key}");
    }
}

/// This holds for two bindings on one exchange, and for two paths to the queue.
pub async fn a_queue_bound_twice_gets_a_message_once(harness: &Harness) {
    let exchange = harness.exchange("topic", ExchangeKind::Topic).await;
    let other = harness.exchange("other", ExchangeKind::Fanout).await;
    let queue = queues::<1>(harness).await;
    harness.bind(&exchange, "a.*", &queue[0]).await;
    harness.bind(&exchange, "*.b", &queue[0]).await;
    harness.bind(&other, "", &queue[0]).await;
    let to = Destination::Exchange(other);
    let binding = Binding { exchange: exchange.clone(), key: "#".to_owned(), to };
    harness.broker.bind(&binding).await.expect("both ends are there");
    publish(harness, &exchange, "a.b").await;
    assert_eq!(counts(harness, &queue).await, [1]);
}
