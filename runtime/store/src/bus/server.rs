//! The serving end: a queue of requests and a queue of puts in front of a store.

use std::{
    collections::BTreeMap,
    error::Error,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use broker::{
    Broker, Consumer, Delivery, Message, Properties, QueueKind, Refusals, Routing, quarantine,
    topology::{bindings_by_name, keep_bound},
};
use bytes::Bytes;
use flow::{Digest, Limits};
use futures::future;
use protocol::{
    EngineSecret, FetchPart, FetchReply, FetchRequest, FetchResponse, OpenError, PutRequest, ReplyAddress, ReplyQueue,
    fetch::{MAX_RANGE_CHUNKS, MAX_REPLY_SIGNATURES},
    topology as names,
};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    StartError,
    assembly::{byte_range, chunks_of},
    content_cache::ContentCache,
    open,
    put_budget::{BudgetError, PutBudget},
};
use crate::{FetchError, PutError, Signature, Store};

/// How long the queue outlives its server.
const QUEUE_EXPIRY: Duration = Duration::from_secs(600);

/// The maximum number of concurrent requests. With the largest range each, 64 MiB are in flight to the broker.
const PREFETCH: u16 = 16;

/// The maximum number of concurrent puts. Each content is one message, so memory for this many of the largest is needed.
const PUTS: u16 = 4;

/// The exchanges through which requests arrive: from those who need content, and from the quarantine.
const EXCHANGES: [&str; 2] = [names::CONTENT, names::RELEASED];

/// How long the broker may take for the replies to one request. Whoever got none asks again.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of tasks that reply to requests; a refused request beyond it gets no reply.
const MAX_REPLY_TASKS: usize = 2 * PREFETCH as usize;

/// Why a request with a valid seal has no effect.
const NO_REPLY_QUEUE: &str = "a request for content that names no queue for replies";

/// Why a refused request gets no reply.
const TOO_MANY_REFUSED: &str = "a request for content, while the replies to many others wait";

/// The header with the digest of a message's content.
pub(super) const DIGEST: &str = "digest";

/// Offers a store on a queue.
pub struct Server {
    broker: Arc<dyn Broker>,
    queue: String,
    store: Arc<dyn Store>,
    secret: EngineSecret,
    requests: Consumer,
    puts: Consumer,
    max_output: u64,
    stop: CancellationToken,
}

/// The destination of a reply.
struct ReplyTarget {
    queue: ReplyQueue,
    id: String,
}

impl Server {
    /// Declares the request queue and the put queue, and starts to consume them; [`Server::run`] serves them.
    ///
    /// # Errors
    /// [`StartError`] when the broker refuses a queue.
    pub async fn start(
        broker: Arc<dyn Broker>,
        queue: String,
        store: Arc<dyn Store>,
        secret: EngineSecret,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let kind = QueueKind::Transient { expires: QUEUE_EXPIRY };
        let requests = open(&*broker, &queue, kind.clone(), &EXCHANGES, PREFETCH).await?;
        let puts = open(&*broker, &names::store_put_queue(&queue), kind, &EXCHANGES, PUTS).await?;
        Ok(Self { broker, queue, store, secret, requests, puts, max_output: Limits::maximum().output, stop })
    }

    /// Refuses values with more bytes than the output of a task may have here.
    #[must_use]
    pub fn with_max_output(self, max_output: u64) -> Self {
        Self { max_output, ..self }
    }

    /// Serves requests until cancelled, or until both queues are deleted or the broker is closed. An unreadable request is
    /// answered with the reason, or moved to the quarantine if it has no reply queue.
    pub async fn run(self) {
        let Self { broker, queue, store, secret, requests, puts, max_output, stop } = self;
        let refusals = Arc::new(Refusals::default());
        let budget = Arc::new(Mutex::new(PutBudget::new(max_output)));
        let server = |queue| QueueServer {
            broker: broker.clone(),
            queue,
            store: store.clone(),
            secret,
            refusals: refusals.clone(),
            budget: budget.clone(),
            stop: stop.clone(),
        };
        let put_queue = names::store_put_queue(&queue);
        let bindings = [&queue, &put_queue].map(|queue| bindings_by_name(queue, &EXCHANGES)).concat();
        // Each kind has its own queue, so that a fetch never waits for a put.
        let serving = future::join(server(queue).serve_requests(requests), server(put_queue).serve_puts(puts));
        keep_bound(&*broker, &bindings, serving).await;
    }
}

