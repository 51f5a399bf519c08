//! Rules of declarations: exchanges, queues and bindings.

use std::time::Duration;

use super::{Harness, end, message, quorum, take, to_queue};
use crate::{Binding, ConsumeError, DeclareError, Destination, Exchange, ExchangeKind, PublishError, Queue, QueueKind};

const TRANSIENT: QueueKind = QueueKind::Transient { expires: Duration::from_secs(600) };

/// Declaring is idempotent, and so is binding.
pub async fn exchanges_and_queues_may_be_declared_repeatedly(harness: &Harness) {
    let (dead_letters, _) = harness.dead_letters().await;
    let kinds = [
        quorum(),
        QueueKind::Quorum {
            delivery_limit: Some(5),
            dead_letter_to: Some(dead_letters),
            single_active_consumer: true,
            expires: None,
        },
        bounded(1_000, 1 << 20, None),
        QueueKind::Exclusive,
        QueueKind::Private,
        TRANSIENT,
    ];
    for (number, kind) in kinds.into_iter().enumerate() {
        let queue = Queue { name: harness.name_queue(&format!("queue-{number}")), kind };
        for _ in 0..3 {
            harness.broker.declare_queue(&queue).await.expect("it is the same every time");
        }
    }
    for kind in [ExchangeKind::Direct, ExchangeKind::Topic, ExchangeKind::Fanout] {
        let exchange = Exchange { name: harness.unique("exchange"), kind };
        let queue = harness.queue("bound", quorum()).await;
        for _ in 0..3 {
            harness.broker.declare_exchange(&exchange).await.expect("it is the same every time");
            harness.bind(&exchange.name, "key", &queue).await;
        }
    }
}

/// A declaration never changes an existing exchange, and the error names it.
pub async fn an_exchange_of_another_kind_differs(harness: &Harness) {
    let name = harness.exchange("exchange", ExchangeKind::Direct).await;
    let other = Exchange { name: name.clone(), kind: ExchangeKind::Fanout };
    match harness.broker.declare_exchange(&other).await {
        Err(DeclareError::Mismatch { object, .. }) => assert!(object.contains(&name), "{object}"),
        other => panic!("it must differ, and is {other:?}"),
    }
}

/// Each property of a queue is compared.
pub async fn a_queue_of_another_kind_differs(harness: &Harness) {
    let quorum_with = |delivery_limit, single_active_consumer| QueueKind::Quorum {
        delivery_limit,
        dead_letter_to: None,
        single_active_consumer,
        expires: None,
    };
    let name = harness.queue("queue", quorum_with(Some(3), false)).await;
    for kind in [quorum_with(Some(4), false), quorum_with(Some(3), true), TRANSIENT] {
        match harness.broker.declare_queue(&Queue { name: name.clone(), kind }).await {
            Err(DeclareError::Mismatch { object, .. }) => assert!(object.contains(&name), "{object}"),
            other => panic!("it must differ, and is {other:?}"),
        }
    }
    let same = Queue { name, kind: quorum_with(Some(3), false) };
    harness.broker.declare_queue(&same).await.expect("a rejected declaration changes nothing");
}

fn bounded(max_messages: u32, max_bytes: u64, dropped_to: Option<(String, String)>) -> QueueKind {
    QueueKind::Bounded { max_messages, max_bytes, dropped_to, single_active_consumer: false, expires: None }
}

/// A new message never fails for want of room: the oldest ones leave.
pub async fn a_bounded_queue_keeps_the_newest_messages(harness: &Harness) {
    let queue = harness.queue("queue", bounded(1_000, 100 << 10, None)).await;
    for number in 0..9 {
        harness.send(&queue, &number.to_string().repeat(30 << 10)).await;
    }
    assert_eq!(harness.waiting(&queue).await, 3);
    let mut consumer = harness.consume(&queue, 10).await;
    for number in 6..9 {
        assert!(take(&mut consumer).await.starts_with(&number.to_string()), "the oldest of those that are left");
    }
}

