//! Queues that other users of the broker own, or have deleted.

use broker::{Binding, Broker, Destination, Exchange, ExchangeKind, PublishError, Queue, QueueKind};
use lapin::{
    Connection, ConnectionProperties,
    options::{QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{
    connect,
    loss::{Harness, body, in_time, message, next},
    unique, url,
};

/// A fanout exchange, bound to the queue of the harness.
async fn fanout(harness: &Harness) -> String {
    let exchange = unique("exchange");
    let kind = ExchangeKind::Fanout;
    harness.broker.declare_exchange(&Exchange { name: exchange.clone(), kind }).await.unwrap();
    bind(&harness.broker, &exchange, &harness.queue).await;
    exchange
}

async fn bind(broker: &dyn Broker, exchange: &str, queue: &str) {
    let to = Destination::Queue(queue.to_owned());
    broker.bind(&Binding { exchange: exchange.to_owned(), key: String::new(), to }).await.unwrap();
}

#[tokio::test]
async fn a_queue_that_rejects_messages_is_told_apart_and_others_receive_them() {
    let harness = Harness::new().await;
    let exchange = fanout(&harness).await;
    let operator = Connection::connect(&url(), ConnectionProperties::default()).await.unwrap();
    let channel = operator.create_channel().await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let full = unique("full");
    let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() };
    let options = QueueDeclareOptions { exclusive: true, ..options };
    channel.queue_declare(full.as_str().into(), options, arguments).await.unwrap();
    channel
        .queue_bind(
            full.as_str().into(),
            exchange.as_str().into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();

    let mut consumer = harness.broker.consume(&harness.queue, 1).await.unwrap();
    in_time(harness.broker.publish(message(&exchange, "", "one"))).await.expect("there is room for one");
    let rejected = in_time(harness.broker.publish(message(&exchange, "", "two"))).await;
    assert_eq!(rejected, Err(PublishError::Rejected { exchange: exchange.clone(), key: String::new() }));
    for text in ["one", "two"] {
        let delivery = next(&mut consumer).await;
        assert_eq!(body(&delivery), text.as_bytes());
        delivery.accept();
    }
    operator.close(200, "done".into()).await.unwrap();
    harness.clean_up().await;
}

/// Whoever uses it declares it again, as any other queue.
#[tokio::test]
async fn a_private_queue_that_was_deleted_is_declared_again() {
    let harness = Harness::new().await;
    let exchange = fanout(&harness).await;
    // On one connection, since RabbitMQ lets no other delete the queue.
    let operator = connect(url()).await;
    let queue = Queue { name: unique("private"), kind: QueueKind::Private };
    operator.declare_queue(&queue).await.unwrap();
    operator.delete_queue(&queue.name).await.unwrap();
    operator.declare_queue(&queue).await.unwrap();
    bind(&operator, &exchange, &queue.name).await;
    harness.broker.publish(message(&exchange, "", "for both")).await.unwrap();
    let mut consumer = operator.consume(&queue.name, 1).await.unwrap();
    assert_eq!(body(&next(&mut consumer).await), b"for both");
    // No other connection can use it, by either name.
    assert_eq!(harness.broker.waiting(&queue.name).await.unwrap(), None);
    operator.close().await;
    harness.clean_up().await;
}
