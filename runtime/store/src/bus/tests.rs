//! Time is paused in these tests and advances when all tasks are idle, so delays take no time.

mod access;
mod faulty;
mod signatures;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use broker::{Broker, InProcess, Message, Properties, Queue, QueueKind, Routing};
use bytes::Bytes;
use flow::{Action, Attempt, CallId, Digest, Firing, Namespace};
use protocol::{
    EngineSecret, FetchPart, FetchReply, FetchRequest, FetchResponse, Key, ReplyAddress,
    fetch::CHUNK,
    topology::{CONTENT, QUARANTINE, REPLIES as REPLIES_EXCHANGE, REPLY_PREFIX, store_put_queue},
};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::faulty::{Fault, FaultyBroker};
use super::{Client, SendError, Server, server::DIGEST};
use crate::{
    Directory, EarlierDigest, Entry, FetchError, ListError, Memory, Policy, PutError, RemoveError, SignError,
    Signature, Store, Tag, TagError, digest_of,
};

const QUEUE: &str = "waft.store.test";
const REPLIES: &str = "waft.reply.test";
const MAX_BYTES: u64 = 64 << 20;
const SECRET: EngineSecret = EngineSecret::new([7; 32]);

fn call() -> CallId {
    CallId {
        run: "r".parse().unwrap(),
        task: "t".parse().unwrap(),
        firing: Firing::FIRST,
        attempt: Attempt::FIRST,
        action: Action::Apply,
    }
}

/// A server over a store and a client, on one broker.
struct Harness {
    broker: InProcess,
    store: Arc<dyn Store>,
    client: Client,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Harness {
    async fn new() -> Self {
        let broker = InProcess::new();
        let (server_broker, client_broker) = (broker.connect(), broker.connect());
        Self::over(broker, Arc::new(Memory::new()), Arc::new(server_broker), Arc::new(client_broker)).await
    }

    /// A harness in which the messages that the server publishes have faults.
    async fn faulty(plan: impl FnMut(usize, &Message) -> Fault + Send + 'static) -> (Self, Arc<FaultyBroker>) {
        let broker = InProcess::new();
        let (faulty, client_broker) = (faulty::connect(&broker, plan), broker.connect());
        (Self::over(broker, Arc::new(Memory::new()), faulty.clone(), Arc::new(client_broker)).await, faulty)
    }

    async fn over(
        broker: InProcess,
        store: Arc<dyn Store>,
        server_broker: Arc<dyn Broker>,
        client_broker: Arc<dyn Broker>,
    ) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let server = Server::start(server_broker, QUEUE.into(), store.clone(), SECRET, stop.clone()).await.unwrap();
        tasks.spawn(server.with_max_output(MAX_BYTES).run());
        tasks.close();
        let client = Client::new(client_broker, REPLIES.into()).await.unwrap();
        Self { broker, store, client, stop, tasks }
    }

    async fn put(&self, bytes: Bytes) -> Digest {
        self.store.put(bytes).await.unwrap()
    }

    async fn fetch(&self, digest: Digest) -> Result<Bytes, FetchError> {
        self.client.fetch(QUEUE, digest, SECRET.content_key(&digest), MAX_BYTES).await
    }

    /// Puts a content and fetches it.
    async fn round_trip(&self, bytes: Bytes) {
        let digest = self.put(bytes.clone()).await;
        let fetched = self.fetch(digest).await.unwrap();
        assert!(fetched == bytes, "{} bytes arrive changed", bytes.len());
    }