/// Serves one of the server's queues.
struct QueueServer {
    broker: Arc<dyn Broker>,
    queue: String,
    store: Arc<dyn Store>,
    secret: EngineSecret,
    refusals: Arc<Refusals>,
    /// What each call has stored.
    budget: Arc<Mutex<PutBudget>>,
    stop: CancellationToken,
}

impl QueueServer {
    /// Serves requests for content.
    async fn serve_requests(self, mut requests: Consumer) {
        let reply_tasks = TaskTracker::new();
        let mut recent = ContentCache::default();
        while let Some(delivery) = self.next(&mut requests).await {
            let target = ReplyTarget::of(&delivery);
            let opened =
                FetchRequest::open(&delivery.message.body, ReplyTarget::address(target.as_ref()), &self.secret);
            let (request, target) = match (opened, target) {
                (Ok(request), Some(target)) => (request, target),
                (Ok(_), None) => {
                    self.refusals.log(&self.queue, NO_REPLY_QUEUE);
                    delivery.accept();
                    continue;
                }
                (Err(error), target) => {
                    // A refused request is accepted before its reply, so the prefetch does not limit the number of tasks.
                    if reply_tasks.len() >= MAX_REPLY_TASKS {
                        self.refusals.log(&self.queue, TOO_MANY_REFUSED);
                        delivery.accept();
                        continue;
                    }
                    let (broker, refusals) = (self.broker.clone(), self.refusals.clone());
                    self.spawn(&reply_tasks, reject(broker, refusals, self.queue.clone(), (delivery, target), error));
                    continue;
                }
            };
            let chunks = match request.part {
                FetchPart::Chunks(chunks) => chunks,
                FetchPart::Signatures => {
                    let (broker, store, digest) = (self.broker.clone(), self.store.clone(), request.digest);
                    self.spawn(&reply_tasks, async move {
                        send(&*broker, vec![signatures_reply(&*store, digest, &target).await]).await;
                        delivery.accept();
                    });
                    continue;
                }
            };
            // Requests are handled one by one. Several readers of a content cost one read, and only one content is in memory
            // besides the recently served ones.
            let content = self.content(&mut recent, request.digest);
            let Some(content) = self.stop.run_until_cancelled(content).await else {
                break;
            };
            // Each reply has its own task, so that waiting for the broker's confirms delays no other request. Each task
            // holds its delivery, so the prefetch limits the number of tasks.
            let broker = self.broker.clone();
            self.spawn(&reply_tasks, async move {
                send(&*broker, replies(request.digest, chunks, content, &target)).await;
                delivery.accept();
            });
        }
        requests.cancel();
        reply_tasks.close();
        reply_tasks.wait().await;
    }

