//! The requesting end: one queue for the replies to all fetches, and one task that dispatches them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use broker::{
    Broker, Consumer, Message, Properties, PublishError, QueueKind, RequestIds, Routing,
    topology::{bindings_by_name, keep_bound},
};
use bytes::Bytes;
use flow::{CallId, Digest};
use protocol::{
    FetchPart, FetchReply, FetchResponse, Key, PutRequest, ReplyAddress,
    topology::{self, store_put_queue},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    SendError, StartError,
    assembly::WINDOW_CHUNKS,
    fetch::{ChunkRequester, Fetch, MAX_MISSING_QUEUE},
    open,
    server::DIGEST,
};
use crate::{FetchError, Signature, blocking::blocking, digest::digest_of};

/// The maximum number of unsettled replies at the client: one window, which one fetch can have in flight.
const PREFETCH: u16 = WINDOW_CHUNKS as u16;

/// The number of replies that can wait for one fetch: a window, and as many duplicates. Replies beyond that are dropped and
/// requested again.
const REPLY_CAPACITY: usize = 2 * WINDOW_CHUNKS as usize;

/// How long a store may take for a put before it is sent again; after the last delay, the put fails.
const PUT_RETRY_DELAYS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(15)];

/// How long a store may take for the signatures of a content before they are requested again; after the last delay, the request
/// fails.
const SIGNATURES_RETRY_DELAYS: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(3), Duration::from_secs(5), Duration::from_secs(10)];

/// The maximum number of fetches that wait for registration, which takes no time.
const MAX_PENDING_REGISTRATIONS: usize = 16;

