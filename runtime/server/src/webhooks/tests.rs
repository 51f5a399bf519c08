//! Tests webhooks over a broker in memory, against a server on loopback that notes what it gets.

mod hostile;

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use api::EventsQuery;
use broker::{InProcess, Message, Properties, Routing};
use flow::{RunState, Timestamp};
use protocol::EngineSecret;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{
    config::{WebhookSettings, tests::settings},
    *,
};
use crate::recent_events::event::tests::sealed_notification;

/// The answers of a server: a body gives a status.
type Answers = Box<dyn FnMut(&str) -> u16 + Send>;

/// A server that gets events. It answers with the next of its statuses, and then with 200.
struct Receiver {
    address: SocketAddr,
    statuses: Arc<Mutex<VecDeque<u16>>>,
    /// The requests: heads in lower case, and bodies.
    requests: mpsc::UnboundedReceiver<(String, String)>,
}

impl Receiver {
    async fn start(statuses: &[u16]) -> Self {
        let statuses = Arc::new(Mutex::new(VecDeque::from(statuses.to_vec())));
        let left = statuses.clone();
        let next = move |_: &str| left.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(200);
        Self { statuses, ..Self::answering(Box::new(next)).await }
    }

    async fn answering(mut answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, received) = mpsc::unbounded_channel();
        TaskTracker::new().spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = request_of(&mut stream).await;
                answer(&mut stream, answers(&request.1)).await;
                // The test may have ended.
                drop(requests.send(request));
            }
        });
        Self { address, statuses: Arc::default(), requests: received }
    }

    fn url(&self) -> String {
        format!("http://{}/hidden?token=hidden", self.address)
    }

    async fn next(&mut self) -> (String, String) {
        self.requests.recv().await.unwrap()
    }
}

/// The head of a request in lower case, and its body; both are empty if the other end has left.
async fn request_of(stream: &mut TcpStream) -> (String, String) {
    let (mut bytes, mut text) = ([0; 4_096], String::new());
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && body.len() >= content_length(head)
        {
            return (head.to_lowercase(), body.to_owned());
        }
        match stream.read(&mut bytes).await {
            Ok(count @ 1..) => text.push_str(std::str::from_utf8(&bytes[..count]).unwrap()),
            Ok(0) | Err(_) => return (String::new(), String::new()),
        }
    }
}

async fn answer(stream: &mut TcpStream, status: u16) {
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    // The other end may have left.
    drop(stream.write_all(answer.as_bytes()).await);
}

fn content_length(head: &str) -> usize {
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:").map(str::to_owned));
    length.map_or(0, |length| length.trim().parse().unwrap())
}

/// A broker and a logbook, which outlive the webhooks over them.
struct Harness {
    server: InProcess,
    broker: Arc<dyn Broker>,
    logbook: Arc<dyn Logbook>,
    secret: EngineSecret,
}

impl Harness {
    async fn new() -> Self {
        let server = InProcess::new();
        broker::topology::declare_shared(&server).await.unwrap();
        let logbook: Arc<dyn Logbook> = Arc::new(logbook::Memory::new());
        let secret = logbook.secret().await.unwrap();
        Self { broker: Arc::new(server.connect()), server, logbook, secret }
    }

    /// Starts a webhook, and waits until it gets what is published.
    async fn start(&self, settings: WebhookSettings, stop: &CancellationToken) -> Webhooks {
        let webhook = Webhook::new(settings).unwrap();
        let queue = topology::webhook_dropped_queue(&self.secret, webhook.name());
        let webhooks = Webhooks::start(vec![webhook], &self.broker, &self.logbook, stop, &TaskTracker::new());
        // It is consumed last.
        while self.broker.consumers(&queue).await.unwrap() != Some(1) {
            tokio::task::yield_now().await;
        }
        webhooks
    }

    async fn publish(&self, run: &str, state: RunState, since: Timestamp) {
        self.publish_of("shop/f", run, state, since).await;
    }