    /// Serves puts, several at once: the prefetch limits how many.
    async fn serve_puts(self, mut puts: Consumer) {
        let put_tasks = TaskTracker::new();
        while let Some(delivery) = self.next(&mut puts).await {
            let (broker, store, queue, secret) =
                (self.broker.clone(), self.store.clone(), self.queue.clone(), self.secret);
            let (refusals, budget) = (self.refusals.clone(), self.budget.clone());
            let has_room = put_tasks.len() < MAX_REPLY_TASKS;
            self.spawn(&put_tasks, async move {
                let body = delivery.message.body.clone();
                let target = ReplyTarget::of(&delivery);
                let opened = PutRequest::open(&body, ReplyTarget::address(target.as_ref()), &secret);
                let (bytes, call, target) = match (opened, target) {
                    (Ok(put), Some(target)) => (body.slice_ref(put.bytes), put.call, target),
                    (Ok(_), None) => {
                        refusals.log(&queue, NO_REPLY_QUEUE);
                        return delivery.accept();
                    }
                    (Err(_), _) if !has_room => {
                        refusals.log(&queue, TOO_MANY_REFUSED);
                        return delivery.accept();
                    }
                    (Err(error), target) => return reject(broker, refusals, queue, (delivery, target), error).await,
                };
                let spent = budget.lock().unwrap_or_else(PoisonError::into_inner).spend(&call, bytes.len() as u64);
                if let Err(error) = spent {
                    refusals.log(&queue, &format!("a value of {call}: {error}"));
                    send(&*broker, over_budget(&target, &delivery, error).into_iter().collect()).await;
                    return delivery.accept();
                }
                let result = store.put(bytes).await;
                send(&*broker, vec![put_reply(&target, &queue, &secret, result)]).await;
                delivery.accept();
            });
        }
        puts.cancel();
        put_tasks.close();
        put_tasks.wait().await;
    }

    /// The next delivery that arrived through an exchange for requests; `None` once cancelled.
    async fn next(&self, consumer: &mut Consumer) -> Option<Delivery> {
        loop {
            let Some(delivery) = self.stop.run_until_cancelled(consumer.next()).await? else {
                debug!(queue = self.queue, "a queue of the store was deleted");
                return None;
            };
            if EXCHANGES.contains(&delivery.message.exchange.as_str()) {
                return Some(delivery);
            }
            self.refusals.log(&self.queue, "a request for content that arrived through another exchange");
            delivery.accept();
        }
    }

    /// Runs work until cancelled; its delivery then goes back to the queue.
    fn spawn(&self, tasks: &TaskTracker, work: impl Future<Output = ()> + Send + 'static) {
        tasks.spawn(self.stop.clone().run_until_cancelled_owned(work));
    }

    /// The content of a digest, from the recently served contents or from the store.
    async fn content(&self, recent: &mut ContentCache, digest: Digest) -> Result<Bytes, FetchError> {
        if let Some(bytes) = recent.get(digest) {
            return Ok(bytes);
        }
        let bytes = self.store.fetch(&digest).await.inspect_err(|error| {
            warn!(queue = self.queue, error = error as &dyn Error, "a requested module cannot be served");
        })?;
        recent.insert(digest, bytes.clone());
        Ok(bytes)
    }
}

/// The reply to a put.
fn put_reply(target: &ReplyTarget, queue: &str, secret: &EngineSecret, result: Result<Digest, PutError>) -> Message {
    match result {
        Ok(digest) => {
            let response = FetchResponse::Stored { key: secret.content_key(&digest) };
            target.message(&FetchReply { digest, response })
        }
        Err(error) => {
            warn!(queue, error = &error as &dyn Error, "a value cannot be stored");
            let digest = error.digest();
            target.message(&FetchReply { digest, response: FetchResponse::Unreadable { reason: &error.to_string() } })
        }
    }
}

/// The reply to a put that is too large, or too large together with earlier ones of its call; `None` if it names no content.
fn over_budget(target: &ReplyTarget, delivery: &Delivery, error: BudgetError) -> Option<Message> {
    let digest = delivery.message.properties.headers.get(DIGEST)?.parse().ok()?;
    Some(target.message(&FetchReply { digest, response: FetchResponse::Unreadable { reason: &error.to_string() } }))
}

/// The reply to a request for signatures.
async fn signatures_reply(store: &dyn Store, digest: Digest, target: &ReplyTarget) -> Message {
    let signatures = match store.signatures(&digest).await {
        Ok(signatures) => signatures,
        Err(error) => {
            warn!(%digest, error = &error as &dyn Error, "the signatures of a module cannot be served");
            let reason = format!("its signatures: {error}");
            return target.message(&FetchReply { digest, response: FetchResponse::Unreadable { reason: &reason } });
        }
    };
    let texts = signatures.iter().take(MAX_REPLY_SIGNATURES).map(Signature::as_str).collect();
    target.message(&FetchReply { digest, response: FetchResponse::Signatures(texts) })
}

