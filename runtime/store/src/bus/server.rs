//! The answering end: a queue of requests and a queue of puts over a store.

use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

use broker::{Broker, Consumer, Delivery, Message, Properties, QueueKind, Routing, quarantine};
use bytes::Bytes;
use flow::Digest;
use futures::future;
use protocol::{
    DecodeError, FetchReply, FetchRequest, FetchResponse, PutRequest, fetch::MAX_RANGE_CHUNKS, topology as names,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    StartError,
    assembly::{byte_range, chunks_of},
    open,
    recent::ContentCache,
};
use crate::{FetchError, PutError, Store};

/// How long the queue outlives its server.
const QUEUE_EXPIRY: Duration = Duration::from_secs(600);

/// Requests that are answered at once. With the largest range each, 64 MiB are on their way to the broker.
const PREFETCH: u16 = 16;

/// Contents that are kept at once. Each is one message, so that memory for so many of the largest is needed.
const PUTS: u16 = 4;

/// The header that names the content that a message is about.
pub(super) const DIGEST: &str = "digest";

/// Offers a store on a queue.
pub struct Server {
    broker: Arc<dyn Broker>,
    queue: String,
    store: Arc<dyn Store>,
    requests: Consumer,
    puts: Consumer,
    stop: CancellationToken,
}

/// Where an answer goes.
struct ReplyTarget {
    queue: String,
    correlation_id: Option<String>,
}

impl Server {
    /// Declares the queue of requests and that of puts, and begins to consume them; [`Server::run`] answers.
    ///
    /// # Errors
    /// [`StartError`] when the broker refuses a queue.
    pub async fn start(
        broker: Arc<dyn Broker>,
        queue: String,
        store: Arc<dyn Store>,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let kind = QueueKind::Transient { expires: QUEUE_EXPIRY };
        let requests = open(&*broker, &queue, kind.clone(), PREFETCH).await?;
        let puts = open(&*broker, &names::store_put_queue(&queue), kind, PUTS).await?;
        Ok(Self { broker, queue, store, requests, puts, stop })
    }

    /// Answers requests until told to stop, or until both queues are deleted or the broker closed. A request that cannot be
    /// read is answered with the reason, or moved to the quarantine where it does not say whom to answer.
    pub async fn run(self) {
        let Self { broker, queue, store, requests, puts, stop } = self;
        let end = |queue| QueueServer { broker: broker.clone(), queue, store: store.clone(), stop: stop.clone() };
        // Each has a queue of its own, so that who fetches never waits for what others put.
        futures::join!(
            end(queue.clone()).serve_requests(requests),
            end(names::store_put_queue(&queue)).serve_puts(puts)
        );
    }
}

/// The server's end of one of its queues.
struct QueueServer {
    broker: Arc<dyn Broker>,
    queue: String,
    store: Arc<dyn Store>,
    stop: CancellationToken,
}

impl QueueServer {
    /// Answers requests for content.
    async fn serve_requests(self, mut requests: Consumer) {
        let sending = TaskTracker::new();
        let mut recent = ContentCache::default();
        while let Some(delivery) = self.next(&mut requests).await {
            let request = match FetchRequest::decode(&delivery.message.body) {
                Ok(request) => request,
                Err(error) => {
                    self.spawn(&sending, reject_unreadable(self.broker.clone(), self.queue.clone(), delivery, error));
                    continue;
                }
            };
            let Some(reader) = ReplyTarget::of(&delivery) else {
                warn!(queue = self.queue, "a request for content does not say where to answer; it is dropped");
                delivery.accept();
                continue;
            };
            // One after the other: several readers of a content cost one reading of it, and no more than one is in memory
            // beside those that were served last.
            let reading = self.content(&mut recent, request.digest);
            let Some(content) = self.stop.run_until_cancelled(reading).await else {
                break;
            };
            // A task for each, so that waiting for the broker's confirms keeps nobody else waiting; the prefetch bounds
            // how many there are, since each holds its delivery.
            let broker = self.broker.clone();
            self.spawn(&sending, async move {
                send(&*broker, replies(&request, content, &reader)).await;
                delivery.accept();
            });
        }
        requests.cancel();
        sending.close();
        sending.wait().await;
    }

    /// Keeps what is put, several at once: the prefetch bounds how many.
    async fn serve_puts(self, mut puts: Consumer) {
        let keeping = TaskTracker::new();
        while let Some(delivery) = self.next(&mut puts).await {
            let (broker, store, queue) = (self.broker.clone(), self.store.clone(), self.queue.clone());
            self.spawn(&keeping, async move {
                let body = delivery.message.body.clone();
                let bytes = match PutRequest::decode(&body) {
                    Ok(put) => body.slice_ref(put.bytes),
                    Err(error) => return reject_unreadable(broker, queue, delivery, error).await,
                };
                let kept = store.put(bytes).await;
                if let Some(reader) = ReplyTarget::of(&delivery) {
                    send(&*broker, vec![put_reply(&reader, &queue, kept)]).await;
                }
                delivery.accept();
            });
        }
        puts.cancel();
        keeping.close();
        keeping.wait().await;
    }