/// A binding with a missing end is rejected.
pub async fn a_binding_needs_both_ends(harness: &Harness) {
    let exchange = harness.exchange("exchange", ExchangeKind::Direct).await;
    let queue = harness.queue("queue", quorum()).await;
    let missing = harness.unique("missing");
    let to_exchange =
        Binding { exchange: exchange.clone(), key: "key".to_owned(), to: Destination::Exchange(missing.clone()) };
    for binding in [to_queue(&missing, "key", &queue), to_queue(&exchange, "key", &missing), to_exchange] {
        let result = harness.broker.bind(&binding).await;
        assert!(matches!(result, Err(DeclareError::Refused { .. })), "{binding:?}: {result:?}");
    }
    harness.bind(&exchange, "key", &queue).await;
}

/// Unbinding is idempotent.
pub async fn unbinding_a_missing_binding_succeeds(harness: &Harness) {
    let exchange = harness.exchange("exchange", ExchangeKind::Direct).await;
    let queue = harness.queue("queue", quorum()).await;
    let binding = to_queue(&exchange, "key", &queue);
    harness.broker.unbind(&binding).await.expect("it was never there");
    harness.broker.bind(&binding).await.expect("both ends are there");
    harness.broker.unbind(&binding).await.expect("it is there");
    harness.broker.unbind(&binding).await.expect("it is not there any more");
}

/// Other bindings of the queue stay.
pub async fn an_unbound_queue_receives_nothing_more(harness: &Harness) {
    let exchange = harness.exchange("exchange", ExchangeKind::Direct).await;
    let queue = harness.queue("queue", quorum()).await;
    harness.bind(&exchange, "left", &queue).await;
    harness.bind(&exchange, "right", &queue).await;
    harness.broker.unbind(&to_queue(&exchange, "left", &queue)).await.expect("it is there");
    let result = harness.broker.publish(message(&exchange, "left", "lost")).await;
    assert!(matches!(result, Err(PublishError::Unroutable { .. })), "{result:?}");
    let result = harness.broker.publish(message(&exchange, "right", "routed")).await;
    result.expect("the other binding is there");
    assert_eq!(harness.waiting(&queue).await, 1);
}

/// Deleting is idempotent.
pub async fn deleting_a_missing_queue_succeeds(harness: &Harness) {
    let missing = harness.unique("missing");
    harness.broker.delete_queue(&missing).await.expect("it was never there");
    let queue = harness.queue("queue", quorum()).await;
    harness.broker.delete_queue(&queue).await.expect("it is there");
    harness.broker.delete_queue(&queue).await.expect("it is not there any more");
}

/// A new queue of the same name is empty and has no bindings.
pub async fn a_deleted_queue_loses_its_messages_and_bindings(harness: &Harness) {
    let exchange = harness.exchange("exchange", ExchangeKind::Fanout).await;
    let queue = harness.queue("queue", quorum()).await;
    harness.bind(&exchange, "", &queue).await;
    harness.send(&queue, "deleted").await;
    harness.broker.delete_queue(&queue).await.expect("it is there");
    let waiting = harness.broker.waiting(&queue).await.expect("the broker answers");
    assert_eq!(waiting, None);
    let new = Queue { name: queue.clone(), kind: quorum() };
    harness.broker.declare_queue(&new).await.expect("the name is free");
    assert_eq!(harness.waiting(&queue).await, 0);
    let published = harness.broker.publish(message(&exchange, "", "unroutable")).await;
    assert!(matches!(published, Err(PublishError::Unroutable { .. })), "{published:?}");
}

