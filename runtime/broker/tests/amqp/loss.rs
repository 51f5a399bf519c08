//! The allowed and forbidden effects of a lost connection.

use std::time::Duration;

use broker::{
    Amqp, Binding, Broker, Consumer, DeclareError, Delivery, Destination, Exchange, ExchangeKind, Message, Properties,
    PublishError, Queue, QueueKind, Routing,
};
use bytes::Bytes;
use lapin::{Connection, ConnectionProperties, options::ExchangeDeleteOptions, uri::AMQPUri};
use tokio::time;

use crate::{connect, proxy::Proxy, unique, url};

/// The time limit for an expected event. Only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

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
        let behind = format!("{}:{}", uri.authority.host, uri.authority.port);
        let proxy = Proxy::start(behind).await;
        uri.authority.host = proxy.address().ip().to_string();
        uri.authority.port = proxy.address().port();
        let (broker, direct) = (connect(uri.to_string()).await, connect(url()).await);
        let queue = unique("queue");
        broker.declare_queue(&Queue { name: queue.clone(), kind: QUORUM }).await.unwrap();
        Self { proxy, broker, direct, queue }
    }

    pub(crate) async fn clean(self) {
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

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    time::timeout(PATIENCE, future).await.expect("it does not happen")
}

pub(crate) async fn next(consumer: &mut Consumer) -> Delivery {
    soon(consumer.next()).await.expect("the consumer has ended")
}

pub(crate) fn body(delivery: &Delivery) -> &[u8] {
    &delivery.message.body
}

#[tokio::test]
async fn topology_and_consumers_recover_after_a_loss() {
    let world = Harness::new().await;
    let exchange = unique("exchange");
    let queues = [
        Queue { name: unique("mine"), kind: QueueKind::Exclusive },
        Queue { name: unique("ours"), kind: QueueKind::Transient { expires: Duration::from_secs(60) } },
    ];
    let kind = ExchangeKind::Fanout;
    world.broker.declare_exchange(&Exchange { name: exchange.clone(), kind }).await.unwrap();
    let mut consumers = Vec::new();
    for queue in &queues {
        world.broker.declare_queue(queue).await.unwrap();
        let to = Destination::Queue(queue.name.clone());
        let binding = Binding { exchange: exchange.clone(), key: String::new(), to };
        world.broker.bind(&binding).await.unwrap();
        consumers.push(world.broker.consume(&queue.name, 2).await.unwrap());
    }
    // The queue is gone without anybody noticing: it must be declared again automatically.
    world.direct.delete_queue(&queues[1].name).await.unwrap();
    assert!(soon(consumers[1].next()).await.is_none());
    consumers[1] = {
        world.proxy.cut();
        soon(world.broker.consume(&queues[1].name, 2)).await.unwrap()
    };
    for round in ["one", "two"] {
        soon(world.broker.publish(message(&exchange, "", round))).await.unwrap();
        for consumer in &mut consumers {
            // Deliveries accepted just before the cut may be redelivered: the broker may not have received the accept.
            let mut delivery = next(consumer).await;
            while body(&delivery) != round.as_bytes() {
                assert!(delivery.redelivered);
                delivery.accept();
                delivery = next(consumer).await;
            }
            delivery.accept();
        }
        world.proxy.cut();
        soon(world.broker.waiting(&world.queue)).await.unwrap();
    }
    world.direct.delete_queue(&queues[1].name).await.unwrap();
    world.clean().await;
}

#[tokio::test]
async fn an_unconfirmed_publish_is_reported() {
    let world = Harness::new().await;
    let mut consumer = world.direct.consume(&world.queue, 1).await.unwrap();
    world.proxy.hold_answers();
    let publish = world.broker.publish(message("", &world.queue, "perhaps"));
    let cut = async {
        // The message has arrived, but its confirm has not.
        let delivery = next(&mut consumer).await;
        world.proxy.cut();
        delivery.accept();
    };
    match futures::join!(soon(publish), cut).0 {
        Err(PublishError::Unconfirmed { key }) => assert_eq!(key, world.queue),
        other => panic!("it cannot be known, and is {other:?}"),
    }
    soon(world.send("again")).await;
    assert_eq!(body(&next(&mut consumer).await), b"again");
    world.clean().await;
}

#[tokio::test]
async fn settling_on_a_lost_connection_does_not_prevent_redelivery() {
    let world = Harness::new().await;
    let mut consumer = world.broker.consume(&world.queue, 1).await.unwrap();
    world.send("mine").await;
    let lost = next(&mut consumer).await;
    world.proxy.cut();
    let again = next(&mut consumer).await;
    assert_eq!(body(&again), b"mine");
    assert!(again.redelivered);
    assert!(again.returned > 0);
    lost.accept();
    again.requeue();
    next(&mut consumer).await.accept();
    world.send("last").await;
    assert_eq!(body(&next(&mut consumer).await), b"last");
    world.clean().await;
}

#[tokio::test]
async fn deliveries_of_a_lost_connection_are_dropped() {
    let world = Harness::new().await;
    let mut consumer = world.broker.consume(&world.queue, 4).await.unwrap();
    for body in ["a", "b", "c", "d"] {
        world.send(body).await;
    }
    let taken = next(&mut consumer).await;
    assert_eq!(body(&taken), b"a");
    world.proxy.cut();
    soon(world.broker.waiting(&world.queue)).await.unwrap();
    for expected in ["a", "b", "c", "d"] {
        let delivery = next(&mut consumer).await;
        assert_eq!(body(&delivery), expected.as_bytes());
        delivery.accept();
    }
    world.send("last").await;
    assert_eq!(body(&next(&mut consumer).await), b"last");
    world.clean().await;
}

