//! Sends requests to the engine that drives a run, through the queue of its shard. That may be a remote engine.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use broker::{Broker, Consumer, Message, Properties, PublishError, Queue, QueueKind, RequestIds, Routing};
use bytes::Bytes;
use flow::{Shard, Size};
use protocol::{CommandRequest, EngineSecret, EngineStatus, PermitsAnswer, PermitsQuestion, Reply, Report, topology};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{StartError, messages, supervisor::Supervisor};

/// Maximum number of unsettled replies: people send requests, not programs in a loop.
const PREFETCH: u16 = 64;

/// The maximum size of a command, in bytes. The largest ones are edits, which have a whole flow with its text. Every broker takes more
/// than that by default, and engines hold many commands at once.
const MAX_COMMAND_BYTES: usize = 8 << 20;

type PendingReplies = Arc<Mutex<HashMap<String, oneshot::Sender<Bytes>>>>;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteEngineError {
    #[error("the question could not be sent: {0}")]
    Publish(#[from] PublishError),
    #[error("the answer cannot be read")]
    Decode(#[from] protocol::DecodeError),
    #[error("{reason}")]
    TooLarge { reason: String },
    #[error("the engine is stopping")]
    Stopping,
}

/// Sends requests to engines and receives their replies. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RemoteEngineClient {
    broker: Arc<dyn Broker>,
    queue: String,
    pending: PendingReplies,
    secret: EngineSecret,
    ids: Arc<RequestIds>,
}

impl RemoteEngineClient {
    /// Declares the reply queue and starts to consume it.
    pub(crate) async fn start(
        broker: Arc<dyn Broker>,
        engine: &str,
        secret: EngineSecret,
        parts: &Supervisor,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let queue = topology::reply_queue(engine);
        let reply_queue = Queue { name: queue.clone(), kind: QueueKind::Private };
        broker::topology::declare_bound(&*broker, &reply_queue, &[topology::REPLIES]).await?;
        let answers = broker.consume(&queue, PREFETCH).await?;
        let waiting = PendingReplies::default();
        let bindings = broker::topology::bindings_by_name(&queue, &[topology::REPLIES]);
        let (bound, receiving) = (broker.clone(), receive(answers, waiting.clone(), stop));
        parts.spawn("answers", async move { broker::topology::keep_bound(&*bound, &bindings, receiving).await });
        Ok(Self { broker, queue, pending: waiting, secret, ids: Arc::new(RequestIds::random()) })
    }

    /// Sends a request to the engine that drives a shard, and waits for its reply. Dropping the future abandons the
    /// reply.
    pub(crate) async fn request(&self, shard: &Shard, request: CommandRequest) -> Result<Reply, RemoteEngineError> {
        let id = self.ids.next();
        let message = messages::request(shard, request, self.queue.clone(), id.clone(), &self.secret);
        let size = message.body.len();
        if size > MAX_COMMAND_BYTES {
            let [size, max] = [size, MAX_COMMAND_BYTES].map(|bytes| Size(bytes as u64));
            return Err(RemoteEngineError::TooLarge { reason: format!("it has {size:#}, and the maximum is {max}") });
        }
        Ok(Reply::decode(&self.request_message(id, message).await?)?)
    }

    /// Asks the engine that drives a shard who it is. Dropping the future abandons the answer.
    pub(crate) async fn describe(&self, shard: &Shard) -> Result<EngineStatus, RemoteEngineError> {
        Ok(EngineStatus::decode(&self.ask(shard, &Report::DescribeEngine).await?)?)
    }

    /// Asks the engine that drives a shard which calls hold permits or wait for them. Dropping the future abandons the answer.
    pub(crate) async fn permits(
        &self,
        shard: &Shard,
        question: PermitsQuestion,
    ) -> Result<PermitsAnswer, RemoteEngineError> {
        Ok(PermitsAnswer::decode(&self.ask(shard, &Report::DescribePermits(question)).await?)?)
    }

    async fn ask(&self, shard: &Shard, question: &Report) -> Result<Bytes, RemoteEngineError> {
        let id = self.ids.next();
        let message = messages::question(shard, question, (self.queue.clone(), id.clone()), &self.secret);
        self.request_message(id, message).await
    }

    /// Sends a message to this engine itself, through the broker.
    pub(crate) async fn check(&self) -> Result<(), RemoteEngineError> {
        let id = self.ids.next();
        let message = Message {
            exchange: topology::REPLIES.into(),
            key: self.queue.clone(),
            routing: Routing::Mandatory,
            persistent: false,
            priority: 0,
            properties: Properties { correlation_id: Some(id.clone()), ..Properties::default() },
            body: Bytes::new(),
        };
        self.request_message(id, message).await.map(|_| ())
    }

    /// Sends a message with this correlation id, and waits for the reply with it.
    async fn request_message(&self, id: String, message: Message) -> Result<Bytes, RemoteEngineError> {
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = lock(&self.pending);
            // Requests whose caller has gone are removed with the next request.
            waiting.retain(|_, answer| !answer.is_closed());
            waiting.insert(id, answer);
        }
        self.broker.publish(message).await?;
        answered.await.map_err(|_| RemoteEngineError::Stopping)
    }
}

async fn receive(mut answers: Consumer, waiting: PendingReplies, stop: CancellationToken) {
    while let Some(Some(delivery)) = stop.run_until_cancelled(answers.next()).await {
        let is_of_engine = delivery.message.exchange == topology::REPLIES;
        let id = delivery.message.properties.correlation_id.as_deref().unwrap_or_default();
        if is_of_engine && let Some(answer) = lock(&waiting).remove(id) {
            // The requester may have disconnected.
            let _ = answer.send(delivery.message.body.clone());
        }
        delivery.accept();
    }
    lock(&waiting).clear();
}

fn lock(waiting: &PendingReplies) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Bytes>>> {
    // Each insertion or removal is a single operation, so a panic in another thread leaves no partial one.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
