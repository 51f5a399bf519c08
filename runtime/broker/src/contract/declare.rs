//! Rules of declarations: exchanges, queues and bindings.

use std::time::Duration;

use super::{Harness, end, message, quorum, take, to_queue};
use crate::{Binding, ConsumeError, DeclareError, Destination, Exchange, ExchangeKind, PublishError, Queue, QueueKind};

const TRANSIENT: QueueKind = QueueKind::Transient { expires: Duration::from_secs(600) };

/// Declaring is idempotent, and so is binding.
pub async fn exchanges_and_queues_may_be_declared_again(world: &Harness) {
    let dead = world.queue("dead", quorum()).await;
    let kinds = [
        quorum(),
        QueueKind::Quorum {
            delivery_limit: Some(5),
            dead_letter_to: Some(dead),
            single_active_consumer: true,
            expires: None,
        },
        QueueKind::Exclusive,
        TRANSIENT,
    ];
    for (number, kind) in kinds.into_iter().enumerate() {
        let queue = Queue { name: world.name_queue(&format!("queue-{number}")), kind };
        for _ in 0..3 {
            world.broker.declare_queue(&queue).await.expect("it is the same every time");
        }
    }
    for kind in [ExchangeKind::Direct, ExchangeKind::Topic, ExchangeKind::Fanout] {
        let exchange = Exchange { name: world.unique("exchange"), kind };
        let queue = world.queue("bound", quorum()).await;
        for _ in 0..3 {
            world.broker.declare_exchange(&exchange).await.expect("it is the same every time");
            world.bind(&exchange.name, "key", &queue).await;
        }
    }
}

/// A declaration never changes an existing exchange, and the error names it.
pub async fn an_exchange_of_another_kind_differs(world: &Harness) {
    let name = world.exchange("exchange", ExchangeKind::Direct).await;
    let other = Exchange { name: name.clone(), kind: ExchangeKind::Fanout };
    match world.broker.declare_exchange(&other).await {
        Err(DeclareError::Mismatch { object: what, .. }) => assert!(what.contains(&name), "{what}"),
        other => panic!("it must differ, and is {other:?}"),
    }
}

/// Each property of a queue is compared.
pub async fn a_queue_of_another_kind_differs(world: &Harness) {
    let with = |delivery_limit, single_active_consumer| QueueKind::Quorum {
        delivery_limit,
        dead_letter_to: None,
        single_active_consumer,
        expires: None,
    };
    let name = world.queue("queue", with(Some(3), false)).await;
    for kind in [with(Some(4), false), with(Some(3), true), TRANSIENT] {
        match world.broker.declare_queue(&Queue { name: name.clone(), kind }).await {
            Err(DeclareError::Mismatch { object: what, .. }) => assert!(what.contains(&name), "{what}"),
            other => panic!("it must differ, and is {other:?}"),
        }
    }
    let same = Queue { name, kind: with(Some(3), false) };
    world.broker.declare_queue(&same).await.expect("a refused declaration changes nothing");
}

/// A binding with a missing end is refused.
pub async fn a_binding_needs_both_ends(world: &Harness) {
    let exchange = world.exchange("exchange", ExchangeKind::Direct).await;
    let queue = world.queue("queue", quorum()).await;
    let nowhere = world.unique("nowhere");
    let to_exchange =
        Binding { exchange: exchange.clone(), key: "key".to_owned(), to: Destination::Exchange(nowhere.clone()) };
    for binding in [to_queue(&nowhere, "key", &queue), to_queue(&exchange, "key", &nowhere), to_exchange] {
        let refused = world.broker.bind(&binding).await;
        assert!(matches!(refused, Err(DeclareError::Refused { .. })), "{binding:?}: {refused:?}");
    }
    world.bind(&exchange, "key", &queue).await;
}

/// Unbinding is idempotent.
pub async fn unbinding_a_missing_binding_succeeds(world: &Harness) {
    let exchange = world.exchange("exchange", ExchangeKind::Direct).await;
    let queue = world.queue("queue", quorum()).await;
    let binding = to_queue(&exchange, "key", &queue);
    world.broker.unbind(&binding).await.expect("it was never there");
    world.broker.bind(&binding).await.expect("both ends are there");
    world.broker.unbind(&binding).await.expect("it is there");
    world.broker.unbind(&binding).await.expect("it is not there any more");
}

