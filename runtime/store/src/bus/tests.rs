//! Time is paused in these tests and advances when all tasks are idle: delays cost nothing.

mod faulty;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use broker::{Broker, InProcess, Message, Properties, Queue, QueueKind, Routing};
use bytes::Bytes;
use flow::Digest;
use protocol::{
    FetchRequest,
    fetch::CHUNK,
    topology::{QUARANTINE, store_put_queue},
};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::faulty::{Fault, FaultyBroker};
use super::{Client, SendError, Server};
use crate::{Directory, Entry, FetchError, ListError, Memory, PutError, RemoveError, Store, Tag, TagError, digest_of};

const QUEUE: &str = "waft.store.test";
const REPLIES: &str = "waft.reply.test";
const LARGEST: u64 = 64 << 20;

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
        let (answers, asks) = (broker.connect(), broker.connect());
        Self::over(broker, Arc::new(Memory::new()), Arc::new(answers), Arc::new(asks)).await
    }

    /// A harness in which the messages that the server publishes have faults.
    async fn faulty(plan: impl FnMut(usize, &Message) -> Fault + Send + 'static) -> (Self, Arc<FaultyBroker>) {
        let broker = InProcess::new();
        let (faulty, asks) = (Arc::new(FaultyBroker::new(&broker, plan)), broker.connect());
        (Self::over(broker, Arc::new(Memory::new()), faulty.clone(), Arc::new(asks)).await, faulty)
    }

    async fn over(broker: InProcess, store: Arc<dyn Store>, answers: Arc<dyn Broker>, asks: Arc<dyn Broker>) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let server = Server::start(answers, QUEUE.into(), store.clone(), stop.clone()).await.unwrap();
        tasks.spawn(server.run());
        tasks.close();
        let client = Client::new(asks, REPLIES.into()).await.unwrap();
        Self { broker, store, client, stop, tasks }
    }

    async fn put(&self, bytes: Bytes) -> Digest {
        self.store.put(bytes).await.unwrap()
    }

    async fn fetch(&self, digest: Digest) -> Result<Bytes, FetchError> {
        self.client.fetch(QUEUE, digest, LARGEST).await
    }

    /// Puts a content and fetches it.
    async fn carries(&self, bytes: Bytes) {
        let digest = self.put(bytes.clone()).await;
        let fetched = self.fetch(digest).await.unwrap();
        assert!(fetched == bytes, "{} bytes do not come as they were", bytes.len());
    }

    async fn end(self) {
        self.client.close().await;
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// Content of this many chunks and a bit more, with no two chunks alike.
fn content(chunks: usize) -> Bytes {
    let numbers = (0..chunks * CHUNK / 8 + 1).map(|number| (number as u64).to_le_bytes());
    numbers.flatten().collect()
}

fn message(key: &str, body: impl Into<Bytes>) -> Message {
    Message {
        exchange: String::new(),
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
    let world = Harness::new().await;
    crate::contract::fetching(&*world.store, async |digest| world.fetch(digest).await).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_large_content_is_fetched_without_a_pause() {
    let world = Harness::new().await;
    let begun = Instant::now();
    world.carries(content(41)).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn many_fetch_at_once_and_each_gets_its_own() {
    let world = Harness::new().await;
    let fetches = (0..20).map(|chunks| world.carries(content(chunks)));
    futures::future::join_all(fetches).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn lost_chunks_are_requested_again() {
    let (world, server) = Harness::faulty(|number, _| if number % 3 == 0 { Fault::Lost } else { Fault::None }).await;
    world.carries(content(30)).await;
    // A third of the messages is lost, repeated ones too.
    assert!(server.published() > 40, "{}", server.published());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn duplicate_and_late_chunks_are_ignored() {
    let (world, server) = Harness::faulty(|number, _| match number % 3 {
        0 => Fault::Late,
        1 => Fault::Twice,
        _ => Fault::None,
    })
    .await;
    let begun = Instant::now();
    world.carries(content(29)).await;
    assert_eq!((server.published(), begun.elapsed()), (30, Duration::ZERO), "nothing was asked for again");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn lost_and_unconfirmed_requests_are_sent_again() {
    let broker = InProcess::new();
    let plan = |number, _: &Message| match number {
        0 => Fault::Lost,
        1 => Fault::Unconfirmed,
        _ => Fault::None,
    };
    let (asks, answers) = (Arc::new(FaultyBroker::new(&broker, plan)), broker.connect());
    let world = Harness::over(broker, Arc::new(Memory::new()), Arc::new(answers), asks).await;
    let begun = Instant::now();
    world.carries(content(3)).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(5), "two pauses, each longer than the one before");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn altered_content_is_rejected() {
    let (world, _) = Harness::faulty(|number, message| {
        let mut body = message.body.to_vec();
        // The end of a reply is the end of its chunk.
        *body.last_mut().unwrap() ^= 1;
        if number == 1 { Fault::Changed(body.into()) } else { Fault::None }
    })
    .await;
    let digest = world.put(content(3)).await;
    match world.fetch(digest).await {
        Err(FetchError::Corrupt { expected, actual }) => {
            assert!(expected == digest && actual != digest)
        }
        other => panic!("{other:?}"),
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn garbage_among_the_answers_is_dropped() {
    let (world, _) = Harness::faulty(|number, _| match number % 2 {
        0 => Fault::Changed("garbage".into()),
        _ => Fault::None,
    })
    .await;
    world.broker.publish(message(REPLIES, "for nobody")).await.unwrap();
    world.carries(content(5)).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_request_is_quarantined() {
    let world = Harness::new().await;
    let digest = digest_of(b"pan");
    let without_reader = FetchRequest { digest, chunks: 0..1 }.encode();
    let endless = FetchRequest { digest, chunks: 7..u32::MAX }.encode();
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is wrong with it")]
    let backwards = FetchRequest { digest, chunks: 9..2 }.encode();
    for body in [b"garbage".to_vec(), vec![], without_reader, endless, backwards] {
        let mut garbage = message(QUEUE, body);
        world.broker.publish(garbage.clone()).await.unwrap();
        garbage.properties.reply_to = Some("waft.reply.nobody".into());
        world.broker.publish(garbage).await.unwrap();
    }
    world.carries("pan".into()).await;
    assert_eq!(world.broker.waiting(QUEUE).await.unwrap(), Some(0));
    // Invalid messages, twice each; a valid message that makes no sense has no effect.
    while world.broker.waiting(QUARANTINE).await.unwrap() != Some(4) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    world.end().await;
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
    let (asks, answers) = (Arc::new(FaultyBroker::new(&broker, newer)), broker.connect());
    let world = Harness::over(broker, Arc::new(Memory::new()), Arc::new(answers), asks).await;
    let (digest, begun) = (world.put("pan".into()).await, Instant::now());
    let error = world.fetch(digest).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("of format version 99; this waft reads up to"), "{error}");
    let error = world.client.put(QUEUE, "pot".into()).await.unwrap_err();
    assert!(error.to_string().contains("of format version 99; this waft reads up to"), "{error}");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn corrupt_content_reports_both_digests() {
    let (root, broker) = (tempfile::tempdir().unwrap(), InProcess::new());
    let store = Arc::new(Directory::open(root.path().into()).await.unwrap());
    let (answers, asks) = (broker.connect(), broker.connect());
    let world = Harness::over(broker, store, Arc::new(answers), Arc::new(asks)).await;
    let digest = world.put("pan".into()).await;
    let hex = digest.hex();
    std::fs::write(root.path().join("sha256").join(&hex[..2]).join(&hex), "pot").unwrap();
    match world.fetch(digest).await {
        Err(FetchError::Corrupt { expected, actual }) => {
            assert_eq!((expected, actual), (digest, digest_of(b"pot")));
        }
        other => panic!("{other:?}"),
    }
    world.carries("pan".into()).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_error_reaches_the_client() {
    let (root, broker) = (tempfile::tempdir().unwrap(), InProcess::new());
    let store = Arc::new(Directory::open(root.path().into()).await.unwrap());
    let (answers, asks) = (broker.connect(), broker.connect());
    let world = Harness::over(broker, store, Arc::new(answers), Arc::new(asks)).await;
    let digest = digest_of(b"pan");
    let hex = digest.hex();
    let path = root.path().join("sha256").join(&hex[..2]).join(&hex);
    std::fs::create_dir_all(&path).unwrap();
    let error = world.fetch(digest).await.unwrap_err();
    let begins = format!(
        "the store that answers on {QUEUE:?} could not read module {digest}: could not read module {digest} from {}: ",
        path.display(),
    );
    assert!(error.to_string().starts_with(&begins), "{error}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_content_that_is_too_large_is_not_fetched() {
    let (world, server) = Harness::faulty(|_, _| Fault::None).await;
    let digest = world.put(content(20)).await;
    let error = world.client.fetch(QUEUE, digest, 1_000).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { largest: 1_000, .. }), "{error}");
    assert!(server.published() <= 4, "the rest was never asked for");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_times_out() {
    let broker = InProcess::new();
    let kind = QueueKind::Transient { expires: Duration::from_secs(3_600) };
    broker.declare_queue(&Queue { name: QUEUE.into(), kind }).await.unwrap();
    let client = Client::new(Arc::new(broker.clone()), REPLIES.into()).await.unwrap();
    let (digest, begun) = (digest_of(b"pan"), Instant::now());
    let error = client.fetch(QUEUE, digest, LARGEST).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("nobody has answered on {QUEUE:?} for 30 seconds: module {digest} could not be fetched"),
    );
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
    assert_eq!(broker.waiting(QUEUE).await.unwrap(), Some(5), "it was asked five times");
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_store_queue_is_reported() {
    let client = Client::new(Arc::new(InProcess::new()), REPLIES.into()).await.unwrap();
    let digest = digest_of(b"pan");
    let error = client.fetch(QUEUE, digest, LARGEST).await.unwrap_err();
    assert!(matches!(&error, FetchError::QueueMissing { queue, .. } if queue == QUEUE), "{error}");
    assert!(error.to_string().starts_with("the engine that sent the job is gone"), "{error}");
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_continues_when_the_engine_returns() {
    let (broker, store) = (InProcess::new(), Arc::new(Memory::new()));
    let digest = store.put("pan".into()).await.unwrap();
    let client = Client::new(Arc::new(broker.connect()), REPLIES.into()).await.unwrap();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let coming_back = async {
        tokio::time::advance(Duration::from_secs(1)).await;
        let server = Server::start(Arc::new(broker), QUEUE.into(), store, stop.clone()).await.unwrap();
        tasks.spawn(server.run());
    };
    let (fetched, ()) = futures::join!(client.fetch(QUEUE, digest, LARGEST), coming_back);
    assert_eq!(fetched.unwrap(), "pan");
    client.close().await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_ends_when_its_client_is_closed() {
    let (world, _) = Harness::faulty(|_, _| Fault::Lost).await;
    let digest = world.put("pan".into()).await;
    let (failed, ()) = futures::join!(world.fetch(digest), world.client.close());
    assert!(matches!(failed, Err(FetchError::Closed { .. })), "{failed:?}");
    let late = world.fetch(digest).await;
    assert!(matches!(late, Err(FetchError::Closed { .. })), "{late:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_clone_of_a_client_ends_its_listening() {
    let broker = InProcess::new();
    let client = Client::new(Arc::new(broker.clone()), REPLIES.into()).await.unwrap();
    let tasks = client.shared.tasks.clone();
    let clone = client.clone();
    drop(client);
    tokio::task::yield_now().await;
    assert!(!tasks.is_empty(), "a clone is left");
    drop(clone);
    tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_ends_when_its_queues_are_deleted() {
    let world = Harness::new().await;
    world.broker.delete_queue(QUEUE).await.unwrap();
    world.broker.delete_queue(&store_put_queue(QUEUE)).await.unwrap();
    world.tasks.wait().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn every_fetch_has_an_id_of_its_own() {
    let ids = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let seen = ids.clone();
    let (world, _) = Harness::faulty(move |_, message| {
        seen.lock().unwrap().insert(message.properties.correlation_id.clone());
        Fault::None
    })
    .await;
    for _ in 0..3 {
        world.carries("pan".into()).await;
    }
    assert_eq!(ids.lock().unwrap().len(), 3);
    world.end().await;
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

    async fn touch(&self, digest: &Digest) -> Result<bool, PutError> {
        self.0.touch(digest).await
    }

    async fn list(&self) -> Result<Vec<Entry>, ListError> {
        self.0.list().await
    }

    async fn tag(&self, tag: &Tag, digest: &Digest) -> Result<(), TagError> {
        self.0.tag(tag, digest).await
    }

    async fn resolve_tag(&self, tag: &Tag) -> Result<Option<Digest>, TagError> {
        self.0.resolve_tag(tag).await
    }

    async fn tags(&self) -> Result<Vec<(Tag, Digest)>, ListError> {
        self.0.tags().await
    }

    async fn remove(&self, entry: &Entry) -> Result<bool, RemoveError> {
        self.0.remove(entry).await
    }
}

#[tokio::test(start_paused = true)]
async fn fetches_do_not_wait_for_puts() {
    let broker = InProcess::new();
    let (answers, asks) = (broker.connect(), broker.connect());
    let inner = Memory::new();
    let digest = inner.put("pan".into()).await.unwrap();
    let world = Harness::over(broker, Arc::new(HangingStore(inner)), Arc::new(answers), Arc::new(asks)).await;
    let putting = futures::future::join_all((0..40).map(|size| world.client.put(QUEUE, content(size))));
    let fetching = async {
        // All requests are in flight.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        assert_eq!(world.fetch(digest).await.unwrap(), "pan");
        assert_eq!(begun.elapsed(), Duration::ZERO);
    };
    let (put, ()) = futures::join!(putting, fetching);
    assert!(put.iter().all(|put| matches!(put, Err(SendError::TimedOut { .. }))), "the disk hangs");
    world.end().await;
}