/// Fetches content from the stores that engines offer. Cheap to clone; ends with its last clone or with [`Client::close`].
#[derive(Clone)]
pub struct Client {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    broker: Arc<dyn Broker>,
    reply_queue: String,
    register: mpsc::Sender<FetchRegistration>,
    ids: RequestIds,
    stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// A fetch that waits for replies.
struct FetchRegistration {
    id: String,
    replies: mpsc::Sender<Bytes>,
}

impl Client {
    /// Declares the reply queue, and consumes it. Replies come to the name of the queue, which must be unique.
    ///
    /// # Errors
    /// [`StartError`] when the broker refuses it.
    pub async fn new(broker: Arc<dyn Broker>, reply_queue: String) -> Result<Self, StartError> {
        let consumer = open(&*broker, &reply_queue, QueueKind::Private, &[topology::REPLIES], PREFETCH).await?;
        let (register, registrations) = mpsc::channel(MAX_PENDING_REGISTRATIONS);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let bindings = bindings_by_name(&reply_queue, &[topology::REPLIES]);
        let (bound, dispatching) = (broker.clone(), dispatch(consumer, registrations, stop.clone()));
        tasks.spawn(async move { keep_bound(&*bound, &bindings, dispatching).await });
        tasks.close();
        let shared = Shared { broker, reply_queue, register, ids: RequestIds::random(), stop, tasks };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Fetches the bytes of a digest, at most `max_bytes` of them, from the server on `queue`, and checks them against the
    /// digest. The key is that of the content, from a job that names it. Dropping the future cancels the fetch.
    ///
    /// # Errors
    /// [`FetchError`] when the bytes are missing, wrong, or do not arrive.
    pub async fn fetch(&self, queue: &str, digest: Digest, key: Key, max_bytes: u64) -> Result<Bytes, FetchError> {
        let Shared { broker, reply_queue, register, ids, .. } = &*self.shared;
        let id = ids.next();
        let (sender, replies) = mpsc::channel(REPLY_CAPACITY);
        let registration = FetchRegistration { id: id.clone(), replies: sender };
        register.send(registration).await.map_err(|_| FetchError::Closed { digest })?;
        let requester = ChunkRequester { broker: &**broker, queue, reply_queue, id: &id, digest, key };
        Fetch::new(requester, replies, max_bytes).run().await
    }

    /// Fetches and checks the signatures of a content from the server on `queue`. The key is that of the content, from a job that
    /// names it. Texts that are no signature of the content are left out. Dropping the future cancels the request.
    ///
    /// # Errors
    /// [`FetchError`] when the store cannot read them, or no answer arrives.
    pub async fn signatures(&self, queue: &str, digest: Digest, key: Key) -> Result<Vec<Signature>, FetchError> {
        let Shared { broker, reply_queue, register, ids, .. } = &*self.shared;
        let id = ids.next();
        let (sender, mut replies) = mpsc::channel(REPLY_CAPACITY);
        let registration = FetchRegistration { id: id.clone(), replies: sender };
        register.send(registration).await.map_err(|_| FetchError::Closed { digest })?;
        let requester = ChunkRequester { broker: &**broker, queue, reply_queue, id: &id, digest, key };
        let (started, mut queue_misses) = (Instant::now(), 0);
        for delay in SIGNATURES_RETRY_DELAYS {
            match broker.publish(requester.message(FetchPart::Signatures)).await {
                Err(PublishError::Closed) => return Err(FetchError::Closed { digest }),
                Err(PublishError::Unroutable { .. }) => {
                    queue_misses += 1;
                    if queue_misses == MAX_MISSING_QUEUE {
                        return Err(FetchError::QueueMissing { digest, queue: queue.to_owned() });
                    }
                }
                // The name of the queue is the only part of it that can be too large, and no queue has such a name.
                Err(PublishError::TooLarge { .. }) => {
                    return Err(FetchError::QueueMissing { digest, queue: queue.to_owned() });
                }
                // The request may have arrived.
                Ok(())
                | Err(
                    PublishError::Unconfirmed { .. } | PublishError::Rejected { .. } | PublishError::Refused { .. },
                ) => {}
            }
            let Ok(reply) = timeout(delay, replies.recv()).await else { continue };
            let reply = reply.ok_or(FetchError::Closed { digest })?;
            match FetchReply::decode(&reply) {
                Ok(FetchReply { digest: of, response: FetchResponse::Signatures(texts) }) if of == digest => {
                    let texts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
                    return Ok(blocking(move || read_signatures(digest, &texts)).await);
                }
                Ok(FetchReply { response: FetchResponse::Refused, .. }) => {
                    return Err(FetchError::Refused { digest, queue: queue.to_owned() });
                }
                Ok(FetchReply { response: FetchResponse::Unreadable { reason }, .. }) => {
                    let (queue, reason) = (queue.to_owned(), reason.to_owned());
                    return Err(FetchError::Unreadable { digest, queue, reason });
                }
                Ok(_) | Err(_) => warn!(queue, %digest, "an unexpected reply to a request for signatures is dropped"),
            }
        }
        Err(FetchError::TimedOut { digest, queue: queue.to_owned(), waited: started.elapsed() })
    }

    /// Puts bytes that a call has made into the store behind `queue`, and returns their digest and its key once the store has
    /// them. The given key is that of the call. Dropping the future is safe: the store then has them or not.
    ///
    /// # Errors
    /// [`SendError`] when the store may not have the bytes.
    pub async fn put(&self, queue: &str, bytes: Bytes, call: CallId, key: Key) -> Result<(Digest, Key), SendError> {
        let Shared { broker, reply_queue, register, ids, .. } = &*self.shared;
        let id = ids.next();
        let (sender, mut replies) = mpsc::channel(REPLY_CAPACITY);
        register.send(FetchRegistration { id: id.clone(), replies: sender }).await.map_err(|_| SendError::Closed)?;
        let (digest, bytes) = blocking(move || (digest_of(&bytes), bytes)).await;
        let body = PutRequest { bytes: &bytes, call }.encode(&key, ReplyAddress { queue: reply_queue, id: &id });
        let message = Message {
            exchange: topology::CONTENT.to_owned(),
            key: store_put_queue(queue),
            routing: Routing::Mandatory,
            persistent: false,
            priority: 0,
            properties: Properties {
                reply_to: Some(reply_queue.clone()),
                correlation_id: Some(id.clone()),
                headers: [(DIGEST.to_owned(), digest.to_string())].into(),
                ..Properties::default()
            },
            body: body.into(),
        };
        for delay in PUT_RETRY_DELAYS {
            match broker.publish(message.clone()).await {
                Ok(())
                | Err(
                    PublishError::Unconfirmed { .. } | PublishError::Rejected { .. } | PublishError::Refused { .. },
                ) => {}
                Err(PublishError::Unroutable { .. }) => return Err(SendError::EngineGone { queue: queue.to_owned() }),
                Err(PublishError::TooLarge { reason, .. }) => return Err(SendError::TooLarge { reason }),
                Err(PublishError::Closed) => return Err(SendError::Closed),
            }
            let Ok(reply) = timeout(delay, replies.recv()).await else { continue };
            let reply = reply.ok_or(SendError::Closed)?;
            match FetchReply::decode(&reply) {
                Ok(FetchReply { digest: stored, response: FetchResponse::Stored { key } }) if stored == digest => {
                    return Ok((digest, key));
                }
                Ok(FetchReply { response: FetchResponse::Refused, .. }) => {
                    return Err(SendError::Refused { queue: queue.to_owned() });
                }
                Ok(FetchReply { response: FetchResponse::Unreadable { reason }, .. }) => {
                    return Err(SendError::NotStored { queue: queue.to_owned(), reason: reason.to_owned() });
                }
                Ok(_) | Err(_) => warn!(queue, %digest, "an unexpected reply to a put is dropped"),
            }
        }
        Err(SendError::TimedOut { queue: queue.to_owned() })
    }

    /// Ends all fetches and the consumer, and returns when that is done.
    pub async fn close(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.wait().await;
    }
}

/// Checks each text. Checking takes long enough to block a thread.
fn read_signatures(digest: Digest, texts: &[String]) -> Vec<Signature> {
    let read = |text: &String| match text.parse::<Signature>() {
        Ok(signature) if *signature.digest() == digest => Some(signature),
        Ok(signature) => {
            warn!(%digest, other = %signature.digest(), "a signature of another module is left out");
            None
        }
        Err(error) => {
            warn!(%digest, %error, "a signature is left out");
            None
        }
    };
    texts.iter().filter_map(read).collect()
}

/// Hands each reply to its fetch. Never waits for a fetch, so that no fetch delays the replies of another.
async fn dispatch(
    mut consumer: Consumer,
    mut registrations: mpsc::Receiver<FetchRegistration>,
    stop: CancellationToken,
) {
    let mut fetches: HashMap<String, mpsc::Sender<Bytes>> = HashMap::new();
    loop {
        // All branches are cancel-safe by their documentation. Biased, because a fetch registers before it sends a request: in
        // this order, no reply arrives for an unregistered fetch.
        let delivery = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            registration = registrations.recv() => {
                let Some(FetchRegistration { id, replies }) = registration else { return };
                fetches.retain(|_, replies| !replies.is_closed());
                fetches.insert(id, replies);
                continue;
            }
            delivery = consumer.next() => delivery,
        };
        let Some(delivery) = delivery else {
            warn!("the reply queue was deleted: nothing can be fetched any more");
            return;
        };
        if delivery.message.exchange != topology::REPLIES {
            debug!("a reply is dropped: it is of no engine");
            delivery.accept();
            continue;
        }
        let id = delivery.message.properties.correlation_id.as_deref().unwrap_or_default();
        match fetches.get(id).map(|replies| replies.try_send(delivery.message.body.clone())) {
            Some(Ok(())) => {}
            Some(Err(_)) => {
                debug!(fetch = id, "a reply is dropped: its fetch has ended, or has too many unread replies")
            }
            None => debug!(fetch = id, "a reply is dropped: its fetch is unknown"),
        }
        delivery.accept();
    }
}
