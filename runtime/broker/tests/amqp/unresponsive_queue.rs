//! A queue that the broker leaves unanswered, as RabbitMQ 3 does with a quorum queue that lost its leader in its first
//! second.

use std::time::Duration;

use broker::{Broker, ConsumeError, DeclareError, Queue, QueueKind};
use bytes::Bytes;
use tokio::time;

use crate::{
    loss::{Harness, body, message, next, soon},
    unique,
};

const QUORUM: QueueKind =
    QueueKind::Quorum { delivery_limit: None, dead_letter_to: None, single_active_consumer: false, expires: None };

fn queue(name: &str) -> Queue {
    Queue { name: name.to_owned(), kind: QUORUM }
}

#[tokio::test]
async fn an_unresponsive_queue_is_named_and_blocks_nothing_else() {
    let world = Harness::new().await;
    let silent = unique("silent");
    world.proxy.filter_queue(&silent);
    let asking = async {
        let wanted = queue(&silent);
        let declaring = world.broker.declare_queue(&wanted);
        futures::join!(declaring, world.broker.consume(&silent, 1), world.broker.waiting(&silent))
    };
    let working = async {
        for number in 0..20 {
            let other = unique("other");
            world.broker.declare_queue(&queue(&other)).await.unwrap();
            world.broker.publish(message("", &other, &number.to_string())).await.unwrap();
            world.direct.delete_queue(&other).await.unwrap();
        }
    };
    let ((declared, consumed, waiting), ()) = soon(async { futures::join!(asking, working) }).await;
    let declared = declared.unwrap_err();
    assert!(matches!(&declared, DeclareError::TimedOut { .. }), "{declared}");
    for said in [declared.to_string(), consumed.map(drop).unwrap_err().to_string(), waiting.unwrap_err().to_string()] {
        assert!(said.contains(&silent) && said.contains("rabbitmqctl delete_queue"), "{said}");
    }
    assert!(matches!(world.broker.consume(&unique("none"), 1).await.map(drop), Err(ConsumeError::NoQueue { .. })));
    world.clean().await;
}

#[tokio::test]
async fn an_unresponsive_queue_after_a_reconnect_blocks_nothing_else() {
    let world = Harness::new().await;
    let silent = unique("silent");
    world.broker.declare_queue(&queue(&silent)).await.unwrap();
    let mut of_silent = world.broker.consume(&silent, 1).await.unwrap();
    let mut consumer = world.broker.consume(&world.queue, 1).await.unwrap();
    world.proxy.filter_queue(&silent);
    world.proxy.cut();
    // Messages sent over the cut connection are not confirmed.
    while soon(world.broker.publish(message("", &world.queue, "through"))).await.is_err() {}
    let delivery = next(&mut consumer).await;
    assert_eq!(body(&delivery), b"through");
    delivery.accept();
    world.proxy.filter_queue("");
    world.direct.publish(message("", &silent, "late")).await.unwrap();
    let delivery = time::timeout(2 * Duration::from_secs(60), of_silent.next()).await.expect("it comes").unwrap();
    assert_eq!(delivery.message.body, Bytes::from_static(b"late"));
    delivery.accept();
    world.direct.delete_queue(&silent).await.unwrap();
    world.clean().await;
}