    /// The next delivery, until told to stop.
    async fn next(&self, consumer: &mut Consumer) -> Option<Delivery> {
        let delivery = self.stop.run_until_cancelled(consumer.next()).await?;
        if delivery.is_none() {
            debug!(queue = self.queue, "a queue of the store is gone");
        }
        delivery
    }

    /// Does something until told to stop: its delivery goes back then.
    fn spawn(&self, tasks: &TaskTracker, work: impl Future<Output = ()> + Send + 'static) {
        tasks.spawn(self.stop.clone().run_until_cancelled_owned(work));
    }

    /// The content of a digest, from what was served last or from the store.
    async fn content(&self, recent: &mut ContentCache, digest: Digest) -> Result<Bytes, FetchError> {
        if let Some(bytes) = recent.get(digest) {
            return Ok(bytes);
        }
        let bytes = self.store.fetch(&digest).await.inspect_err(|error| {
            warn!(queue = self.queue, error = error as &dyn Error, "a module that was asked for cannot be served");
        })?;
        recent.keep(digest, bytes.clone());
        Ok(bytes)
    }
}

/// The message that says what became of a put.
fn put_reply(reader: &ReplyTarget, queue: &str, kept: Result<Digest, PutError>) -> Message {
    match kept {
        Ok(digest) => reader.message(&FetchReply { digest, response: FetchResponse::Stored }),
        Err(error) => {
            warn!(queue, error = &error as &dyn Error, "a value cannot be kept");
            let digest = error.digest();
            reader.message(&FetchReply { digest, response: FetchResponse::Unreadable { reason: &error.to_string() } })
        }
    }
}

/// The messages that answer a request.
fn replies(request: &FetchRequest, content: Result<Bytes, FetchError>, reader: &ReplyTarget) -> Vec<Message> {
    let digest = request.digest;
    let message = |answer| reader.message(&FetchReply { digest, response: answer });
    let bytes = match content {
        Ok(bytes) => bytes,
        Err(FetchError::Missing { .. }) => return vec![message(FetchResponse::Missing)],
        Err(FetchError::Corrupt { actual, .. }) => {
            return vec![message(FetchResponse::Corrupt { actual })];
        }
        Err(error) => {
            let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            return vec![message(FetchResponse::Unreadable { reason: &format!("{error}{cause}") })];
        }
    };
    let size = bytes.len() as u64;
    let chunks = request.chunks.start..request.chunks.end.min(chunks_of(size));
    let chunk = |index| {
        let bytes = &bytes[byte_range(index, size)];
        message(FetchResponse::Chunk { size, index, bytes })
    };
    chunks.take(MAX_RANGE_CHUNKS as usize).map(chunk).collect()
}

/// Sends answers. One that does not arrive is asked for again; a reader that has gone needs none.
async fn send(broker: &dyn Broker, messages: Vec<Message>) {
    for sent in future::join_all(messages.into_iter().map(|message| broker.publish(message))).await {
        if let Err(error) = sent {
            debug!(%error, "an answer to a request for a module may be lost");
        }
    }
}

/// Answers a request that cannot be read, where it says whom to answer and for which content; otherwise it goes to the
/// quarantine, unless it is sent again.
async fn reject_unreadable(broker: Arc<dyn Broker>, queue: String, delivery: Delivery, error: DecodeError) {
    let digest = delivery.message.properties.headers.get(DIGEST).and_then(|digest| digest.parse().ok());
    let reason = format!("the engine could not read a request for content: {error}");
    warn!(queue, reason, "a request for content is refused");
    match (ReplyTarget::of(&delivery), digest) {
        (Some(reader), Some(digest)) => {
            let answer = FetchResponse::Unreadable { reason: &reason };
            send(&*broker, vec![reader.message(&FetchReply { digest, response: answer })]).await;
            delivery.accept();
        }
        _ if error.is_loss(delivery.message.persistent) => quarantine(&*broker, delivery, &queue, &reason).await,
        _ => delivery.accept(),
    }
}

impl ReplyTarget {
    /// Whom a request is to be answered to.
    fn of(delivery: &Delivery) -> Option<Self> {
        let Properties { reply_to, correlation_id, .. } = &delivery.message.properties;
        Some(Self { queue: reply_to.clone()?, correlation_id: correlation_id.clone() })
    }

    fn message(&self, reply: &FetchReply<'_>) -> Message {
        Message {
            exchange: String::new(),
            key: self.queue.clone(),
            routing: Routing::Optional,
            persistent: false,
            priority: 0,
            properties: Properties {
                correlation_id: self.correlation_id.clone(),
                headers: BTreeMap::from([(DIGEST.into(), reply.digest.to_string())]),
                ..Properties::default()
            },
            body: reply.encode().into(),
        }
    }
}
