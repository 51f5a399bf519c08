//! The suite that defines the meaning of [`Broker`], run over every implementation.
//!
//! Each rule is a function in one of the files below, and receives a [`Harness`]: connections to one broker, and names that
//! no other test uses. [`contract_tests!`](crate::contract_tests) creates a test for each rule.

pub mod consume;
pub mod declare;
pub mod publish;
pub mod route;
pub mod settle;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time;

use crate::{
    Binding, Broker, Consumer, Delivery, Destination, Exchange, ExchangeKind, Message, Properties, Queue, QueueKind,
    Routing,
};

/// The time limit for an expected event. Only a failing test waits that long.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Opens connections to the broker under test.
#[async_trait]
pub trait Connect: Send + Sync {
    /// One more connection to the same broker.
    async fn connect(&self) -> Arc<dyn Broker>;
    /// A name that no other test uses, derived from `base`.
    fn unique(&self, base: &str) -> String;
}

/// The environment of a rule.
pub struct Harness {
    connect: Box<dyn Connect>,
    /// The first connection.
    pub broker: Arc<dyn Broker>,
    queues: Mutex<Vec<String>>,
}

impl Harness {
    /// A harness on this broker.
    pub async fn new(connect: impl Connect + 'static) -> Self {
        let broker = connect.connect().await;
        Self { connect: Box::new(connect), broker, queues: Mutex::default() }
    }

    /// One more connection to the same broker.
    pub async fn another(&self) -> Arc<dyn Broker> {
        self.connect.connect().await
    }

    /// A name that no other test uses.
    pub fn unique(&self, base: &str) -> String {
        self.connect.unique(base)
    }

    /// Deletes the queues that the rule declared, since a long-lived broker keeps them.
    pub async fn clean_up(self) {
        let queues = std::mem::take(&mut *self.queues.lock().unwrap_or_else(PoisonError::into_inner));
        let broker = self.another().await;
        for queue in queues {
            // An exclusive queue was deleted with its connection, or belongs to another connection.
            let _ = broker.delete_queue(&queue).await;
        }
        broker.close().await;
        self.broker.close().await;
    }

    /// Declares a queue with a unique name.
    pub async fn queue(&self, base: &str, kind: QueueKind) -> String {
        let name = self.name_queue(base);
        let queue = Queue { name: name.clone(), kind };
        self.broker.declare_queue(&queue).await.expect("a new queue can be declared");
        name
    }

    /// A unique name for a queue that the rule declares itself.
    pub fn name_queue(&self, base: &str) -> String {
        let name = self.unique(base);
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        name
    }

    /// Declares an exchange with a unique name.
    pub async fn exchange(&self, base: &str, kind: ExchangeKind) -> String {
        let name = self.unique(base);
        let exchange = Exchange { name: name.clone(), kind };
        self.broker.declare_exchange(&exchange).await.expect("a new exchange can be declared");
        name
    }

    /// Declares an exchange for dead letters, and the queue that it leads to.
    pub async fn dead_letters(&self) -> (String, String) {
        let exchange = self.exchange("dead-letters", ExchangeKind::Fanout).await;
        let queue = self.queue("dead-letters", quorum()).await;
        self.bind(&exchange, "", &queue).await;
        (exchange, queue)
    }

    /// Binds a queue.
    pub async fn bind(&self, exchange: &str, key: &str, queue: &str) {
        let result = self.broker.bind(&to_queue(exchange, key, queue)).await;
        result.expect("the exchange and the queue exist");
    }

    /// Publishes directly to a queue.
    pub async fn send(&self, queue: &str, body: &str) {
        let result = self.broker.publish(message("", queue, body)).await;
        result.expect("an existing queue accepts messages");
    }

    /// Consumes on the first connection.
    pub async fn consume(&self, queue: &str, prefetch: u16) -> Consumer {
        self.broker.consume(queue, prefetch).await.expect("an existing queue can be consumed")
    }

    /// The number of messages that wait in an existing queue.
    pub async fn waiting(&self, queue: &str) -> u64 {
        let waiting = self.broker.waiting(queue).await.expect("the queue is not exclusive to another connection");
        waiting.expect("the queue is there")
    }
}

/// A quorum queue with default options.
pub(crate) const fn quorum() -> QueueKind {
    QueueKind::Quorum { delivery_limit: None, dead_letter_to: None, single_active_consumer: false, expires: None }
}

/// A binding to a queue.
pub(crate) fn to_queue(exchange: &str, key: &str, queue: &str) -> Binding {
    let to = Destination::Queue(queue.to_owned());
    Binding { exchange: exchange.to_owned(), key: key.to_owned(), to }
}

/// A mandatory message.
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

/// The next delivery, which must arrive.
pub(crate) async fn next(consumer: &mut Consumer) -> Delivery {
    within_timeout(consumer.next()).await.expect("the consumer has not ended")
}