/// The replies to a request for chunks.
fn replies(
    digest: Digest,
    requested: Range<u32>,
    content: Result<Bytes, FetchError>,
    target: &ReplyTarget,
) -> Vec<Message> {
    let message = |response| target.message(&FetchReply { digest, response });
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
    let chunks = requested.start..requested.end.min(chunks_of(size));
    let chunk = |index| {
        let bytes = &bytes[byte_range(index, size)];
        message(FetchResponse::Chunk { size, index, bytes })
    };
    chunks.take(MAX_RANGE_CHUNKS as usize).map(chunk).collect()
}

/// Sends replies. A lost reply is requested again; a client that has disconnected needs none.
async fn send(broker: &dyn Broker, messages: Vec<Message>) {
    let published = future::join_all(messages.into_iter().map(|message| broker.publish(message)));
    let Ok(results) = timeout(REPLY_TIMEOUT, published).await else {
        debug!("the broker did not confirm the replies to a request for content in time");
        return;
    };
    for result in results {
        if let Err(error) = result {
            debug!(%error, "a reply to a request for content may be lost");
        }
    }
}

/// Answers a request that is unreadable, or whose sender has no right to it, if it names a reply queue and a content.
/// Otherwise moves it to the quarantine, unless the sender repeats it or has no right to it.
///
/// The request is accepted before its answer is confirmed: a stalled answer must not bring the request back.
async fn reject(
    broker: Arc<dyn Broker>,
    refusals: Arc<Refusals>,
    queue: String,
    (delivery, target): (Delivery, Option<ReplyTarget>),
    error: OpenError,
) {
    let digest = delivery.message.properties.headers.get(DIGEST).and_then(|digest| digest.parse().ok());
    let reason = format!("the engine could not read a request for content: {error}");
    let response = match &error {
        OpenError::Unreadable(_) => {
            refusals.log(&queue, &reason);
            FetchResponse::Unreadable { reason: &reason }
        }
        OpenError::Forged => {
            refusals.log(&queue, "a request for content: no job of its sender names it, or it is for another logbook");
            FetchResponse::Refused
        }
    };
    match (digest.zip(target), error) {
        (Some((digest, target)), _) => {
            delivery.accept();
            send(&*broker, vec![target.message(&FetchReply { digest, response })]).await;
        }
        (_, OpenError::Unreadable(error)) if error.is_loss(delivery.message.persistent) => {
            quarantine(&*broker, delivery, &queue, &reason).await;
        }
        _ => delivery.accept(),
    }
}

impl ReplyTarget {
    /// The reply target of a request; `None` if it names none, or a queue to which no reply may go.
    fn of(delivery: &Delivery) -> Option<Self> {
        let Properties { reply_to, correlation_id, .. } = &delivery.message.properties;
        let queue = ReplyQueue::parse(reply_to.as_deref()?)?;
        Some(Self { queue, id: correlation_id.clone().unwrap_or_default() })
    }

    /// The address that the seal of the request includes.
    fn address(target: Option<&Self>) -> ReplyAddress<'_> {
        target.map_or(ReplyAddress { queue: "", id: "" }, |target| ReplyAddress {
            queue: target.queue.as_str(),
            id: &target.id,
        })
    }

    fn message(&self, reply: &FetchReply<'_>) -> Message {
        Message {
            exchange: names::REPLIES.to_owned(),
            key: self.queue.as_str().to_owned(),
            routing: Routing::Optional,
            persistent: false,
            priority: 0,
            properties: Properties {
                correlation_id: Some(self.id.clone()),
                headers: BTreeMap::from([(DIGEST.into(), reply.digest.to_string())]),
                ..Properties::default()
            },
            body: reply.encode().into(),
        }
    }
}