/// Every operation except publishing is rejected on other connections.
pub async fn an_exclusive_queue_rejects_other_connections(harness: &Harness) {
    let exchange = harness.exchange("exchange", ExchangeKind::Direct).await;
    let queue = harness.queue("exclusive", QueueKind::Exclusive).await;
    let other = harness.another().await;
    let declared = other.declare_queue(&Queue { name: queue.clone(), kind: QueueKind::Exclusive }).await;
    assert!(matches!(declared, Err(DeclareError::Refused { .. })), "{declared:?}");
    let bound = other.bind(&to_queue(&exchange, "key", &queue)).await;
    assert!(matches!(bound, Err(DeclareError::Refused { .. })), "{bound:?}");
    let deleted = other.delete_queue(&queue).await;
    assert!(matches!(deleted, Err(DeclareError::Refused { .. })), "{deleted:?}");
    let waiting = other.waiting(&queue).await;
    assert!(matches!(waiting, Err(DeclareError::Refused { .. })), "{waiting:?}");
    let consumed = other.consume(&queue, 1).await;
    assert!(matches!(consumed, Err(ConsumeError::Refused { .. })), "another connection consumes it");
    other.publish(message("", &queue, "for you")).await.expect("any connection may send there");
    assert_eq!(take(&mut harness.consume(&queue, 1).await).await, "for you");
    other.close().await;
}

/// Connections have private queues of the same name at the same time, and each uses its own.
pub async fn each_connection_has_private_queues_of_its_own(harness: &Harness) {
    let exchange = harness.exchange("exchange", ExchangeKind::Fanout).await;
    let other = harness.another().await;
    let queue = Queue { name: harness.name_queue("private"), kind: QueueKind::Private };
    let binding = to_queue(&exchange, "", &queue.name);
    for broker in [&*harness.broker, &*other] {
        broker.declare_queue(&queue).await.expect("each connection may declare it");
        broker.bind(&binding).await.expect("it is there");
    }
    harness.broker.publish(message(&exchange, "", "for both")).await.expect("both take it");
    assert_eq!(take(&mut harness.consume(&queue.name, 1).await).await, "for both");
    other.unbind(&binding).await.expect("the broker answers");
    harness.broker.publish(message(&exchange, "", "for one")).await.expect("one takes it");
    assert_eq!(harness.waiting(&queue.name).await, 1);
    assert_eq!(other.waiting(&queue.name).await.expect("the broker answers"), Some(1), "the first message");
    other.delete_queue(&queue.name).await.expect("it is there");
    assert_eq!(other.waiting(&queue.name).await.expect("the broker answers"), None);
    assert_eq!(harness.waiting(&queue.name).await, 1, "the other queue stays");
    other.declare_queue(&queue).await.expect("it may declare another");
    assert_eq!(other.waiting(&queue.name).await.expect("the broker answers"), Some(0));
    other.close().await;
    let third = harness.another().await;
    assert_eq!(third.waiting(&queue.name).await.expect("the broker answers"), None, "no connection sees it");
    third.close().await;
}

/// It is deleted once the connection is closed.
pub async fn an_exclusive_queue_is_deleted_with_its_connection(harness: &Harness) {
    let queue = harness.name_queue("exclusive");
    let other = harness.another().await;
    let exclusive = Queue { name: queue.clone(), kind: QueueKind::Exclusive };
    other.declare_queue(&exclusive).await.expect("the name is free");
    other.close().await;
    let waiting = harness.broker.waiting(&queue).await.expect("no connection owns it any more");
    assert_eq!(waiting, None);
    harness.broker.declare_queue(&exclusive).await.expect("the name is unused again");
}

/// A queue of any kind with an expiry time is deleted once unused for that time, but not while it has a consumer.
pub async fn an_unused_queue_expires(harness: &Harness) {
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
        let used = harness.queue("used", kind.clone()).await;
        let _consumer = harness.broker.consume(&used, 1).await.expect("it is there");
        let unused = harness.queue("unused", kind).await;
        // This ends only when the queue is deleted.
        while harness.broker.waiting(&unused).await.expect("the broker answers").is_some() {
            tokio::time::sleep(expires).await;
        }
        assert_eq!(harness.broker.waiting(&used).await.expect("the broker answers"), Some(0));
    }
}

