//! Rules of routing: the queues that receive a message.

use super::{Harness, message, quorum};
use crate::{Binding, Destination, ExchangeKind, Message, Routing};

/// The number of messages in each of these queues.
async fn counts<const N: usize>(world: &Harness, queues: &[String; N]) -> [u64; N] {
    let mut counts = [0; N];
    for (count, queue) in counts.iter_mut().zip(queues) {
        *count = world.waiting(queue).await;
    }
    counts
}

async fn queues<const N: usize>(world: &Harness) -> [String; N] {
    let mut queues = [const { String::new() }; N];
    for queue in &mut queues {
        *queue = world.queue("queue", quorum()).await;
    }
    queues
}

async fn publish(world: &Harness, exchange: &str, key: &str) {
    let heard = Message { routing: Routing::Optional, ..message(exchange, key, "to whom it concerns") };
    world.broker.publish(heard).await.expect("the exchange is there");
}

/// All queues bound with the same key receive the message.
pub async fn a_direct_exchange_matches_the_exact_key(world: &Harness) {
    let exchange = world.exchange("direct", ExchangeKind::Direct).await;
    let bound = queues::<3>(world).await;
    world.bind(&exchange, "a.b", &bound[0]).await;
    world.bind(&exchange, "a.b", &bound[1]).await;
    world.bind(&exchange, "a.*", &bound[2]).await;
    for (key, expected) in [("a", [0, 0, 0]), ("a.b", [1, 1, 0]), ("a.*", [1, 1, 1])] {
        publish(world, &exchange, key).await;
        assert_eq!(counts(world, &bound).await, expected, "after {key}");
    }
}

/// `*` matches one word, `#` none or more.
pub async fn a_topic_exchange_matches_patterns(world: &Harness) {
    let exchange = world.exchange("topic", ExchangeKind::Topic).await;
    let bound = queues::<4>(world).await;
    for (pattern, queue) in ["cake.bake.#", "cake.*", "#", "*.bake.*.success"].iter().zip(&bound) {
        world.bind(&exchange, pattern, queue).await;
    }
    for (key, expected) in [
        ("cake", [0, 0, 1, 0]),
        ("cake.bake", [1, 1, 2, 0]),
        ("cake.bake.0190.success", [2, 1, 3, 1]),
        ("cake.mix", [2, 2, 4, 1]),
        ("pie.bake.0190.failure", [2, 2, 5, 1]),
    ] {
        publish(world, &exchange, key).await;
        assert_eq!(counts(world, &bound).await, expected, "after {key}");
    }
}

/// The keys have no effect.
pub async fn a_fanout_exchange_reaches_every_queue(world: &Harness) {
    let exchange = world.exchange("fanout", ExchangeKind::Fanout).await;
    let bound = queues::<3>(world).await;
    for (key, queue) in ["", "a", "b"].iter().zip(&bound) {
        world.bind(&exchange, key, queue).await;
    }
    publish(world, &exchange, "a").await;
    assert_eq!(counts(world, &bound).await, [1, 1, 1]);
}

/// No binding is needed.
pub async fn the_default_exchange_routes_by_queue_name(world: &Harness) {
    let two = queues::<2>(world).await;
    publish(world, "", &two[1]).await;
    assert_eq!(counts(world, &two).await, [0, 1]);
}

/// A bound exchange receives what its binding matches, also over several exchanges.
pub async fn a_bound_exchange_receives_messages(world: &Harness) {
    let all = world.exchange("all", ExchangeKind::Topic).await;
    let task = world.exchange("task", ExchangeKind::Topic).await;
    let everybody = world.exchange("everybody", ExchangeKind::Fanout).await;
    let bound = queues::<2>(world).await;
    for (from, key, to) in [(&all, "cake.bake.#", &task), (&task, "*.*.*.success", &everybody)] {
        let (exchange, key, to) = (from.clone(), key.to_owned(), Destination::Exchange(to.clone()));
        world.broker.bind(&Binding { exchange, key, to }).await.expect("both ends are there");
    }
    world.bind(&task, "#", &bound[0]).await;
    world.bind(&everybody, "", &bound[1]).await;
    for (key, expected) in
        [("cake.mix.0190.success", [0, 0]), ("cake.bake.0190.running", [1, 0]), ("cake.bake.0190.success", [2, 1])]
    {
        publish(world, &all, key).await;
        assert_eq!(counts(world, &bound).await, expected, "after {key}");
    }
}

/// This holds for two bindings on one exchange, and for two paths to the queue.
pub async fn a_queue_bound_twice_gets_a_message_once(world: &Harness) {
    let exchange = world.exchange("topic", ExchangeKind::Topic).await;
    let detour = world.exchange("detour", ExchangeKind::Fanout).await;
    let queue = queues::<1>(world).await;
    world.bind(&exchange, "a.*", &queue[0]).await;
    world.bind(&exchange, "*.b", &queue[0]).await;
    world.bind(&detour, "", &queue[0]).await;
    let to = Destination::Exchange(detour);
    let binding = Binding { exchange: exchange.clone(), key: "#".to_owned(), to };
    world.broker.bind(&binding).await.expect("both ends are there");
    publish(world, &exchange, "a.b").await;
    assert_eq!(counts(world, &queue).await, [1]);
}
