//! The allowed and forbidden effects of a lost connection.

use std::{collections::BTreeMap, time::Duration};

use broker::{
    Amqp, Binding, Broker, Consumer, DeclareError, Delivery, Destination, Exchange, ExchangeKind, Message, Properties,
    PublishError, Queue, QueueKind, Routing,
};
use bytes::Bytes;
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ExchangeDeleteOptions},
    types::{AMQPValue, FieldTable},
    uri::AMQPUri,
};
use tokio::time;

use crate::{connect, proxy::Proxy, unique, url};

/// The time limit for an expected event. Only a failing test waits that long.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

const QUORUM: QueueKind =
    QueueKind::Quorum { delivery_limit: None, dead_letter_to: None, single_active_consumer: false, expires: None };

/// A connection through a proxy, and a direct one.
pub(crate) struct Harness {
    pub(crate) proxy: Proxy,
    pub(crate) broker: Amqp,
    pub(crate) direct: Amqp,
    pub(crate) queue: String,
}

impl Harness {
    pub(crate) async fn new() -> Self {
        let mut uri: AMQPUri = url().parse().unwrap();
        let target = format!("{}:{}", uri.authority.host, uri.authority.port);
        let proxy = Proxy::start(target).await;
        uri.authority.host = proxy.address().ip().to_string();
        uri.authority.port = proxy.address().port();
        let (broker, direct) = (connect(uri.to_string()).await, connect(url()).await);
        let queue = unique("queue");
        broker.declare_queue(&Queue { name: queue.clone(), kind: QUORUM }).await.unwrap();
        Self { proxy, broker, direct, queue }
    }

    pub(crate) async fn clean_up(self) {
        self.direct.delete_queue(&self.queue).await.unwrap();
        self.direct.close().await;
        self.broker.close().await;
    }

    pub(crate) async fn send(&self, body: &str) {
        self.broker.publish(message("", &self.queue, body)).await.unwrap();
    }
}

