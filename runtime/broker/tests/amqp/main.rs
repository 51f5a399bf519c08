//! The contract over RabbitMQ, and the faults of a network.
//!
//! `WAFT_TEST_BROKER` names the broker: `amqp://guest:guest@127.0.0.1:5672/%2f`.

#![expect(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

mod connecting;
mod foreign_queues;
mod loss;
mod proxy;
mod unresponsive_queue;

use std::sync::Arc;

use async_trait::async_trait;
use broker::{
    Amqp, Broker, ConsumeError, Message, Options, Queue, QueueKind,
    contract::{Connect, Harness},
};
use uuid::Uuid;

/// The broker for the tests. A test without one fails: an untested rule must not pass.
fn url() -> String {
    std::env::var("WAFT_TEST_BROKER").expect("set WAFT_TEST_BROKER, or run `cargo xtask test`, which starts a RabbitMQ")
}

async fn connect(url: impl Into<String>) -> Amqp {
    let options = Options { name: "waft-test".to_owned(), ..Options::new(url) };
    Amqp::connect(options).await.expect("the broker answers")
}

/// A name that no other test and no other test run uses.
fn unique(base: &str) -> String {
    format!("waft-test.{}.{base}", Uuid::now_v7())
}

/// The broker of [`url`], which all tests share.
struct Rabbit;

#[async_trait]
impl Connect for Rabbit {
    async fn connect(&self) -> Arc<dyn Broker> {
        Arc::new(connect(url()).await)
    }

    fn unique(&self, base: &str) -> String {
        unique(base)
    }
}

mod contract {
    use super::Rabbit;

    broker::contract_tests!(Rabbit);
}

/// A prefetch count limits the messages in memory, and not their size.
#[tokio::test]
async fn the_filter_stops_messages_while_the_consumer_takes_none() {
    let harness = Harness::new(Rabbit).await;
    let (exchange, dead_letters) = harness.dead_letters().await;
    let kind = QueueKind::Quorum {
        delivery_limit: None,
        dead_letter_to: Some(exchange),
        single_active_consumer: false,
        expires: None,
    };
    let queue = harness.queue("queue", kind).await;
    let filter = Arc::new(|message: &Message| message.body.len() <= 3);
    let mut consumer = harness.broker.consume_filtered(&queue, 2, filter).await.unwrap();
    for body in ["one", "too long", "longer", "two"] {
        harness.send(&queue, body).await;
    }
    let mut stopped = harness.consume(&dead_letters, 2).await;
    for expected in ["too long", "longer"] {
        assert_eq!(loss::body(&loss::next(&mut stopped).await), expected.as_bytes());
    }
    for expected in ["one", "two"] {
        assert_eq!(loss::body(&loss::next(&mut consumer).await), expected.as_bytes());
    }
    drop((consumer, stopped));
    harness.clean_up().await;
}

/// Otherwise a connection with many consumers could neither declare nor publish any more.
#[tokio::test]
async fn consumers_leave_channels_for_everything_else() {
    let broker = connect(url()).await;
    let queue = Queue { name: unique("queue"), kind: QueueKind::Exclusive };
    broker.declare_queue(&queue).await.unwrap();
    let mut consumers = Vec::new();
    let error = loop {
        match broker.consume(&queue.name, 1).await {
            Ok(consumer) => consumers.push(consumer),
            Err(error) => break error,
        }
        // RabbitMQ grants 2,047 channels unless it is configured otherwise.
        assert!(consumers.len() < 3_000, "the broker has no maximum that can be reached");
    };
    let ConsumeError::Refused { reason, .. } = &error else { panic!("{error}") };
    assert!(reason.contains("channel_max"), "{reason}");
    let other = Queue { name: unique("other"), kind: QueueKind::Exclusive };
    broker.declare_queue(&other).await.expect("operations have channels");
    assert_eq!(broker.consumers(&queue.name).await.unwrap(), Some(consumers.len() as u64), "no connection was lost");
    // A consumer that ends makes room for another.
    drop(consumers.pop());
    let again = async {
        while broker.consume(&other.name, 1).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), again).await.expect("there is room");
    broker.close().await;
}