    async fn end(self) {
        self.client.close().await;
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// Content of this many chunks and some bytes more, with no two equal chunks.
fn content(chunks: usize) -> Bytes {
    let numbers = (0..chunks * CHUNK / 8 + 1).map(|number| (number as u64).to_le_bytes());
    numbers.flatten().collect()
}

/// A request for content, or a reply to one.
fn message(key: &str, body: impl Into<Bytes>) -> Message {
    let exchange = if key.starts_with(REPLY_PREFIX) { REPLIES_EXCHANGE } else { CONTENT };
    Message {
        exchange: exchange.into(),
        key: key.into(),
        routing: Routing::Mandatory,
        persistent: false,
        priority: 0,
        properties: Properties::default(),
        body: body.into(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_bus_passes_the_fetch_contract() {
    let harness = Harness::new().await;
    crate::contract::fetching(&*harness.store, async |digest| harness.fetch(digest).await).await;
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_large_content_is_fetched_without_a_pause() {
    let harness = Harness::new().await;
    let started = Instant::now();
    harness.round_trip(content(41)).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn concurrent_fetches_each_get_their_own_content() {
    let harness = Harness::new().await;
    let fetches = (0..20).map(|chunks| harness.round_trip(content(chunks)));
    futures::future::join_all(fetches).await;
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn lost_chunks_are_requested_again() {
    let (harness, server) = Harness::faulty(|number, _| if number % 3 == 0 { Fault::Lost } else { Fault::None }).await;
    harness.round_trip(content(30)).await;
    // A third of the messages is lost, repeated ones too.
    assert!(server.interceptor().published() > 40, "{}", server.interceptor().published());
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn duplicate_and_late_chunks_are_ignored() {
    let (harness, server) = Harness::faulty(|number, _| match number % 3 {
        0 => Fault::Late,
        1 => Fault::Twice,
        _ => Fault::None,
    })
    .await;
    let started = Instant::now();
    harness.round_trip(content(29)).await;
    assert_eq!(
        (server.interceptor().published(), started.elapsed()),
        (30, Duration::ZERO),
        "no chunk was requested again"
    );
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn lost_and_unconfirmed_requests_are_sent_again() {
    let broker = InProcess::new();
    let plan = |number, _: &Message| match number {
        0 => Fault::Lost,
        1 => Fault::Unconfirmed,
        _ => Fault::None,
    };
    let (client_broker, server_broker) = (faulty::connect(&broker, plan), broker.connect());
    let harness = Harness::over(broker, Arc::new(Memory::new()), Arc::new(server_broker), client_broker).await;
    let started = Instant::now();
    harness.round_trip(content(3)).await;
    assert_eq!(started.elapsed(), Duration::from_secs(5), "two delays, each longer than the previous one");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn altered_content_is_rejected() {
    let (harness, _) = Harness::faulty(|number, message| {
        let mut body = message.body.to_vec();
        // The end of a reply is the end of its chunk.
        *body.last_mut().unwrap() ^= 1;
        if number == 1 { Fault::Changed(body.into()) } else { Fault::None }
    })
    .await;
    let digest = harness.put(content(3)).await;
    match harness.fetch(digest).await {
        Err(FetchError::Corrupt { expected, actual }) => {
            assert!(expected == digest && actual != digest)
        }
        other => panic!("{other:?}"),
    }
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn garbage_among_the_answers_is_dropped() {
    let (harness, _) = Harness::faulty(|number, _| match number % 2 {
        0 => Fault::Changed("garbage".into()),
        _ => Fault::None,
    })
    .await;
    harness.broker.publish(message(REPLIES, "for no fetch")).await.unwrap();
    harness.round_trip(content(5)).await;
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_request_is_quarantined() {
    let harness = Harness::new().await;
    let any_sender = harness.broker.clone().with_any_properties();
    let digest = digest_of(b"pan");
    let (key, reply) = (SECRET.content_key(&digest), ReplyAddress { queue: "", id: "" });
    let without_reply_queue = FetchRequest { digest, part: FetchPart::Chunks(0..1) }.encode(&key, reply);
    let endless = FetchRequest { digest, part: FetchPart::Chunks(7..u32::MAX) }.encode(&key, reply);
    #[expect(clippy::reversed_empty_ranges, reason = "the request is invalid on purpose")]
    let backwards = FetchRequest { digest, part: FetchPart::Chunks(9..2) }.encode(&key, reply);
    for body in [b"garbage".to_vec(), vec![], without_reply_queue, endless, backwards] {
        let mut garbage = message(QUEUE, body);
        // RabbitMQ takes larger headers than a message of waft has.
        garbage.properties.headers.insert("large".to_owned(), "x".repeat(110 << 10));
        any_sender.publish(garbage.clone()).await.unwrap();
        garbage.properties.reply_to = Some("waft.reply.missing".into());
        any_sender.publish(garbage).await.unwrap();
    }
    harness.round_trip("pan".into()).await;
    assert_eq!(harness.broker.waiting(QUEUE).await.unwrap(), Some(0));
    // Invalid messages, twice each; a valid message that makes no sense has no effect.
    while harness.broker.waiting(QUARANTINE).await.unwrap() != Some(4) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_of_a_newer_format_is_rejected_with_a_reason() {
    let broker = InProcess::new();
    let newer = |_, message: &Message| {
        let mut body = message.body.to_vec();
        // The third byte is the format version.
        body[2] = 99;
        Fault::Changed(body.into())
    };
    let (client_broker, server_broker) = (faulty::connect(&broker, newer), broker.connect());
    let harness = Harness::over(broker, Arc::new(Memory::new()), Arc::new(server_broker), client_broker).await;
    let (digest, started) = (harness.put("pan".into()).await, Instant::now());
    let error = harness.fetch(digest).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("of format version 99; this waft reads up to"), "{error}");
    let error = harness.client.put(QUEUE, "pot".into(), call(), SECRET.call_key(&call())).await.unwrap_err();
    assert!(error.to_string().contains("of format version 99; this waft reads up to"), "{error}");
    assert_eq!(started.elapsed(), Duration::ZERO);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn corrupt_content_reports_both_digests() {
    let (root, broker) = (tempfile::tempdir().unwrap(), InProcess::new());
    let store = Arc::new(Directory::open(root.path().into()).await.unwrap());
    let (server_broker, client_broker) = (broker.connect(), broker.connect());
    let harness = Harness::over(broker, store, Arc::new(server_broker), Arc::new(client_broker)).await;
    let digest = harness.put("pan".into()).await;
    let hex = digest.hex();
    std::fs::write(root.path().join("sha256").join(&hex[..2]).join(&hex), "pot").unwrap();
    match harness.fetch(digest).await {
        Err(FetchError::Corrupt { expected, actual }) => {
            assert_eq!((expected, actual), (digest, digest_of(b"pot")));
        }
        other => panic!("{other:?}"),
    }
    harness.round_trip("pan".into()).await;
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_error_reaches_the_client() {
    let (root, broker) = (tempfile::tempdir().unwrap(), InProcess::new());
    let store = Arc::new(Directory::open(root.path().into()).await.unwrap());
    let (server_broker, client_broker) = (broker.connect(), broker.connect());
    let harness = Harness::over(broker, store, Arc::new(server_broker), Arc::new(client_broker)).await;
    let digest = digest_of(b"pan");
    let hex = digest.hex();
    let path = root.path().join("sha256").join(&hex[..2]).join(&hex);
    std::fs::create_dir_all(&path).unwrap();
    let error = harness.fetch(digest).await.unwrap_err();
    let prefix = format!(
        "the store that answers on {QUEUE:?} could not read module {digest}: could not read module {digest} from {}: ",
        path.display(),
    );
    assert!(error.to_string().starts_with(&prefix), "{error}");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_content_that_is_too_large_is_not_fetched() {
    let (harness, server) = Harness::faulty(|_, _| Fault::None).await;
    let digest = harness.put(content(20)).await;
    let error = harness.client.fetch(QUEUE, digest, SECRET.content_key(&digest), 1_000).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { largest: 1_000, .. }), "{error}");
    assert!(server.interceptor().published() <= 4, "the other chunks were not requested");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_times_out() {
    let broker = InProcess::new();
    let kind = QueueKind::Transient { expires: Duration::from_secs(3_600) };
    let queue = Queue { name: QUEUE.into(), kind };
    broker::topology::declare_bound(&broker, &queue, &[CONTENT]).await.unwrap();
    let client = Client::new(Arc::new(broker.clone()), REPLIES.into()).await.unwrap();
    let (digest, started) = (digest_of(b"pan"), Instant::now());
    let error = client.fetch(QUEUE, digest, SECRET.content_key(&digest), MAX_BYTES).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no store has answered on {QUEUE:?} for 30 seconds: module {digest} could not be fetched"),
    );
    assert_eq!(started.elapsed(), Duration::from_secs(30));
    assert_eq!(broker.waiting(QUEUE).await.unwrap(), Some(5), "the request was sent five times");
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_store_queue_is_reported() {
    let client = Client::new(Arc::new(InProcess::new()), REPLIES.into()).await.unwrap();
    let digest = digest_of(b"pan");
    let error = client.fetch(QUEUE, digest, SECRET.content_key(&digest), MAX_BYTES).await.unwrap_err();
    assert!(matches!(&error, FetchError::QueueMissing { queue, .. } if queue == QUEUE), "{error}");
    assert!(error.to_string().starts_with("the engine that sent the job has ended"), "{error}");
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_continues_when_the_engine_returns() {
    let (broker, store) = (InProcess::new(), Arc::new(Memory::new()));
    let digest = store.put("pan".into()).await.unwrap();
    let client = Client::new(Arc::new(broker.connect()), REPLIES.into()).await.unwrap();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let restart = async {
        tokio::time::advance(Duration::from_secs(1)).await;
        let server = Server::start(Arc::new(broker), QUEUE.into(), store, SECRET, stop.clone()).await.unwrap();
        tasks.spawn(server.run());
    };
    let (fetched, ()) = futures::join!(client.fetch(QUEUE, digest, SECRET.content_key(&digest), MAX_BYTES), restart);
    assert_eq!(fetched.unwrap(), "pan");
    client.close().await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_ends_when_its_client_is_closed() {
    let (harness, _) = Harness::faulty(|_, _| Fault::Lost).await;
    let digest = harness.put("pan".into()).await;
    let (failed, ()) = futures::join!(harness.fetch(digest), harness.client.close());
    assert!(matches!(failed, Err(FetchError::Closed { .. })), "{failed:?}");
    let late = harness.fetch(digest).await;
    assert!(matches!(late, Err(FetchError::Closed { .. })), "{late:?}");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_clone_of_a_client_ends_its_consumer() {
    let broker = InProcess::new();
    let client = Client::new(Arc::new(broker.clone()), REPLIES.into()).await.unwrap();
    let tasks = client.shared.tasks.clone();
    let clone = client.clone();
    drop(client);
    tokio::task::yield_now().await;
    assert!(!tasks.is_empty(), "a clone remains");
    drop(clone);
    tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_ends_when_its_queues_are_deleted() {
    let harness = Harness::new().await;
    harness.broker.delete_queue(QUEUE).await.unwrap();
    harness.broker.delete_queue(&store_put_queue(QUEUE)).await.unwrap();
    harness.tasks.wait().await;
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn every_fetch_has_its_own_id() {
    let ids = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let ids_seen = ids.clone();
    let (harness, _) = Harness::faulty(move |_, message| {
        ids_seen.lock().unwrap().insert(message.properties.correlation_id.clone());
        Fault::None
    })
    .await;
    for _ in 0..3 {
        harness.round_trip("pan".into()).await;
    }
    assert_eq!(ids.lock().unwrap().len(), 3);
    harness.end().await;
}

/// A store whose disk hangs on a put.
struct HangingStore(Memory);

#[async_trait]
impl Store for HangingStore {
    async fn put(&self, _: Bytes) -> Result<Digest, PutError> {
        std::future::pending().await
    }

    async fn fetch(&self, digest: &Digest) -> Result<Bytes, FetchError> {
        self.0.fetch(digest).await
    }

    async fn contains(&self, digest: &Digest) -> Result<bool, FetchError> {
        self.0.contains(digest).await
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, FetchError> {
        self.0.size(digest).await
    }

    async fn touch(&self, digest: &Digest) -> Result<bool, PutError> {
        self.0.touch(digest).await
    }

    async fn list(&self) -> Result<Vec<Entry>, ListError> {
        self.0.list().await
    }

    async fn list_after(&self, after: Option<&Digest>, max: usize) -> Result<Vec<Entry>, ListError> {
        self.0.list_after(after, max).await
    }

    async fn entries_of(&self, digests: &[Digest]) -> Result<Vec<Entry>, ListError> {
        self.0.entries_of(digests).await
    }

    async fn tag(&self, tag: &Tag, digest: &Digest) -> Result<EarlierDigest, TagError> {
        self.0.tag(tag, digest).await
    }

    async fn resolve_tag(&self, tag: &Tag) -> Result<Option<Digest>, TagError> {
        self.0.resolve_tag(tag).await
    }

    async fn tags(&self) -> Result<Vec<(Tag, Digest)>, ListError> {
        self.0.tags().await
    }

    async fn tags_in(&self, namespace: Option<&Namespace>) -> Result<Vec<(Tag, Digest)>, ListError> {
        self.0.tags_in(namespace).await
    }

    async fn sign(&self, signature: &Signature, policy: &Policy) -> Result<(), SignError> {
        self.0.sign(signature, policy).await
    }

    async fn signatures(&self, digest: &Digest) -> Result<Vec<Signature>, ListError> {
        self.0.signatures(digest).await
    }

    async fn remove(&self, entry: &Entry) -> Result<bool, RemoveError> {
        self.0.remove(entry).await
    }
}

#[tokio::test(start_paused = true)]
async fn fetches_do_not_wait_for_puts() {
    let broker = InProcess::new();
    let (server_broker, client_broker) = (broker.connect(), broker.connect());
    let inner = Memory::new();
    let digest = inner.put("pan".into()).await.unwrap();
    let harness =
        Harness::over(broker, Arc::new(HangingStore(inner)), Arc::new(server_broker), Arc::new(client_broker)).await;
    let puts = futures::future::join_all(
        (0..40).map(|size| harness.client.put(QUEUE, content(size), call(), SECRET.call_key(&call()))),
    );
    let fetch = async {
        // All requests are in flight.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let started = Instant::now();
        assert_eq!(harness.fetch(digest).await.unwrap(), "pan");
        assert_eq!(started.elapsed(), Duration::ZERO);
    };
    let (results, ()) = futures::join!(puts, fetch);
    assert!(results.iter().all(|result| matches!(result, Err(SendError::TimedOut { .. }))), "the disk hangs");
    harness.end().await;
}