    async fn publish_of(&self, flow: &str, run: &str, state: RunState, since: Timestamp) {
        let message = sealed_notification(flow, run, (state, since), &self.secret);
        self.server.publish(message).await.unwrap();
    }
}

fn now() -> Timestamp {
    Timestamp::from_micros(u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap())
}

/// A webhook that may reach this machine.
fn local(receiver: &Receiver) -> WebhookSettings {
    WebhookSettings { networks: vec!["127.0.0.0/8".parse().unwrap()], ..settings(&receiver.url()) }
}

fn header<'h>(head: &'h str, name: &str) -> &'h str {
    let value = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.unwrap_or_else(|| panic!("{name}: {head}"))
}

#[tokio::test]
async fn an_event_that_the_webhook_wants_is_posted_once_with_a_signature() {
    let (harness, mut receiver, stop) = (Harness::new().await, Receiver::start(&[]).await, CancellationToken::new());
    let events = EventsQuery::default().state("failure,rolled-back");
    let webhooks = harness.start(WebhookSettings { events, ..local(&receiver) }, &stop).await;
    harness.publish("a", RunState::Running, now()).await;
    harness.publish("b", RunState::Failure, now()).await;
    harness.publish("c", RunState::RolledBack, now()).await;
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let (head, body) = receiver.next().await;
        assert!(head.starts_with("post /hidden?token=hidden http/1.1"), "{head}");
        assert!(header(&head, "webhook-signature").starts_with("v1,") && header(&head, "webhook-id").len() == 36);
        bodies.push(body);
    }
    bodies.sort();
    assert!(bodies[0].contains(r#""run":"b""#) && bodies[1].contains(r#""run":"c""#), "{bodies:?}");
    let served = webhooks.get("pager").unwrap();
    while webhooks.shown(served).await.delivered < 2 {
        tokio::task::yield_now().await;
    }
    let shown = webhooks.shown(served).await;
    assert_eq!((shown.waiting, shown.failed, shown.deliveries.len()), (Some(0), 0, 2));
    assert!(!shown.url.contains("hidden"), "{}", shown.url);
    stop.cancel();
}

#[tokio::test]
async fn an_event_is_sent_again_until_it_is_accepted() {
    let (harness, mut receiver, stop) = (Harness::new().await, Receiver::start(&[500]).await, CancellationToken::new());
    let webhooks = harness.start(local(&receiver), &stop).await;
    harness.publish("a", RunState::Failure, now()).await;
    let (first, second) = (receiver.next().await, receiver.next().await);
    assert_eq!(header(&first.0, "webhook-id"), header(&second.0, "webhook-id"));
    assert_eq!(first.1, second.1);
    let served = webhooks.get("pager").unwrap();
    while webhooks.shown(served).await.delivered == 0 {
        tokio::task::yield_now().await;
    }
    let Entries { failed, tries, .. } = served.journal.entries();
    assert_eq!((failed, tries[1].status, tries[0].attempt), (1, Some(500), 2));
    stop.cancel();
}

#[tokio::test]
async fn events_that_are_refused_hold_up_no_others() {
    let refuses = |body: &str| if body.contains(r#""state":"failure""#) { 500 } else { 200 };
    let (receiver, stop) = (Receiver::answering(Box::new(refuses)).await, CancellationToken::new());
    let harness = Harness::new().await;
    let webhooks = harness.start(local(&receiver), &stop).await;
    for number in 0..2 * sender::MAX_REQUESTS {
        harness.publish(&format!("r{number}"), RunState::Failure, now()).await;
    }
    harness.publish("good", RunState::Success, now()).await;
    let served = webhooks.get("pager").unwrap();
    while webhooks.shown(served).await.delivered == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(webhooks.shown(served).await.given_up, 0);
    stop.cancel();
}

/// Whoever submits flows chooses texts that the server of a webhook refuses.
#[tokio::test]
async fn refused_events_of_a_namespace_leave_places_to_others() {
    let refuses = |body: &str| if body.contains("shop/f") { 400 } else { 200 };
    let (mut receiver, stop) = (Receiver::answering(Box::new(refuses)).await, CancellationToken::new());
    let harness = Harness::new().await;
    let webhooks = harness.start(local(&receiver), &stop).await;
    // Many more than are held at the same time, before one of another namespace.
    for number in 0..100 {
        harness.publish(&format!("r{number}"), RunState::Failure, now()).await;
    }
    harness.publish_of("bank/f", "good", RunState::Success, now()).await;
    let delivered = async { while !receiver.next().await.1.contains("bank/f") {} };
    assert!(tokio::time::timeout(Duration::from_secs(60), delivered).await.is_ok(), "it is delivered");
    assert!(webhooks.get("pager").unwrap().journal.entries().given_up > 0);
    stop.cancel();
}

/// A server with a wrong secret, or behind a proxy that is broken, refuses all events for a while.
#[tokio::test]
async fn a_server_that_accepts_nothing_for_a_while_loses_no_event() {
    // The first try of all that are held fails, and the second one of some.
    const EVENTS: u64 = 40;
    let statuses: Vec<u16> = [400, 500, 502].into_iter().cycle().take(48).collect();
    let harness = Harness::new().await;
    let (receiver, stop) = (Receiver::start(&statuses).await, CancellationToken::new());
    let webhooks = harness.start(local(&receiver), &stop).await;
    for number in 0..EVENTS {
        harness.publish(&format!("r{number}"), RunState::Failure, now()).await;
    }
    let served = webhooks.get("pager").unwrap();
    let (mut delivered, mut requests) = (BTreeSet::new(), 0);
    let mut requests_of_server = receiver.requests;
    while (delivered.len() as u64) < EVENTS {
        let (_, body) = requests_of_server.recv().await.unwrap();
        requests += 1;
        // Probes are no events of a run.
        if requests > statuses.len() && body.contains(r#""run":"#) {
            delivered.insert(body);
        }
        assert_eq!(served.journal.entries().given_up, 0);
    }
    stop.cancel();
}

/// A text may kill the server behind a proxy, which answers 502 then.
#[tokio::test]
async fn events_that_the_server_fails_with_leave_places_to_others() {
    let fails = |body: &str| if body.contains("shop/f") { 502 } else { 200 };
    let (mut receiver, stop) = (Receiver::answering(Box::new(fails)).await, CancellationToken::new());
    let harness = Harness::new().await;
    let webhooks = harness.start(local(&receiver), &stop).await;
    // More than are held at the same time, before one of another namespace.
    for number in 0..40 {
        harness.publish(&format!("r{number}"), RunState::Failure, now()).await;
    }
    harness.publish_of("bank/f", "good", RunState::Success, now()).await;
    let delivered = async { while !receiver.next().await.1.contains("bank/f") {} };
    assert!(tokio::time::timeout(Duration::from_secs(60), delivered).await.is_ok(), "it is delivered");
    let given_up = webhooks.get("pager").unwrap().journal.entries().given_up;
    assert!((1..=40 - 16).contains(&given_up), "{given_up}: some have places");
    stop.cancel();
}

#[tokio::test]
async fn an_event_is_given_up_at_once_if_its_server_wants_none_any_more() {
    let (harness, mut receiver, stop) = (Harness::new().await, Receiver::start(&[410]).await, CancellationToken::new());
    let webhooks = harness.start(local(&receiver), &stop).await;
    harness.publish("a", RunState::Failure, now()).await;
    receiver.next().await;
    let served = webhooks.get("pager").unwrap();
    while webhooks.shown(served).await.given_up == 0 {
        tokio::task::yield_now().await;
    }
    harness.publish("b", RunState::Failure, now()).await;
    assert!(receiver.next().await.1.contains(r#""run":"b""#), "the first is not sent again");
    stop.cancel();
}

#[tokio::test]
async fn what_was_not_accepted_is_sent_after_a_restart() {
    let (harness, mut receiver, stop) = (Harness::new().await, Receiver::start(&[503]).await, CancellationToken::new());
    let webhooks = harness.start(local(&receiver), &stop).await;
    harness.publish("a", RunState::Failure, now()).await;
    let (_, refused) = receiver.next().await;
    stop.cancel();
    drop(webhooks);
    // Nobody has the event now.
    let queue = topology::webhook_queue(&harness.secret, &"pager".parse().unwrap());
    while harness.broker.waiting(&queue).await.unwrap() != Some(1) {
        tokio::task::yield_now().await;
    }
    harness.publish("b", RunState::Failure, now()).await;
    let stop = CancellationToken::new();
    let _webhooks = harness.start(local(&receiver), &stop).await;
    let mut bodies = [receiver.next().await.1, receiver.next().await.1];
    bodies.sort();
    assert_eq!(bodies[0], refused);
    assert!(bodies[1].contains(r#""run":"b""#), "{bodies:?}");
    stop.cancel();
}

#[tokio::test]
async fn an_old_event_is_given_up_after_a_failure() {
    let (harness, mut receiver, stop) = (Harness::new().await, Receiver::start(&[404]).await, CancellationToken::new());
    let webhooks = harness.start(local(&receiver), &stop).await;
    let old = Timestamp::from_micros(now().as_micros() - 2 * 86_400_000_000);
    harness.publish("a", RunState::Failure, old).await;
    receiver.next().await;
    let served = webhooks.get("pager").unwrap();
    while webhooks.shown(served).await.given_up == 0 {
        tokio::task::yield_now().await;
    }
    assert!(receiver.statuses.lock().unwrap().is_empty() && receiver.requests.is_empty());
    stop.cancel();
}

#[tokio::test]
async fn the_server_of_a_webhook_learns_that_events_were_dropped() {
    let (harness, mut receiver, stop) = (Harness::new().await, Receiver::start(&[]).await, CancellationToken::new());
    let webhooks = harness.start(local(&receiver), &stop).await;
    // What the broker publishes when the queue is full.
    let dropped = Message {
        exchange: topology::DROPPED.into(),
        key: topology::webhook_dropped_queue(&harness.secret, &"pager".parse().unwrap()),
        routing: Routing::Mandatory,
        persistent: true,
        priority: 0,
        properties: Properties::default(),
        body: "{}".into(),
    };
    harness.server.publish(dropped).await.unwrap();
    let (_, body) = receiver.next().await;
    assert!(body.starts_with(r#"{"event":"lost","message":"1 or more events were lost"#), "{body}");
    let shown = webhooks.shown(webhooks.get("pager").unwrap()).await;
    assert_eq!((shown.dropped, shown.given_up), (1, 0));
    stop.cancel();
}

#[tokio::test]
async fn an_address_that_is_not_public_is_reached_only_if_the_operator_says_so() {
    let (harness, receiver, stop) = (Harness::new().await, Receiver::start(&[]).await, CancellationToken::new());
    for url in [receiver.url(), format!("http://localhost:{}/", receiver.address.port())] {
        let webhook = Webhook::new(settings(&url)).unwrap();
        let gateway = Gateway::new(ClientTls::default());
        let tried = post(&gateway, &webhook, &Outgoing::new("test".into(), "{}".into()), Attempt::new(1)).await;
        let failure = tried.failure.unwrap();
        assert!(failure.contains("not public") && failure.contains("[[webhook]]"), "{failure}");
        assert!(!failure.contains("hidden"), "{failure}");
    }
    assert!(receiver.requests.is_empty());
    let unknown = harness.start(local(&receiver), &stop).await.get("nobody").err().unwrap().into_document();
    assert!(unknown.hint.is_some_and(|hint| hint.contains("pager")));
    stop.cancel();
}