#[tokio::test]
async fn operations_wait_while_disconnected() {
    let world = Harness::new().await;
    world.proxy.close();
    let other = Queue { name: unique("other"), kind: QUORUM };
    let mut doing = Box::pin(async {
        world.broker.declare_queue(&other).await.unwrap();
        world.broker.publish(message("", &other.name, "late")).await.unwrap();
        world.broker.consume(&other.name, 1).await.unwrap()
    });
    assert!(futures::poll!(&mut doing).is_pending());
    world.proxy.open();
    let mut consumer = soon(doing).await;
    assert_eq!(body(&next(&mut consumer).await), b"late");
    world.direct.delete_queue(&other.name).await.unwrap();
    world.clean().await;
}

#[tokio::test]
async fn messages_published_while_disconnected_keep_their_order() {
    let world = Harness::new().await;
    let mut consumer = world.direct.consume(&world.queue, 100).await.unwrap();
    // The loss is certain once a publish fails because of it.
    world.proxy.hold_answers();
    let last = world.broker.publish(message("", &world.queue, "last"));
    let cut = async {
        next(&mut consumer).await.accept();
        world.proxy.close();
    };
    let (last, ()) = futures::join!(soon(last), cut);
    assert!(matches!(last, Err(PublishError::Unconfirmed { .. })), "{last:?}");
    let publishes = (0..50).map(|number| world.broker.publish(message("", &world.queue, &number.to_string())));
    let mut publishing = Box::pin(futures::future::join_all(publishes));
    assert!(futures::poll!(&mut publishing).is_pending());
    world.proxy.open();
    assert!(soon(publishing).await.iter().all(Result::is_ok));
    for number in 0..50 {
        let delivery = next(&mut consumer).await;
        assert_eq!(body(&delivery), number.to_string().as_bytes());
        delivery.accept();
    }
    world.clean().await;
}

#[tokio::test]
async fn a_disconnected_broker_can_be_closed() {
    let world = Harness::new().await;
    let mut consumer = world.broker.consume(&world.queue, 1).await.unwrap();
    world.proxy.close();
    soon(world.broker.close()).await;
    assert!(soon(consumer.next()).await.is_none());
    let published = world.broker.publish(message("", &world.queue, "late")).await;
    assert!(matches!(published, Err(PublishError::Closed)), "{published:?}");
    world.clean().await;
}

#[tokio::test]
async fn a_deleted_exchange_is_rejected_and_others_continue() {
    let world = Harness::new().await;
    let exchange = unique("exchange");
    let kind = ExchangeKind::Fanout;
    world.broker.declare_exchange(&Exchange { name: exchange.clone(), kind }).await.unwrap();
    let publish = || Message { routing: Routing::Optional, ..message(&exchange, "", "heard") };
    world.broker.publish(publish()).await.unwrap();
    let mut consumer = world.broker.consume(&world.queue, 1).await.unwrap();

    let operator = Connection::connect(&url(), ConnectionProperties::default()).await.unwrap();
    let channel = operator.create_channel().await.unwrap();
    let options = ExchangeDeleteOptions::default();
    channel.exchange_delete(exchange.as_str().into(), options).await.unwrap();

    for _ in 0..2 {
        match soon(world.broker.publish(publish())).await {
            Err(PublishError::Refused { exchange: refused, .. }) => assert_eq!(refused, exchange),
            other => panic!("it must be refused, and is {other:?}"),
        }
        world.send("still here").await;
        next(&mut consumer).await.accept();
    }
    operator.close(200, "done".into()).await.unwrap();
    world.clean().await;
}

/// RabbitMQ's default maximum message size: 16 MiB from 4.0 on, 128 MiB before.
const TAKEN_AT_MOST: usize = 128 << 20;

#[tokio::test]
async fn a_too_large_message_is_not_retryable() {
    let world = Harness::new().await;
    let large = Message { body: vec![0; TAKEN_AT_MOST + 1].into(), ..message("", &world.queue, "") };
    match world.broker.publish(large).await {
        Err(PublishError::TooLarge { key, reason, .. }) => {
            assert_eq!(key, world.queue);
            assert!(reason.contains(&(TAKEN_AT_MOST + 1).to_string()), "{reason}");
        }
        other => panic!("it must be refused, and is {other:?}"),
    }
    world.send("fine").await;
    world.clean().await;
}

#[tokio::test]
async fn an_invalid_amqp_name_is_rejected() {
    let world = Harness::new().await;
    let long = "x".repeat(256);
    let kind = QUORUM;
    let declared = world.broker.declare_queue(&Queue { name: long.clone(), kind }).await;
    assert!(matches!(declared, Err(DeclareError::Refused { .. })), "{declared:?}");
    assert!(world.broker.consume(&long, 1).await.is_err());
    assert!(matches!(world.broker.waiting(&long).await, Ok(None)));
    world.broker.delete_queue(&long).await.unwrap();
    let mut sent = message("", &world.queue, "refused");
    sent.properties.message_id = Some(long);
    let published = world.broker.publish(sent).await;
    assert!(matches!(published, Err(PublishError::Refused { .. })), "{published:?}");
    let mut sent = message("", &world.queue, "refused");
    sent.properties.headers.insert("big".to_owned(), "x".repeat(200_000));
    let published = world.broker.publish(sent).await;
    assert!(matches!(published, Err(PublishError::Refused { .. })), "{published:?}");
    world.send("fine").await;
    world.clean().await;
}
