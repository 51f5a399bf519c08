//! Tests watchers over a broker in memory, on which the tests publish what engines do.

use std::time::Duration;

use api::EventsQuery;
use broker::{InProcess, lossy::LossyConnection};
use flow::RunState;
use protocol::EngineSecret;

use super::{
    event::tests::{event, notification},
    watcher::Watchable,
    *,
};

/// Longer than events are kept without a watcher.
const LONG: Duration = Duration::from_secs(1_000);

/// Recent events over a broker and a logbook in memory.
struct Harness {
    server: InProcess,
    secret: EngineSecret,
    recent: RecentEvents,
    stop: CancellationToken,
}

impl Harness {
    async fn new() -> Self {
        let server = InProcess::new();
        let connection = Arc::new(server.connect());
        Self::over(server, connection).await
    }

    async fn over(server: InProcess, connection: Arc<dyn Broker>) -> Self {
        broker::topology::declare_shared(&server).await.unwrap();
        let logbook = Arc::new(logbook::Memory::new());
        let secret = logbook.secret().await.unwrap();
        let stop = CancellationToken::new();
        let recent = RecentEvents::new(connection, logbook, stop.clone());
        Self { server, secret, recent, stop }
    }

    /// Publishes that a run is in a state, as an engine of the logbook.
    async fn publish(&self, flow: &str, run: &str, state: RunState) {
        let mut message = notification(flow, run, state);
        message.properties.headers = [self.secret.notification_header(&message.body)].into();
        self.server.publish(message).await.unwrap();
    }

    async fn watch(&self, namespace: Option<&str>, query: EventsQuery, start: Start) -> Watcher {
        let namespace = namespace.map(|name| Namespace::new(name).unwrap());
        let filter = EventFilter::parse(&query).unwrap_or_else(|problem| panic!("{:?}", problem.into_document()));
        self.recent.watch(namespace, filter, start).await.unwrap()
    }

    /// Watches everything from now on.
    async fn watch_all(&self) -> Watcher {
        let mut watcher = self.watch(None, EventsQuery::default(), Start::Now).await;
        assert_eq!(next(&mut watcher).await.1, "position");
        watcher
    }
}

/// The id of what a watcher receives next, with the run of an event.
async fn next(watcher: &mut Watcher) -> (String, String) {
    let what = watcher.next().await.unwrap();
    let shown = match &what {
        Watchable::Event(_, event) => event.run.to_string(),
        Watchable::Lost(_) => "lost".to_owned(),
        Watchable::Position(_) => "position".to_owned(),
    };
    let (id, line) = what.into_parts();
    assert_eq!(line.is_none(), shown == "position");
    (id, shown)
}

/// The same, but for positions, which say that nothing happened.
async fn next_change(watcher: &mut Watcher) -> (String, String) {
    loop {
        let (id, shown) = next(watcher).await;
        if shown != "position" {
            return (id, shown);
        }
    }
}

fn after(id: &str) -> Start {
    Start::after(id).unwrap()
}