pub(crate) fn message(exchange: &str, key: &str, body: &str) -> Message {
    Message {
        exchange: exchange.to_owned(),
        key: key.to_owned(),
        routing: Routing::Mandatory,
        persistent: true,
        priority: 0,
        properties: Properties::default(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    time::timeout(TEST_TIMEOUT, future).await.expect("the expected event happens in time")
}

pub(crate) async fn next(consumer: &mut Consumer) -> Delivery {
    in_time(consumer.next()).await.expect("the consumer has not ended")
}

pub(crate) fn body(delivery: &Delivery) -> &[u8] {
    &delivery.message.body
}

#[tokio::test]
async fn topology_and_consumers_recover_after_a_loss() {
    let harness = Harness::new().await;
    let exchange = unique("exchange");
    let queues = [
        Queue { name: unique("exclusive"), kind: QueueKind::Exclusive },
        Queue { name: unique("transient"), kind: QueueKind::Transient { expires: Duration::from_secs(60) } },
        Queue { name: unique("private"), kind: QueueKind::Private },
    ];
    let kind = ExchangeKind::Fanout;
    harness.broker.declare_exchange(&Exchange { name: exchange.clone(), kind }).await.unwrap();
    let mut consumers = Vec::new();
    for queue in &queues {
        harness.broker.declare_queue(queue).await.unwrap();
        let to = Destination::Queue(queue.name.clone());
        let binding = Binding { exchange: exchange.clone(), key: String::new(), to };
        harness.broker.bind(&binding).await.unwrap();
        consumers.push(harness.broker.consume(&queue.name, 2).await.unwrap());
    }
    // The queue is deleted behind the connection: a reconnect must declare it again.
    harness.direct.delete_queue(&queues[1].name).await.unwrap();
    assert!(in_time(consumers[1].next()).await.is_none());
    consumers[1] = {
        harness.proxy.cut();
        in_time(harness.broker.consume(&queues[1].name, 2)).await.unwrap()
    };
    for text in ["one", "two"] {
        in_time(harness.broker.publish(message(&exchange, "", text))).await.unwrap();
        for consumer in &mut consumers {
            // Deliveries accepted just before the cut may be redelivered: the broker may not have received the accept.
            let mut delivery = next(consumer).await;
            while body(&delivery) != text.as_bytes() {
                assert!(delivery.redelivered);
                delivery.accept();
                delivery = next(consumer).await;
            }
            delivery.accept();
        }
        harness.proxy.cut();
        in_time(harness.broker.waiting(&harness.queue)).await.unwrap();
    }
    harness.direct.delete_queue(&queues[1].name).await.unwrap();
    harness.clean_up().await;
}

#[tokio::test]
async fn an_unconfirmed_publish_is_reported() {
    let harness = Harness::new().await;
    let mut consumer = harness.direct.consume(&harness.queue, 1).await.unwrap();
    harness.proxy.hold_replies();
    let publish = harness.broker.publish(message("", &harness.queue, "unconfirmed"));
    let cut = async {
        // The message has arrived, but its confirm has not.
        let delivery = next(&mut consumer).await;
        harness.proxy.cut();
        delivery.accept();
    };
    match futures::join!(in_time(publish), cut).0 {
        Err(PublishError::Unconfirmed { key }) => assert_eq!(key, harness.queue),
        other => panic!("the outcome must be unconfirmed: {other:?}"),
    }
    in_time(harness.send("next")).await;
    assert_eq!(body(&next(&mut consumer).await), b"next");
    harness.clean_up().await;
}

#[tokio::test]
async fn settling_on_a_lost_connection_does_not_prevent_redelivery() {
    let harness = Harness::new().await;
    let mut consumer = harness.broker.consume(&harness.queue, 1).await.unwrap();
    harness.send("requeued").await;
    let lost = next(&mut consumer).await;
    harness.proxy.cut();
    let redelivered = next(&mut consumer).await;
    assert_eq!(body(&redelivered), b"requeued");
    assert!(redelivered.redelivered);
    assert!(redelivered.returned > 0);
    lost.accept();
    redelivered.requeue();
    next(&mut consumer).await.accept();
    harness.send("last").await;
    assert_eq!(body(&next(&mut consumer).await), b"last");
    harness.clean_up().await;
}

#[tokio::test]
async fn deliveries_of_a_lost_connection_are_dropped() {
    let harness = Harness::new().await;
    let mut consumer = harness.broker.consume(&harness.queue, 4).await.unwrap();
    for body in ["a", "b", "c", "d"] {
        harness.send(body).await;
    }
    let first = next(&mut consumer).await;
    assert_eq!(body(&first), b"a");
    harness.proxy.cut();
    in_time(harness.broker.waiting(&harness.queue)).await.unwrap();
    for expected in ["a", "b", "c", "d"] {
        let delivery = next(&mut consumer).await;
        assert_eq!(body(&delivery), expected.as_bytes());
        delivery.accept();
    }
    harness.send("last").await;
    assert_eq!(body(&next(&mut consumer).await), b"last");
    harness.clean_up().await;
}

#[tokio::test]
async fn operations_wait_while_disconnected() {
    let harness = Harness::new().await;
    harness.proxy.close();
    let other = Queue { name: unique("other"), kind: QUORUM };
    let mut operations = Box::pin(async {
        harness.broker.declare_queue(&other).await.unwrap();
        harness.broker.publish(message("", &other.name, "late")).await.unwrap();
        harness.broker.consume(&other.name, 1).await.unwrap()
    });
    assert!(futures::poll!(&mut operations).is_pending());
    harness.proxy.open();
    let mut consumer = in_time(operations).await;
    assert_eq!(body(&next(&mut consumer).await), b"late");
    harness.direct.delete_queue(&other.name).await.unwrap();
    harness.clean_up().await;
}

#[tokio::test]
async fn messages_published_while_disconnected_keep_their_order() {
    let harness = Harness::new().await;
    let mut consumer = harness.direct.consume(&harness.queue, 100).await.unwrap();
    // The loss is certain once a publish fails because of it.
    harness.proxy.hold_replies();
    let last = harness.broker.publish(message("", &harness.queue, "last"));
    let cut = async {
        next(&mut consumer).await.accept();
        harness.proxy.close();
    };
    let (last, ()) = futures::join!(in_time(last), cut);
    assert!(matches!(last, Err(PublishError::Unconfirmed { .. })), "{last:?}");
    let publishes = (0..50).map(|number| harness.broker.publish(message("", &harness.queue, &number.to_string())));
    let mut publishing = Box::pin(futures::future::join_all(publishes));
    assert!(futures::poll!(&mut publishing).is_pending());
    harness.proxy.open();
    assert!(in_time(publishing).await.iter().all(Result::is_ok));
    for number in 0..50 {
        let delivery = next(&mut consumer).await;
        assert_eq!(body(&delivery), number.to_string().as_bytes());
        delivery.accept();
    }
    harness.clean_up().await;
}

#[tokio::test]
async fn a_disconnected_broker_can_be_closed() {
    let harness = Harness::new().await;
    let mut consumer = harness.broker.consume(&harness.queue, 1).await.unwrap();
    harness.proxy.close();
    in_time(harness.broker.close()).await;
    assert!(in_time(consumer.next()).await.is_none());
    let published = harness.broker.publish(message("", &harness.queue, "late")).await;
    assert!(matches!(published, Err(PublishError::Closed)), "{published:?}");
    harness.clean_up().await;
}

#[tokio::test]
async fn a_deleted_exchange_is_rejected_and_others_continue() {
    let harness = Harness::new().await;
    let exchange = unique("exchange");
    let kind = ExchangeKind::Fanout;
    harness.broker.declare_exchange(&Exchange { name: exchange.clone(), kind }).await.unwrap();
    let publish = || Message { routing: Routing::Optional, ..message(&exchange, "", "optional") };
    harness.broker.publish(publish()).await.unwrap();
    let mut consumer = harness.broker.consume(&harness.queue, 1).await.unwrap();

    let operator = Connection::connect(&url(), ConnectionProperties::default()).await.unwrap();
    let channel = operator.create_channel().await.unwrap();
    let options = ExchangeDeleteOptions::default();
    channel.exchange_delete(exchange.as_str().into(), options).await.unwrap();

    for _ in 0..2 {
        match in_time(harness.broker.publish(publish())).await {
            Err(PublishError::Refused { exchange: name, .. }) => assert_eq!(name, exchange),
            other => panic!("it must be rejected: {other:?}"),
        }
        harness.send("still here").await;
        next(&mut consumer).await.accept();
    }
    operator.close(200, "done".into()).await.unwrap();
    harness.clean_up().await;
}

/// RabbitMQ's default maximum message size: 16 MiB from 4.0 on, 128 MiB before.
const MAX_MESSAGE_BYTES: usize = 128 << 20;

#[tokio::test]
async fn a_too_large_message_is_not_retryable_and_costs_no_other_its_confirm() {
    let harness = Harness::new().await;
    let body = Bytes::from(vec![0; MAX_MESSAGE_BYTES + 1]);
    // The broker refuses the first one, and then its maximum is known.
    for says in ["is larger than", "are more than the 134217728 of the broker's max_message_size"] {
        let large = harness.broker.publish(Message { body: body.clone(), ..message("", &harness.queue, "") });
        let small = (0..50).map(|_| harness.broker.publish(message("", &harness.queue, "small")));
        let (large, small) = futures::join!(large, futures::future::join_all(small));
        match large {
            Err(PublishError::TooLarge { key, reason, .. }) => {
                assert_eq!(key, harness.queue);
                assert!(reason.contains(&body.len().to_string()) && reason.contains(says), "{reason}");
            }
            other => panic!("it must be rejected: {other:?}"),
        }
        assert_eq!(small, vec![Ok(()); 50], "they were sent at the same time");
    }
    let largest = Message { body: body.slice(..(16 << 20) + 1), ..message("", &harness.queue, "") };
    harness.broker.publish(largest).await.unwrap();
    assert_eq!(harness.direct.waiting(&harness.queue).await.unwrap(), Some(101));
    harness.clean_up().await;
}

/// RabbitMQ takes headers of up to a frame, and so larger ones than a message of waft has.
#[tokio::test]
async fn a_message_with_large_headers_has_a_copy_in_the_quarantine() {
    let harness = Harness::new().await;
    let mut consumer = harness.broker.consume(&harness.queue, 1).await.unwrap();
    let stranger = Connection::connect(&url(), ConnectionProperties::default()).await.unwrap();
    let channel = stranger.create_channel().await.unwrap();
    let header = |bytes: usize| AMQPValue::LongString("x".repeat(bytes).into());
    let headers = BTreeMap::from([("large".into(), header(110 << 10)), ("small".into(), header(1))]);
    let properties = BasicProperties::default().with_headers(FieldTable::from(headers));
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("".into(), harness.queue.as_str().into(), options, b"?", properties);
    sent.await.unwrap().await.unwrap();
    let delivery = next(&mut consumer).await;
    let original = Message { exchange: String::new(), key: harness.queue.clone(), ..delivery.message.clone() };
    let refused = harness.broker.publish(original).await;
    assert!(matches!(refused, Err(PublishError::TooLarge { .. })), "{refused:?}");
    let copy = broker::quarantined(&delivery.message, &harness.queue, "it is unreadable");
    delivery.accept();
    harness.broker.publish(Message { exchange: String::new(), key: harness.queue.clone(), ..copy }).await.unwrap();
    let copy = next(&mut consumer).await;
    let names: Vec<&str> = copy.message.properties.headers.keys().map(String::as_str).collect();
    assert_eq!(names, ["headers-cut", "quarantine-reason", "quarantined-from", "small"]);
    copy.accept();
    stranger.close(200, "done".into()).await.unwrap();
    harness.clean_up().await;
}

#[tokio::test]
async fn an_invalid_amqp_name_is_rejected() {
    let harness = Harness::new().await;
    let long = "x".repeat(256);
    let kind = QUORUM;
    let declared = harness.broker.declare_queue(&Queue { name: long.clone(), kind }).await;
    assert!(matches!(declared, Err(DeclareError::Refused { .. })), "{declared:?}");
    assert!(harness.broker.consume(&long, 1).await.is_err());
    assert!(matches!(harness.broker.waiting(&long).await, Ok(None)));
    harness.broker.delete_queue(&long).await.unwrap();
    let mut sent = message("", &harness.queue, "invalid");
    sent.properties.message_id = Some(long);
    let published = harness.broker.publish(sent).await;
    assert!(matches!(published, Err(PublishError::TooLarge { .. })), "{published:?}");
    let mut sent = message("", &harness.queue, "invalid");
    sent.properties.headers.insert("big".to_owned(), "x".repeat(200_000));
    let published = harness.broker.publish(sent).await;
    assert!(matches!(published, Err(PublishError::TooLarge { .. })), "{published:?}");
    harness.send("fine").await;
    harness.clean_up().await;
}
