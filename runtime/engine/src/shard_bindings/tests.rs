//! Tests of bindings that are made and removed at the same time.

use std::{collections::BTreeMap, time::Duration};

use broker::{
    InProcess, Message, Properties, PublishError, Queue, QueueKind, Routing, lossy::LossyConnection,
    topology::declare_shared,
};
use flow::Values;

use super::*;

struct World {
    connection: LossyConnection,
    bindings: ShardBindings,
    flow: Flow,
    shard: Shard,
    exchange: String,
}

impl World {
    /// A shard, and a flow that listens to one task.
    async fn new() -> Self {
        let connection = LossyConnection::to(&InProcess::new());
        declare_shared(&connection).await.unwrap();
        let shard: Shard = "0".parse().unwrap();
        let queue = Queue { name: names::shard_queue(&shard), kind: QueueKind::Exclusive };
        connection.declare_queue(&queue).await.unwrap();
        let text = "name = \"l\"\n[[task]]\nname = \"w\"\nwait = \"a word\"\n\
                    [[listen]]\nflow = \"f\"\ntask = \"a\"\nto = \"w\"\n";
        let draft = flow::file::parse(text).unwrap();
        let (flow, _) = flow::wire(&draft, &BTreeMap::new(), &Values::new()).unwrap();
        let (source, task) = ("f".parse().unwrap(), "a".parse().unwrap());
        topology::declare_task(&connection, &source, &task).await.unwrap();
        let (bindings, exchange) =
            (ShardBindings::new(Arc::new(connection.clone())), names::task_exchange(&source, &task));
        Self { connection, bindings, flow, shard, exchange }
    }

    fn missing(&self) -> Vec<MissingBinding> {
        self.bindings.missing(&self.flow, &self.shard)
    }

    async fn bind(&self) {
        for missing in self.missing() {
            self.bindings.bind(&missing).await.unwrap();
        }
    }

    async fn is_bound(&self) -> bool {
        let message = Message {
            exchange: self.exchange.clone(),
            key: "f.a.1.success".into(),
            routing: Routing::Mandatory,
            persistent: false,
            priority: 0,
            properties: Properties::default(),
            body: Vec::new().into(),
        };
        !matches!(self.connection.publish(message).await, Err(PublishError::Unroutable { .. }))
    }
}

#[tokio::test]
async fn a_binding_is_missing_until_it_is_made_and_once_it_is_removed() {
    let world = World::new().await;
    assert_eq!(world.missing().len(), 1);
    world.bind().await;
    assert!(world.missing().is_empty() && world.is_bound().await);
    let unbinding = world.bindings.start_unbind(&world.exchange, &world.shard).expect("nothing else is under way");
    assert_eq!(world.missing().len(), 1, "it is about to be removed");
    unbinding.await.unwrap();
    assert!(!world.is_bound().await);
}

#[tokio::test(start_paused = true)]
async fn a_binding_is_made_after_its_removal_has_ended() {
    let world = World::new().await;
    world.bind().await;
    world.connection.set_slow(&world.exchange, Duration::from_secs(10));
    let unbinding = world.bindings.start_unbind(&world.exchange, &world.shard).expect("nothing else is under way");
    // The shard is released, and driven here again before the broker has answered.
    world.bindings.forget(&world.shard);
    let binding = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.connection.set_slow(&world.exchange, Duration::ZERO);
        world.bind().await;
    };
    let (unbound, ()) = tokio::join!(unbinding, binding);
    unbound.unwrap();
    assert!(world.missing().is_empty() && world.is_bound().await);
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_is_being_made_is_not_removed() {
    let world = World::new().await;
    world.connection.set_slow(&world.exchange, Duration::from_secs(10));
    let unbind = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.bindings.start_unbind(&world.exchange, &world.shard).is_some()
    };
    let ((), is_started) = tokio::join!(world.bind(), unbind);
    assert!(!is_started && world.is_bound().await);
}

#[tokio::test(start_paused = true)]
async fn a_binding_from_before_its_shard_was_released_does_not_count() {
    let world = World::new().await;
    world.connection.set_slow(&world.exchange, Duration::from_secs(10));
    let release = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.bindings.forget(&world.shard);
    };
    tokio::join!(world.bind(), release);
    assert_eq!(world.missing().len(), 1, "another engine may have removed it since");
    world.bind().await;
    assert!(world.missing().is_empty());
}