/// Other bindings of the queue stay.
pub async fn an_unbound_queue_receives_nothing_more(world: &Harness) {
    let exchange = world.exchange("exchange", ExchangeKind::Direct).await;
    let queue = world.queue("queue", quorum()).await;
    world.bind(&exchange, "left", &queue).await;
    world.bind(&exchange, "right", &queue).await;
    world.broker.unbind(&to_queue(&exchange, "left", &queue)).await.expect("it is there");
    let refused = world.broker.publish(message(&exchange, "left", "lost")).await;
    assert!(matches!(refused, Err(PublishError::Unroutable { .. })), "{refused:?}");
    let taken = world.broker.publish(message(&exchange, "right", "kept")).await;
    taken.expect("the other binding is there");
    assert_eq!(world.waiting(&queue).await, 1);
}

/// Deleting is idempotent.
pub async fn deleting_a_missing_queue_succeeds(world: &Harness) {
    let nowhere = world.unique("nowhere");
    world.broker.delete_queue(&nowhere).await.expect("it was never there");
    let queue = world.queue("queue", quorum()).await;
    world.broker.delete_queue(&queue).await.expect("it is there");
    world.broker.delete_queue(&queue).await.expect("it is not there any more");
}

/// A new queue of the same name is empty and has no bindings.
pub async fn a_deleted_queue_takes_its_messages_along(world: &Harness) {
    let exchange = world.exchange("exchange", ExchangeKind::Fanout).await;
    let queue = world.queue("queue", quorum()).await;
    world.bind(&exchange, "", &queue).await;
    world.send(&queue, "gone").await;
    world.broker.delete_queue(&queue).await.expect("it is there");
    let waiting = world.broker.waiting(&queue).await.expect("anybody may look");
    assert_eq!(waiting, None);
    let again = Queue { name: queue.clone(), kind: quorum() };
    world.broker.declare_queue(&again).await.expect("the name is free");
    assert_eq!(world.waiting(&queue).await, 0);
    let unbound = world.broker.publish(message(&exchange, "", "nobody")).await;
    assert!(matches!(unbound, Err(PublishError::Unroutable { .. })), "{unbound:?}");
}

/// Every operation except publishing is refused on other connections.
pub async fn an_exclusive_queue_rejects_other_connections(world: &Harness) {
    let exchange = world.exchange("exchange", ExchangeKind::Direct).await;
    let queue = world.queue("mine", QueueKind::Exclusive).await;
    let other = world.another().await;
    let declared = other.declare_queue(&Queue { name: queue.clone(), kind: QueueKind::Exclusive }).await;
    assert!(matches!(declared, Err(DeclareError::Refused { .. })), "{declared:?}");
    let bound = other.bind(&to_queue(&exchange, "key", &queue)).await;
    assert!(matches!(bound, Err(DeclareError::Refused { .. })), "{bound:?}");
    let deleted = other.delete_queue(&queue).await;
    assert!(matches!(deleted, Err(DeclareError::Refused { .. })), "{deleted:?}");
    let looked = other.waiting(&queue).await;
    assert!(matches!(looked, Err(DeclareError::Refused { .. })), "{looked:?}");
    let consumed = other.consume(&queue, 1).await;
    assert!(matches!(consumed, Err(ConsumeError::Refused { .. })), "another connection consumes it");
    other.publish(message("", &queue, "for you")).await.expect("anybody may send there");
    assert_eq!(take(&mut world.consume(&queue, 1).await).await, "for you");
    other.close().await;
}

/// It is deleted once the connection is closed.
pub async fn an_exclusive_queue_is_deleted_with_its_connection(world: &Harness) {
    let queue = world.name_queue("mine");
    let other = world.another().await;
    let exclusive = Queue { name: queue.clone(), kind: QueueKind::Exclusive };
    other.declare_queue(&exclusive).await.expect("the name is free");
    other.close().await;
    let waiting = world.broker.waiting(&queue).await.expect("nobody owns it any more");
    assert_eq!(waiting, None);
    world.broker.declare_queue(&exclusive).await.expect("the name is free again");
}