#[tokio::test(start_paused = true)]
async fn watchers_share_events_and_a_slow_one_delays_nobody() {
    let harness = Harness::new().await;
    let mut watchers = Vec::new();
    for _ in 0..200 {
        watchers.push(harness.watch_all().await);
    }
    let slow = watchers.pop();
    harness.publish("f", "r", RunState::Running).await;
    let mut received: Vec<Arc<RecentEvent>> = Vec::new();
    for watcher in &mut watchers {
        let Watchable::Event(_, event) = watcher.next().await.unwrap() else { panic!("it was published") };
        received.push(event);
    }
    assert!(received.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])), "it is in memory once");
    assert_eq!(*received[0], event("f", "r", RunState::Running));
    assert_eq!(next(&mut slow.unwrap()).await.1, "r");
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_comes_back_gets_what_it_missed_and_only_that() {
    let harness = Harness::new().await;
    let mut watcher = harness.watch(None, EventsQuery::default(), Start::Now).await;
    let (start, _) = next(&mut watcher).await;
    drop(watcher);
    for run in ["a", "b", "c"] {
        harness.publish("f", run, RunState::Success).await;
    }
    let mut again = harness.watch(None, EventsQuery::default(), after(&start)).await;
    let (id, run) = next_change(&mut again).await;
    assert_eq!((run.as_str(), next_change(&mut again).await.1.as_str()), ("a", "b"));
    let mut third = harness.watch(None, EventsQuery::default(), after(&id)).await;
    assert_eq!((next_change(&mut third).await.1.as_str(), next_change(&mut third).await.1.as_str()), ("b", "c"));
    let mut foreign = harness.watch(None, EventsQuery::default(), after("1-0")).await;
    let (id, lost) = next_change(&mut foreign).await;
    assert_eq!(lost, "lost", "the id is of another server");
    harness.publish("f", "d", RunState::Success).await;
    assert_eq!(next_change(&mut foreign).await.1, "d");
    let mut after_lost = harness.watch(None, EventsQuery::default(), after(&id)).await;
    assert_eq!(next_change(&mut after_lost).await.1, "d", "the event about lost ones has an id too");
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_namespace_sees_its_runs_and_a_filter_leaves_others_out() {
    let harness = Harness::new().await;
    let mut shop = harness.watch(Some("shop"), EventsQuery::default(), Start::Now).await;
    let mut failed = harness.watch(None, EventsQuery::default().state("failure"), Start::Now).await;
    for watcher in [&mut shop, &mut failed] {
        assert_eq!(next(watcher).await.1, "position");
    }
    for (flow, run, state) in [
        ("other/f", "a", RunState::Failure),
        ("f", "b", RunState::Running),
        ("shop/f", "c", RunState::Running),
        ("shop/f", "d", RunState::Failure),
    ] {
        harness.publish(flow, run, state).await;
    }
    assert_eq!((next(&mut shop).await.1.as_str(), next(&mut shop).await.1.as_str()), ("c", "d"));
    assert_eq!((next(&mut failed).await.1.as_str(), next(&mut failed).await.1.as_str()), ("a", "d"));
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_leaves_much_out_still_gets_positions() {
    let harness = Harness::new().await;
    let mut watcher = harness.watch(None, EventsQuery::default().flow("g"), Start::Now).await;
    let (start, _) = next(&mut watcher).await;
    for number in 0..1_500 {
        harness.publish("f", &format!("r{number}"), RunState::Running).await;
    }
    let (later, shown) = next(&mut watcher).await;
    assert_eq!(shown, "position");
    assert_ne!(start, later);
}

#[tokio::test(start_paused = true)]
async fn events_of_another_logbook_are_not_shown() {
    let harness = Harness::new().await;
    let mut watcher = harness.watch_all().await;
    harness.server.publish(notification("f", "foreign", RunState::Running)).await.unwrap();
    harness.publish("f", "own", RunState::Running).await;
    assert_eq!(next(&mut watcher).await.1, "own");
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_an_event() {
    let server = InProcess::new();
    let connection = LossyConnection::to(&server);
    let harness = Harness::over(server, Arc::new(connection.clone())).await;
    let mut watcher = harness.watch_all().await;
    harness.publish("f", "a", RunState::Running).await;
    assert_eq!(next(&mut watcher).await.1, "a");
    connection.drop_connection().await;
    assert_eq!(next(&mut watcher).await.1, "lost");
    harness.publish("f", "b", RunState::Running).await;
    assert_eq!(next(&mut watcher).await.1, "b");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_at_once_leaves_no_queue_without_a_consumer() {
    let server = InProcess::new();
    let connection = LossyConnection::to(&server);
    connection.set_slow(protocol::topology::RUNS, Duration::from_secs(2));
    let harness = Harness::over(server, Arc::new(connection)).await;
    let leaves = harness.recent.watch(None, EventFilter::default(), Start::Now);
    assert!(timeout(Duration::from_secs(1), leaves).await.is_err(), "the queue is not bound yet");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(*harness.recent.shared.is_receiving.lock().await, "the queue has a consumer");
    tokio::time::sleep(LONG).await;
    assert!(!*harness.recent.shared.is_receiving.lock().await, "nobody watches, so it is deleted");
}

#[tokio::test]
async fn a_server_notices_that_it_cannot_follow() {
    let harness = Harness::new().await;
    let (shared, broker) = (harness.recent.shared.clone(), harness.recent.broker.clone());
    let intake = Intake::open(shared, broker, harness.secret, harness.stop.clone()).await.unwrap();
    for _ in 0..intake::MAX_WAITING + u64::from(intake::PREFETCH) {
        harness.publish("f", "r", RunState::Running).await;
    }
    assert!(!intake.is_behind().await);
    harness.publish("f", "r", RunState::Running).await;
    assert!(intake.is_behind().await);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_received_while_nobody_watches_for_long() {
    let harness = Harness::new().await;
    let (id, _) = {
        let mut watcher = harness.watch(None, EventsQuery::default(), Start::Now).await;
        next(&mut watcher).await
    };
    tokio::time::sleep(LONG).await;
    assert!(!*harness.recent.shared.is_receiving.lock().await, "its queue is deleted");
    let mut again = harness.watch(None, EventsQuery::default(), after(&id)).await;
    assert_eq!(next(&mut again).await.1, "lost");
    harness.publish("f", "a", RunState::Running).await;
    assert_eq!(next(&mut again).await.1, "a");
    tokio::time::sleep(LONG).await;
    assert!(*harness.recent.shared.is_receiving.lock().await, "somebody watches");
    harness.stop.cancel();
}
