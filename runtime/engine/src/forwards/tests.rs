//! Tests which waiting notifications a batch gets, and when a notification is accepted.

use broker::{Broker, Consumer, InProcess, Message, Properties, Queue, QueueKind, Routing};

use super::*;

/// A queue of notifications, and the notifications of it that wait.
struct World {
    broker: InProcess,
    consumer: Consumer,
    forwards: Forwards,
}

impl World {
    async fn new() -> Self {
        let broker = InProcess::new();
        let queue = Queue { name: "q".into(), kind: QueueKind::Exclusive };
        broker.declare_queue(&queue).await.expect("it is new");
        let consumer = broker.consume("q", 1_000).await.expect("the queue exists");
        Self { broker, consumer, forwards: Forwards::default() }
    }

    /// Adds a notification of a task `t`. Returns whether it waits.
    async fn add(&mut self, flow: &str, runs: &[&str], pace: Pace) -> bool {
        let body = format!(
            r#"{{"event":"state","run":"r","flow":"{flow}","kind":"task","name":"t","state":"success","firing":1,"attempt":1,"at":"2026-11-24T21:13:42.344792Z"}}"#
        );
        let message = Message {
            exchange: String::new(),
            key: "q".into(),
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties: Properties::default(),
            body: body.into(),
        };
        self.broker.publish(message).await.expect("the queue exists");
        let delivery = self.consumer.next().await.expect("it was published");
        let name = "a valid name";
        let listened = ("0".parse().expect(name), flow.parse().expect(name), "t".parse().expect(name));
        let runs = Arc::new(runs.iter().map(|run| run.parse().expect(name)).collect());
        match self.forwards.add(Forward { listened, runs, pace, delivery }) {
            None => true,
            Some(delivery) => {
                delivery.accept();
                false
            }
        }
    }

    /// Takes the copies that are due now, at most `most`, and accepts them. Returns their flows and runs.
    fn take(&mut self, most: usize) -> Vec<String> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(copy) = self.forwards.take(Instant::now())
        {
            assert_eq!(copy.notification.key, "r/t/1/1/success");
            assert_eq!(messages::listener_of(&copy.delivery.message), Some(copy.run.clone()));
            taken.push(format!("{} {}", copy.listened.1, copy.run));
            copy.delivery.accept();
        }
        taken
    }

    /// The number of messages that the broker would deliver again.
    fn unsettled(&self) -> usize {
        self.broker.messages().len()
    }
}

#[tokio::test]
async fn a_notification_is_accepted_once_each_run_has_its_copy() {
    let mut world = World::new().await;
    assert!(world.add("f", &["a", "b", "c"], Pace::Full).await);
    assert_eq!(world.take(2), ["f a", "f b"]);
    assert_eq!((world.unsettled(), world.forwards.are_taken(1)), (1, false));
    assert_eq!(world.take(9), ["f c"]);
    assert_eq!((world.unsettled(), world.forwards.are_taken(1)), (0, true));
    assert_eq!(world.forwards.next_due(Instant::now()), None);
}

#[tokio::test]
async fn a_copy_of_which_a_part_is_left_comes_first_and_is_not_taken() {
    let mut world = World::new().await;
    assert!(world.add("f", &["a", "b"], Pace::Full).await);
    let copy = world.forwards.take(Instant::now()).expect("it waits");
    assert_eq!(copy.part, NotificationPart::First);
    world.forwards.put_back(copy);
    assert_eq!(world.take(1), ["f a"]);
    assert_eq!(world.unsettled(), 1);
    let copy = world.forwards.take(Instant::now()).expect("another run listens");
    world.forwards.put_back(copy);
    assert!(!world.forwards.are_taken(1));
    assert_eq!(world.take(9), ["f b"]);
    assert_eq!((world.unsettled(), world.forwards.are_taken(1)), (0, true));
}

#[tokio::test]
async fn a_returned_copy_returns_the_notification() {
    let mut world = World::new().await;
    world.add("f", &["a", "b", "c"], Pace::Full).await;
    let copy = world.forwards.take(Instant::now()).expect("it waits");
    copy.delivery.requeue();
    assert!(world.take(9).is_empty(), "the broker delivers it again");
    let again = world.consumer.next().await.expect("it is delivered again");
    assert!(again.redelivered);
    world.add("f", &["a"], Pace::Full).await;
    world.forwards.drop_shard(&"0".parse().expect("a valid name"));
    assert!(world.consumer.next().await.expect("it is delivered again").redelivered, "its shard is driven elsewhere");
}

#[tokio::test]
async fn namespaces_and_flows_take_turns() {
    let mut world = World::new().await;
    let many: Vec<String> = (100..200).map(|run| run.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for flow in ["big/f", "big/f", "big/g"] {
        world.add(flow, &many, Pace::Full).await;
    }
    world.take(4);
    world.add("small/f", &["a", "b"], Pace::Full).await;
    let taken = world.take(10);
    assert_eq!(taken.iter().position(|copy| copy == "small/f b"), Some(3), "{taken:?}");
    let taken = world.take(16);
    assert!(["big/f", "big/g"].iter().all(|flow| taken.iter().any(|copy| copy.starts_with(flow))), "{taken:?}");
    let rest = world.take(1_000);
    assert_eq!(rest.len(), 302 - 4 - 10 - 16);
    assert_eq!(rest.last().map(String::as_str), Some("big/f 199"));
}

#[tokio::test(start_paused = true)]
async fn notifications_of_empty_firings_are_few_and_slow() {
    let mut world = World::new().await;
    let many: Vec<String> = (100..200).map(|run| run.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for accepted in [true, true, false, false] {
        assert_eq!(world.add("f", &many, Pace::EmptyFirings).await, accepted);
    }
    assert_eq!(world.unsettled(), 2, "the others are dropped");
    world.add("f", &["a", "b"], Pace::Full).await;
    let flow = "f".parse().expect("a valid name");
    for _ in 0..200 {
        let now = Instant::now();
        loop {
            let copy = world.forwards.take(now).expect("one is due");
            copy.delivery.accept();
            if copy.pace == Pace::EmptyFirings {
                break;
            }
        }
        world.forwards.on_firings(&flow, Pace::EmptyFirings, 4, now);
        world.take(100);
        assert_ne!(world.forwards.next_due(now), Some(Duration::ZERO), "the others have had their turn");
        tokio::time::advance(4 * EMPTY_FIRING_DELAY).await;
    }
    assert_eq!(world.unsettled(), 0);
    assert_eq!(world.forwards.next_due(Instant::now()), None);
}