/// The body of the next delivery, which is accepted.
pub(crate) async fn take(consumer: &mut Consumer) -> String {
    let delivery = next(consumer).await;
    let body = body(&delivery);
    delivery.accept();
    body
}

/// Waits until the consumer has ended; no delivery may arrive before.
pub(crate) async fn end(consumer: &mut Consumer) {
    let last = within_timeout(consumer.next()).await;
    assert!(last.is_none(), "a consumer that must end received another delivery");
}

pub(crate) fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body.to_vec()).expect("these rules send text")
}

async fn within_timeout<T>(future: impl Future<Output = T>) -> T {
    time::timeout(TEST_TIMEOUT, future).await.expect("the expected event happens in time")
}

/// Creates a test for each rule. It takes an expression for a [`Connect`]; the caller depends on `tokio`.
#[macro_export]
macro_rules! contract_tests {
    ($connect:expr) => {
        $crate::contract_tests! { @file $connect, declare:
            exchanges_and_queues_may_be_declared_repeatedly,
            an_exchange_of_another_kind_differs,
            a_queue_of_another_kind_differs,
            a_binding_needs_both_ends,
            unbinding_a_missing_binding_succeeds,
            an_unbound_queue_receives_nothing_more,
            deleting_a_missing_queue_succeeds,
            a_deleted_queue_loses_its_messages_and_bindings,
            an_exclusive_queue_rejects_other_connections,
            each_connection_has_private_queues_of_its_own,
            an_exclusive_queue_is_deleted_with_its_connection,
            a_transient_queue_is_shared,
            a_bounded_queue_keeps_the_newest_messages,
            a_full_queue_drops_the_oldest_messages,
            an_unused_queue_expires,
            waiting_counts_undelivered_messages,
            consumers_are_counted,
            a_closed_broker_rejects_everything,
        }
        $crate::contract_tests! { @file $connect, publish:
            a_confirmed_message_is_in_its_queue,
            a_mandatory_message_without_a_queue_is_unroutable,
            an_optional_message_may_have_no_queue,
            only_the_unroutable_of_many_messages_fail,
            publishing_to_a_missing_exchange_affects_no_other_message,
            messages_keep_their_order,
            all_message_properties_arrive,
            empty_and_large_bodies_arrive_unchanged,
            a_message_that_amqp_cannot_carry_is_too_large,
            a_priority_loses_no_message,
            a_publish_may_be_cancelled,
        }
        $crate::contract_tests! { @file $connect, route:
            a_direct_exchange_matches_the_exact_key,
            a_topic_exchange_matches_patterns,
            a_fanout_exchange_reaches_every_queue,
            the_default_exchange_routes_by_queue_name,
            a_bound_exchange_receives_messages,
            a_queue_bound_twice_gets_a_message_once,
        }
        $crate::contract_tests! { @file $connect, consume:
            consuming_a_missing_queue_fails,
            prefetch_limits_unsettled_deliveries,
            a_prefetch_of_zero_is_one,
            consumers_share_a_queue,
            a_single_active_consumer_receives_everything_until_it_ends,
            a_cancelled_consumer_returns_fetched_deliveries,
            a_dropped_consumer_returns_fetched_deliveries,
            a_drained_consumer_returns_its_deliveries,
            a_delivery_can_be_settled_after_its_consumer_was_cancelled,
            a_deleted_queue_ends_its_consumers,
            a_closed_connection_ends_its_consumers,
            a_closed_connection_returns_unsettled_deliveries,
            try_next_returns_a_fetched_delivery,
            messages_are_taken_within_limits,
            nothing_is_taken_from_a_missing_queue,
        }
        $crate::contract_tests! { @file $connect, settle:
            a_first_delivery_is_not_redelivered,
            an_accepted_message_is_never_redelivered,
            a_requeued_message_is_redelivered,
            a_requeued_message_is_not_accepted_with_later_ones,
            a_dropped_delivery_is_redelivered,
            a_returned_message_keeps_its_position,
            without_a_limit_a_message_is_redelivered_forever,
            a_rejected_message_is_dead_lettered,
            a_message_that_the_filter_stops_is_dead_lettered,
            a_transient_message_that_the_filter_stops_is_dropped,
            a_message_beyond_its_delivery_limit_is_dead_lettered,
            a_message_without_a_dead_letter_queue_is_dropped,
            a_delivery_can_be_settled_anywhere,
        }
    };
    (@file $connect:expr, $file:ident: $($rule:ident,)*) => {
        mod $file {
            #[expect(unused_imports, reason = "the expression may name anything its caller can name")]
            use super::*;

            $(
                #[tokio::test]
                async fn $rule() {
                    let harness = $crate::contract::Harness::new($connect).await;
                    $crate::contract::$file::$rule(&harness).await;
                    harness.clean_up().await;
                }
            )*
        }
    };
}
