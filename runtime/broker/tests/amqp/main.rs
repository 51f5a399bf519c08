//! The contract over RabbitMQ, and the faults of a network.
//!
//! `WAFT_TEST_BROKER` names the broker: `amqp://guest:guest@127.0.0.1:5672/%2f`.

#![expect(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

mod connecting;
mod loss;
mod proxy;
mod unresponsive_queue;

use std::sync::Arc;

use async_trait::async_trait;
use broker::{Amqp, Broker, Options, contract::Connect};
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