/// A queue of any kind with an expiry time is deleted once unused for that time, but not while it has a consumer.
pub async fn an_unused_queue_expires(world: &Harness) {
    let expires = Duration::from_millis(200);
    for kind in [
        QueueKind::Transient { expires },
        QueueKind::Quorum {
            delivery_limit: None,
            dead_letter_to: None,
            single_active_consumer: true,
            expires: Some(expires),
        },
    ] {
        let used = world.queue("used", kind.clone()).await;
        let _consumer = world.broker.consume(&used, 1).await.expect("it is there");
        let unused = world.queue("unused", kind).await;
        // This ends only when the queue is deleted.
        while world.broker.waiting(&unused).await.expect("the broker answers").is_some() {
            tokio::time::sleep(expires).await;
        }
        assert_eq!(world.broker.waiting(&used).await.expect("the broker answers"), Some(0));
    }
}

/// Other connections may publish to it and consume it.
pub async fn a_transient_queue_is_for_everybody(world: &Harness) {
    let queue = world.queue("ours", TRANSIENT).await;
    let other = world.another().await;
    let same = Queue { name: queue.clone(), kind: TRANSIENT };
    other.declare_queue(&same).await.expect("it is the same");
    other.publish(message("", &queue, "hello")).await.expect("anybody may send there");
    let mut consumer = other.consume(&queue, 1).await.expect("anybody may consume it");
    assert_eq!(take(&mut consumer).await, "hello");
    other.close().await;
    end(&mut consumer).await;
    assert_eq!(world.waiting(&queue).await, 0);
}

/// A missing queue has no number.
pub async fn waiting_counts_undelivered_messages(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    assert_eq!(world.waiting(&queue).await, 0);
    for body in ["one", "two", "three"] {
        world.send(&queue, body).await;
    }
    assert_eq!(world.waiting(&queue).await, 3);
    let mut consumer = world.consume(&queue, 1).await;
    let delivery = super::next(&mut consumer).await;
    assert_eq!(world.waiting(&queue).await, 2);
    drop(delivery);
    let missing = world.broker.waiting(&world.unique("nowhere")).await;
    assert!(matches!(missing, Ok(None)), "{missing:?}");
}

/// Consumers are counted with or without unsettled deliveries.
pub async fn consumers_are_counted(world: &Harness) {
    let queue = world.queue("queue", quorum()).await;
    let count = || async { world.broker.consumers(&queue).await.expect("anybody may look") };
    assert_eq!(count().await, Some(0));
    let one = world.consume(&queue, 1).await;
    let _other = world.consume(&queue, 1).await;
    assert_eq!(count().await, Some(2));
    drop(one);
    while count().await != Some(1) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let missing = world.broker.consumers(&world.unique("nowhere")).await;
    assert!(matches!(missing, Ok(None)), "{missing:?}");
}

/// Each operation returns the reason.
pub async fn a_closed_broker_refuses_everything(world: &Harness) {
    let queue = Queue { name: world.name_queue("queue"), kind: quorum() };
    let closed = world.another().await;
    closed.close().await;
    closed.close().await;
    let exchange = Exchange { name: world.unique("exchange"), kind: ExchangeKind::Direct };
    let binding = to_queue("amq.direct", "key", &queue.name);
    for refused in [
        closed.declare_exchange(&exchange).await,
        closed.declare_queue(&queue).await,
        closed.bind(&binding).await,
        closed.unbind(&binding).await,
        closed.delete_queue(&queue.name).await,
        closed.waiting(&queue.name).await.map(drop),
    ] {
        assert!(matches!(refused, Err(DeclareError::Closed)), "{refused:?}");
    }
    let published = closed.publish(message("", &queue.name, "late")).await;
    assert!(matches!(published, Err(PublishError::Closed)), "{published:?}");
    let consumed = closed.consume(&queue.name, 1).await;
    assert!(matches!(consumed, Err(ConsumeError::Closed)), "a closed broker is consumed");
}