/// Other connections may publish to it and consume it.
pub async fn a_transient_queue_is_shared(harness: &Harness) {
    let queue = harness.queue("shared", TRANSIENT).await;
    let other = harness.another().await;
    let same = Queue { name: queue.clone(), kind: TRANSIENT };
    other.declare_queue(&same).await.expect("it is the same");
    other.publish(message("", &queue, "hello")).await.expect("any connection may send there");
    let mut consumer = other.consume(&queue, 1).await.expect("any connection may consume it");
    assert_eq!(take(&mut consumer).await, "hello");
    other.close().await;
    end(&mut consumer).await;
    assert_eq!(harness.waiting(&queue).await, 0);
}

/// A missing queue has no number.
pub async fn waiting_counts_undelivered_messages(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    assert_eq!(harness.waiting(&queue).await, 0);
    for body in ["one", "two", "three"] {
        harness.send(&queue, body).await;
    }
    assert_eq!(harness.waiting(&queue).await, 3);
    let mut consumer = harness.consume(&queue, 1).await;
    let delivery = super::next(&mut consumer).await;
    assert_eq!(harness.waiting(&queue).await, 2);
    drop(delivery);
    let missing = harness.broker.waiting(&harness.unique("missing")).await;
    assert!(matches!(missing, Ok(None)), "{missing:?}");
}

/// Consumers are counted with or without unsettled deliveries.
pub async fn consumers_are_counted(harness: &Harness) {
    let queue = harness.queue("queue", quorum()).await;
    let count = || async { harness.broker.consumers(&queue).await.expect("the broker answers") };
    assert_eq!(count().await, Some(0));
    let one = harness.consume(&queue, 1).await;
    let _other = harness.consume(&queue, 1).await;
    assert_eq!(count().await, Some(2));
    drop(one);
    while count().await != Some(1) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let missing = harness.broker.consumers(&harness.unique("missing")).await;
    assert!(matches!(missing, Ok(None)), "{missing:?}");
}

/// Each operation returns the reason.
pub async fn a_closed_broker_rejects_everything(harness: &Harness) {
    let queue = Queue { name: harness.name_queue("queue"), kind: quorum() };
    let closed = harness.another().await;
    closed.close().await;
    closed.close().await;
    let exchange = Exchange { name: harness.unique("exchange"), kind: ExchangeKind::Direct };
    let binding = to_queue("amq.direct", "key", &queue.name);
    for result in [
        closed.declare_exchange(&exchange).await,
        closed.declare_queue(&queue).await,
        closed.bind(&binding).await,
        closed.unbind(&binding).await,
        closed.delete_queue(&queue.name).await,
        closed.waiting(&queue.name).await.map(drop),
    ] {
        assert!(matches!(result, Err(DeclareError::Closed)), "{result:?}");
    }
    let published = closed.publish(message("", &queue.name, "late")).await;
    assert!(matches!(published, Err(PublishError::Closed)), "{published:?}");
    let consumed = closed.consume(&queue.name, 1).await;
    assert!(matches!(consumed, Err(ConsumeError::Closed)), "a closed broker is consumed");
}

/// No sender notices, and a full queue says what it dropped, in order.
pub async fn a_full_queue_drops_the_oldest_messages(harness: &Harness) {
    let exchange = harness.exchange("dropped", ExchangeKind::Direct).await;
    let dropped = harness.queue("dropped", bounded(3, 1 << 20, None)).await;
    harness.bind(&exchange, "key", &dropped).await;
    let full = harness.queue("full", bounded(3, 1 << 20, Some((exchange, "key".to_owned())))).await;
    for body in ["1", "2", "3", "4", "5"] {
        harness.send(&full, body).await;
    }
    let mut dropped = harness.consume(&dropped, 10).await;
    for body in ["1", "2"] {
        assert_eq!(take(&mut dropped).await, body);
    }
    assert_eq!(harness.waiting(&full).await, 3);
    let mut consumer = harness.consume(&full, 10).await;
    for body in ["3", "4", "5"] {
        assert_eq!(take(&mut consumer).await, body);
    }
}
