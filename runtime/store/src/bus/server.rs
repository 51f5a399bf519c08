//! The answering end: a queue of requests over a store.

use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

use broker::{Broker, Consumer, Delivery, Message, Properties, QueueKind, Routing, quarantine};
use bytes::Bytes;
use flow::Digest;
use futures::future;
use protocol::{DecodeError, FetchAnswer, FetchReply, FetchRequest, PutRequest, fetch::LARGEST_RANGE};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    StartError,
    assembly::{chunks_of, place_of},
    open,
    recent::Recent,
};
use crate::{FetchError, Store};

/// How long the queue outlives its server.
const ABANDONED: Duration = Duration::from_secs(600);

/// Requests that are answered at once. With the largest range each, 64 MiB are on their way to the broker.
const PREFETCH: u16 = 16;

/// The header that names the content that a message is about.
pub(super) const DIGEST: &str = "digest";

/// Offers a store on a queue.
pub struct Server {
    broker: Arc<dyn Broker>,
    queue: String,
    store: Arc<dyn Store>,
    requests: Consumer,
    stop: CancellationToken,
}

/// Where an answer goes.
struct Reader {
    queue: String,
    correlation_id: Option<String>,
}

impl Server {
    /// Declares the queue and begins to consume it; [`Server::run`] answers.
    ///
    /// # Errors
    /// [`StartError`] when the broker refuses the queue.
    pub async fn start(
        broker: Arc<dyn Broker>,
        queue: String,
        store: Arc<dyn Store>,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let requests = open(&*broker, &queue, QueueKind::Transient { expires: ABANDONED }, PREFETCH).await?;
        Ok(Self { broker, queue, store, requests, stop })
    }

    /// Answers requests until told to stop, or until the queue is deleted or the broker closed. A request that cannot be
    /// read is answered with the reason, or moved to the quarantine where it does not say whom to answer.
    pub async fn run(mut self) {
        let sending = TaskTracker::new();
        let stop = self.stop.clone();
        let mut recent = Recent::default();
        while let Some(next) = stop.run_until_cancelled(self.requests.next()).await {
            let Some(delivery) = next else {
                debug!(queue = self.queue, "the queue of requests for modules is gone");
                break;
            };
            if let Ok(put) = PutRequest::decode(&delivery.message.body) {
                let message = self.keep(put.bytes, &delivery).await;
                let (broker, stop) = (self.broker.clone(), stop.clone());
                sending.spawn(async move {
                    if stop.run_until_cancelled(send(&*broker, message)).await.is_some() {
                        delivery.accept();
                    }
                });
                continue;
            }
            let request = match FetchRequest::decode(&delivery.message.body) {
                Ok(request) => request,
                Err(error) => {
                    let refusing = refuse(self.broker.clone(), self.queue.clone(), delivery, error);
                    sending.spawn(stop.clone().run_until_cancelled_owned(refusing));
                    continue;
                }
            };
            let Some(reader) = Reader::of(&delivery) else {
                warn!(queue = self.queue, "a request for content does not say where to answer; it is dropped");
                delivery.accept();
                continue;
            };
            let Some(content) = stop.run_until_cancelled(self.content(&mut recent, request.digest)).await else {
                break;
            };
            // A task for each, so that waiting for the broker's confirms keeps nobody else waiting; the prefetch bounds
            // how many there are, since each holds its delivery.
            let (broker, stop) = (self.broker.clone(), stop.clone());
            sending.spawn(async move {
                let messages = answers(&request, content, &reader);
                if stop.run_until_cancelled(send(&*broker, messages)).await.is_some() {
                    delivery.accept();
                }
            });
        }
        self.requests.cancel();
        sending.close();
        sending.wait().await;
    }

    /// Keeps a content that came whole; the message that says so, where somebody wants to know.
    async fn keep(&self, bytes: &[u8], delivery: &Delivery) -> Vec<Message> {
        let kept = self.store.put(Bytes::copy_from_slice(bytes)).await;
        let Some(reader) = Reader::of(delivery) else { return Vec::new() };
        vec![match kept {
            Ok(digest) => reader.message(&FetchReply { digest, answer: FetchAnswer::Kept }),
            Err(error) => {
                warn!(queue = self.queue, error = &error as &dyn Error, "a value cannot be kept");
                let digest = error.digest();
                reader.message(&FetchReply { digest, answer: FetchAnswer::Unreadable { reason: &error.to_string() } })
            }
        }]
    }

    /// The content of a digest, from what was served last or from the store.
    async fn content(&self, recent: &mut Recent, digest: Digest) -> Result<Bytes, FetchError> {
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

/// The messages that answer a request.
fn answers(request: &FetchRequest, content: Result<Bytes, FetchError>, reader: &Reader) -> Vec<Message> {
    let digest = request.digest;
    let message = |answer| reader.message(&FetchReply { digest, answer });
    let bytes = match content {
        Ok(bytes) => bytes,
        Err(FetchError::Missing { .. }) => return vec![message(FetchAnswer::Missing)],
        Err(FetchError::Corrupt { actual, .. }) => {
            return vec![message(FetchAnswer::Corrupt { actual })];
        }
        Err(error) => {
            let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            return vec![message(FetchAnswer::Unreadable { reason: &format!("{error}{cause}") })];
        }
    };
    let size = bytes.len() as u64;
    let chunks = request.chunks.start..request.chunks.end.min(chunks_of(size));
    let chunk = |index| {
        let bytes = &bytes[place_of(index, size)];
        message(FetchAnswer::Chunk { size, index, bytes })
    };
    chunks.take(LARGEST_RANGE as usize).map(chunk).collect()
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
async fn refuse(broker: Arc<dyn Broker>, queue: String, delivery: Delivery, error: DecodeError) {
    let digest = delivery.message.properties.headers.get(DIGEST).and_then(|digest| digest.parse().ok());
    let reason = format!("the engine could not read a request for content: {error}");
    warn!(queue, reason, "a request for content is refused");
    match (Reader::of(&delivery), digest) {
        (Some(reader), Some(digest)) => {
            let answer = FetchAnswer::Unreadable { reason: &reason };
            send(&*broker, vec![reader.message(&FetchReply { digest, answer })]).await;
            delivery.accept();
        }
        _ if error.is_loss(delivery.message.persistent) => quarantine(&*broker, delivery, &queue, &reason).await,
        _ => delivery.accept(),
    }
}

impl Reader {
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
