//! A queue about which the broker does not answer, as RabbitMQ 3 does with a quorum queue that lost its leader in its first
//! second.

use std::time::Duration;

use broker::{Broker, ConsumeError, DeclareError, Queue, QueueKind};
use bytes::Bytes;
use tokio::time;

use crate::{
    loss::{Harness, body, in_time, message, next},
    unique,
};

const QUORUM: QueueKind =
    QueueKind::Quorum { delivery_limit: None, dead_letter_to: None, single_active_consumer: false, expires: None };

fn queue(name: &str) -> Queue {
    Queue { name: name.to_owned(), kind: QUORUM }
}

#[tokio::test]
async fn an_unresponsive_queue_is_named_and_blocks_nothing_else() {
    let harness = Harness::new().await;
    let silent = unique("silent");
    harness.proxy.filter_queue(&silent);
    let unanswered = async {
        let declared = queue(&silent);
        let declare = harness.broker.declare_queue(&declared);
        futures::join!(declare, harness.broker.consume(&silent, 1), harness.broker.waiting(&silent))
    };
    let answered = async {
        for number in 0..20 {
            let other = unique("other");
            harness.broker.declare_queue(&queue(&other)).await.unwrap();
            harness.broker.publish(message("", &other, &number.to_string())).await.unwrap();
            harness.direct.delete_queue(&other).await.unwrap();
        }
    };
    let ((declared, consumed, waiting), ()) = in_time(async { futures::join!(unanswered, answered) }).await;
    let declared = declared.unwrap_err();
    assert!(matches!(&declared, DeclareError::TimedOut { .. }), "{declared}");
    for error in [declared.to_string(), consumed.map(drop).unwrap_err().to_string(), waiting.unwrap_err().to_string()] {
        assert!(error.contains(&silent) && error.contains("rabbitmqctl delete_queue"), "{error}");
    }
    assert!(matches!(harness.broker.consume(&unique("none"), 1).await.map(drop), Err(ConsumeError::NoQueue { .. })));
    harness.clean_up().await;
}

#[tokio::test]
async fn an_unresponsive_queue_after_a_reconnect_blocks_nothing_else() {
    let harness = Harness::new().await;
    let silent = unique("silent");
    harness.broker.declare_queue(&queue(&silent)).await.unwrap();
    let mut silent_consumer = harness.broker.consume(&silent, 1).await.unwrap();
    let mut consumer = harness.broker.consume(&harness.queue, 1).await.unwrap();
    harness.proxy.filter_queue(&silent);
    harness.proxy.cut();
    // Messages sent over the cut connection are not confirmed.
    while in_time(harness.broker.publish(message("", &harness.queue, "through"))).await.is_err() {}
    let delivery = next(&mut consumer).await;
    assert_eq!(body(&delivery), b"through");
    delivery.accept();
    harness.proxy.filter_queue("");
    harness.direct.publish(message("", &silent, "late")).await.unwrap();
    let delivery = time::timeout(2 * Duration::from_secs(60), silent_consumer.next())
        .await
        .expect("the consumer resumes")
        .unwrap();
    assert_eq!(delivery.message.body, Bytes::from_static(b"late"));
    delivery.accept();
    harness.direct.delete_queue(&silent).await.unwrap();
    harness.clean_up().await;
}
