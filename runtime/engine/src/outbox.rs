//! Publishes messages, notifies watchers, and settles signals after that, all for records that are already durable.
//!
//! No state of the outbox has to outlive the process: the next driver of a run sends missing messages from its
//! records.

mod large;
mod publication;
mod rejections;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use broker::{Broker, Delivery, Message, PublishError};
use flow::{QueueName, Size};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use protocol::{EngineSecret, Job, topology as names};
use store::Store;
use tokio::{sync::mpsc, time::timeout};
use traces::{ActiveSpan, Kind};

pub(crate) use self::publication::ConfirmedVersions;
use self::{
    publication::PendingPublication,
    rejections::{Rejected, Rejections, Verdict},
};
use crate::{
    clock::TICK,
    effects::{Effects, JobMessage},
};

/// Maximum number of batches in flight. More would only wait for the broker's confirms.
const IN_FLIGHT: usize = 64;

/// Maximum number of batches that wait for the outbox; then the engine waits.
pub(crate) const OUTBOX_CAPACITY: usize = 16;

/// The number of free places in the outbox's queue that the backlog of changes needs: the rest is for everything else.
const ROOM_FOR_BACKLOG: usize = OUTBOX_CAPACITY / 2;

/// Whether the outbox has room for changes of the backlog.
pub(crate) fn has_room_for_backlog(outbox: &mpsc::Sender<Effects>) -> bool {
    outbox.capacity() >= ROOM_FOR_BACKLOG
}

/// Waits until the outbox has room for changes of the backlog, or has ended. Cancel-safe.
pub(crate) async fn room_for_backlog(outbox: &mpsc::Sender<Effects>) {
    drop(outbox.reserve_many(ROOM_FOR_BACKLOG).await);
}

/// Pause before a message that the broker did not take is published again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The bytes of messages that wait to be published again, at which the outbox takes no further batch. Mostly they are for job queues that
/// are full or do not respond, and each has some hundred bytes. Beyond that, all runs wait: an engine without memory would drive none.
const MAX_RETRY_BYTES: usize = 256 << 20;

/// The bytes that a waiting message takes beside its body.
const MESSAGE_OVERHEAD: usize = 1 << 10;

/// How often an unconfirmed message is published again at once. After that, the cause is not a lost connection: the
/// queue itself does not respond.
const MAX_IMMEDIATE_RETRIES: u32 = 2;

/// Targets that the broker does not confirm, although it is connected. Messages to such a target wait until one of
/// them is confirmed, and do not block messages to other targets. Cheap to clone.
#[derive(Clone, Default)]
struct UnconfirmedTargets(Arc<Mutex<BTreeSet<(String, String)>>>);

impl UnconfirmedTargets {
    fn has(&self, message: &Message) -> bool {
        self.lock().contains(&target(message))
    }

    fn note(&self, message: &Message) {
        self.lock().insert(target(message));
    }

    fn clear(&self, message: &Message) {
        self.lock().remove(&target(message));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(String, String)>> {
        // Each change is a single operation, so the set is always consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn target(message: &Message) -> (String, String) {
    (message.exchange.clone(), message.key.clone())
}

/// The bytes of messages in flight, at which the outbox takes no further batch: it has them all in memory, until the broker confirms them.
const MAX_IN_FLIGHT_BYTES: usize = 64 << 20;

/// A message, and the publication of its run that its confirm completes.
struct OutgoingMessage {
    message: Message,
    /// The job that is the body of the message once it is encoded.
    job: Option<Box<Job>>,
    publication: Option<Arc<PendingPublication>>,
    rejected: Option<Rejected>,
}

impl OutgoingMessage {
    fn new(message: Message) -> Self {
        Self { message, job: None, publication: None, rejected: None }
    }

    /// The bytes that it takes in memory, approximately.
    fn size(&self) -> usize {
        self.message.body.len() + self.job.as_ref().map_or(0, |job| large::values_size(job)) + MESSAGE_OVERHEAD
    }

    /// The message is done: the broker has it, or never will.
    fn complete(&self) {
        self.publication.iter().for_each(|publication| publication.confirm_one());
    }
}

/// The messages that wait to be published again.
#[derive(Default)]
struct RetryQueue {
    messages: Vec<OutgoingMessage>,
    /// The bytes of these messages, and of those that are being published again.
    bytes: usize,
    /// The bytes of the messages that are being published again.
    bytes_in_retry: usize,
    is_full_logged: bool,
}

impl RetryQueue {
    fn add(&mut self, refused: Vec<OutgoingMessage>) {
        self.bytes += bytes_of(&refused);
        self.messages.extend(refused);
    }

    /// The messages that were being published again are done, except these.
    fn end_retry(&mut self, refused: Vec<OutgoingMessage>) {
        self.bytes -= std::mem::take(&mut self.bytes_in_retry);
        self.add(refused);
    }

    /// Takes all messages, to publish them again.
    fn begin_retry(&mut self) -> Vec<OutgoingMessage> {
        self.bytes_in_retry = bytes_of(&self.messages);
        std::mem::take(&mut self.messages)
    }

    /// Whether further messages may come. Logs when they may not.
    fn has_room(&mut self) -> bool {
        let has_room = self.bytes < MAX_RETRY_BYTES;
        if !has_room && !self.is_full_logged {
            let size = Size(self.bytes as u64);
            tracing::error!(%size, "the engine waits: the broker has refused too many messages, or does not confirm them");
        }
        self.is_full_logged = !has_room;
        has_room
    }
}

fn bytes_of(messages: &[OutgoingMessage]) -> usize {
    messages.iter().map(OutgoingMessage::size).sum()
}

/// What publishing needs. Values that are too large for a message go to the store, and the secret makes the keys with which workers
/// fetch them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct OutboxContext {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) secret: EngineSecret,
    unconfirmed_targets: UnconfirmedTargets,
    rejections: Rejections,
}

impl OutboxContext {
    /// Creates the context for a broker and a store.
    pub(crate) fn new(broker: Arc<dyn Broker>, store: Arc<dyn Store>, secret: EngineSecret) -> Self {
        let (unconfirmed_targets, rejections) = (UnconfirmedTargets::default(), Rejections::default());
        Self { broker, store, secret, unconfirmed_targets, rejections }
    }
}

/// Runs until the engine drops its sender, and then until the broker has taken every message that it accepts.
pub(crate) async fn run(context: OutboxContext, mut batches: mpsc::Receiver<Effects>, confirmed: ConfirmedVersions) {
    let broker = context.broker.clone();
    // Each batch with its bytes.
    let mut in_flight: FuturesUnordered<BoxFuture<'static, (usize, Vec<OutgoingMessage>)>> = FuturesUnordered::new();
    let mut bytes_in_flight = 0;
    // These occupy no batch slot: a queue that is full or deleted delays only its own jobs.
    let mut to_retry = RetryQueue::default();
    let mut retrying: Option<BoxFuture<'static, Vec<OutgoingMessage>>> = None;
    let mut publishing_probes: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    let mut is_open = true;
    // Probes too: nobody sends the last permit requests of an engine again.
    while is_open || !in_flight.is_empty() || !publishing_probes.is_empty() {
        // After the last batch, all are taken: the engine ends, and their runs continue elsewhere.
        let is_full = in_flight.len() >= IN_FLIGHT || bytes_in_flight >= MAX_IN_FLIGHT_BYTES;
        let takes_batches = is_open && !is_full && (to_retry.has_room() || batches.is_closed());
        // All arms only receive. Their order is fixed, so that the same batches always go out in the same order.
        tokio::select! {
            biased;
            batch = batches.recv(), if takes_batches => match batch {
                Some(Effects { messages, jobs, probes, watch_events, to_accept, published }) => {
                    let publications = publication::of_batch(&messages, published, &confirmed);
                    let of_message =
                        |(message, publication)| OutgoingMessage { publication, ..OutgoingMessage::new(message) };
                    let of_job =
                        |JobMessage { message, job }| OutgoingMessage { job: Some(job), ..OutgoingMessage::new(message) };
                    let outgoing = messages.into_iter().zip(publications).map(of_message);
                    let outgoing: Vec<OutgoingMessage> = outgoing.chain(jobs.into_iter().map(of_job)).collect();
                    let bytes = bytes_of(&outgoing);
                    bytes_in_flight += bytes;
                    let publishing = publish_all(context.clone(), outgoing, to_accept);
                    in_flight.push(Box::pin(async move { (bytes, publishing.await) }));
                    publishing_probes.extend(probes.into_iter().map(|probe| publish_now(broker.clone(), probe)));
                    for (watcher, event) in watch_events {
                        // The watcher may have left; the run does not depend on it.
                        let _ = watcher.send(event).await;
                    }
                }
                None => is_open = false,
            },
            Some((bytes, refused)) = in_flight.next() => {
                bytes_in_flight -= bytes;
                to_retry.add(refused);
            }
            Some(()) = publishing_probes.next() => {}
            refused = async { retrying.as_mut().expect("it is there").await }, if retrying.is_some() => {
                retrying = None;
                to_retry.end_retry(refused);
            }
        }
        if retrying.is_none() && !to_retry.messages.is_empty() {
            retrying = Some(retry(context.clone(), to_retry.begin_retry()));
        }
    }
    if retrying.is_some() {
        tracing::warn!(
            "the engine stopped before the broker accepted some messages; they are sent again when their runs continue"
        );
    }
}

/// Publishes the messages that the broker takes, and returns those that it refused.
async fn publish_all(
    context: OutboxContext,
    outgoing: Vec<OutgoingMessage>,
    signals: Vec<Delivery>,
) -> Vec<OutgoingMessage> {
    let is_unconfirmed = |outgoing: &OutgoingMessage| context.unconfirmed_targets.has(&outgoing.message);
    let (waiting, outgoing): (Vec<_>, Vec<_>) = outgoing.into_iter().partition(is_unconfirmed);
    // `join_all` first polls its futures in order, so the broker receives the messages in order.
    let published = futures::future::join_all(outgoing.into_iter().map(|outgoing| publish(&context, outgoing))).await;
    signals.into_iter().for_each(Delivery::accept);
    published.into_iter().filter_map(Result::err).chain(waiting).collect()
}

/// Publishes a message until the broker has either taken or refused it, in a span if it is the job of a traced attempt.
async fn publish(context: &OutboxContext, mut outgoing: OutgoingMessage) -> Result<(), OutgoingMessage> {
    let mut span = span_of(&outgoing.message);
    if let Some(job) = outgoing.job.take() {
        outgoing.message.body = large::encode(&*context.store, &context.secret, *job).await.into();
    }
    // A job has its size once it is encoded.
    span.describe(|span| span.set("messaging.message.body.size", outgoing.message.body.len()));
    let published = publish_message(context, outgoing).await;
    if published.is_err() {
        span.fail("refused");
    }
    published
}

/// The span in which the job of a traced attempt is published.
fn span_of(message: &Message) -> ActiveSpan {
    let is_traced = message.exchange == names::JOBS && traces::global().is_some();
    let traceparent = protocol::traceparent(&message.properties.headers).filter(|_| is_traced);
    let attempt = traceparent.and_then(|text| text.parse().ok());
    let mut span = traces::child_of(attempt, Kind::Producer, || format!("publish {}", names::JOBS));
    span.describe(|span| {
        span.set("messaging.system", "rabbitmq");
        span.set("messaging.operation.name", "publish");
        span.set("messaging.operation.type", "send");
        span.set("messaging.destination.name", names::JOBS);
        span.set("messaging.rabbitmq.destination.routing_key", message.key.as_str());
        if let Some(id) = &message.properties.message_id {
            span.set("messaging.message.id", id.as_str());
        }
    });
    span
}

async fn publish_message(context: &OutboxContext, mut outgoing: OutgoingMessage) -> Result<(), OutgoingMessage> {
    let message = &outgoing.message;
    let mut unconfirmed = 0;
    loop {
        match context.broker.publish(message.clone()).await {
            Ok(()) => {
                context.unconfirmed_targets.clear(message);
                outgoing.complete();
                return Ok(());
            }
            Err(error @ PublishError::TooLarge { .. }) => {
                large::give_up(&*context.broker, message, &error).await;
                // It says nothing of the target: the next message is tried at once.
                context.unconfirmed_targets.clear(message);
                outgoing.complete();
                return Ok(());
            }
            // The next driver of the run publishes the message again.
            Err(PublishError::Closed) => return Ok(()),
            Err(error @ PublishError::Unconfirmed { .. }) if unconfirmed < MAX_IMMEDIATE_RETRIES => {
                unconfirmed += 1;
                tracing::debug!(%error, "a message is published again");
                tokio::time::sleep(RETRY_DELAY).await;
            }
            Err(error @ PublishError::Unconfirmed { .. }) => {
                tracing::warn!(%error, "the target does not confirm: its messages wait and are retried");
                context.unconfirmed_targets.note(message);
                return Err(outgoing);
            }
            // The queue was deleted, so its reader no longer exists. A job queue and the quarantine have no owner, and are
            // declared again.
            Err(error @ PublishError::Unroutable { .. }) if names::has_one_reader(&message.exchange) => {
                tracing::warn!(%error, "the target queue was deleted; the message is dropped");
                return Ok(());
            }
            Err(PublishError::Rejected { .. }) if names::has_foreign_readers(&message.exchange) => {
                return match context.rejections.note(&mut outgoing.rejected, &outgoing.message) {
                    Verdict::Repeat => Err(outgoing),
                    Verdict::GiveUp => {
                        outgoing.complete();
                        Ok(())
                    }
                };
            }
            Err(PublishError::Rejected { .. }) => {
                context.rejections.log_full(message);
                return Err(outgoing);
            }
            Err(error @ (PublishError::Unroutable { .. } | PublishError::Refused { .. })) => {
                tracing::warn!(%error, "the broker refused a message; it is published again");
                return Err(outgoing);
            }
        }
    }
}

/// After a pause, declares the queues and exchanges that the messages need, since they may have been deleted, and
/// publishes the messages again. Returns those that are refused once more.
///
/// For an unconfirmed target only the first message is tried: each further one would only wait as well.
fn retry(context: OutboxContext, refused: Vec<OutgoingMessage>) -> BoxFuture<'static, Vec<OutgoingMessage>> {
    Box::pin(async move {
        tokio::time::sleep(RETRY_DELAY).await;
        let mut first = BTreeSet::new();
        let is_tried = |outgoing: &OutgoingMessage| {
            outgoing.rejected.as_ref().is_none_or(Rejected::is_due)
                && (!context.unconfirmed_targets.has(&outgoing.message) || first.insert(target(&outgoing.message)))
        };
        let (refused, waiting): (Vec<_>, Vec<_>) = refused.into_iter().partition(is_tried);
        let jobs = refused.iter().map(|refused| &refused.message).filter(|message| message.exchange == names::JOBS);
        let queues: BTreeSet<QueueName> = jobs.filter_map(|message| QueueName::new(&message.key).ok()).collect();
        if let Err(error) = declare(&*context.broker, queues).await {
            tracing::warn!(%error, "the queues and exchanges of some messages could not be declared");
        }
        let published =
            futures::future::join_all(refused.into_iter().map(|outgoing| publish(&context, outgoing))).await;
        published.into_iter().filter_map(Result::err).chain(waiting).collect()
    })
}

async fn declare(broker: &dyn Broker, queues: BTreeSet<QueueName>) -> Result<(), broker::DeclareError> {
    broker::topology::declare_shared(broker).await?;
    let declaring = queues.iter().map(|queue| broker::topology::declare_jobs(broker, queue));
    futures::future::join_all(declaring).await.into_iter().collect()
}

fn publish_now(broker: Arc<dyn Broker>, probe: Message) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        // The next tick sends another probe.
        let _ = timeout(TICK, broker.publish(probe)).await;
    })
}

#[cfg(test)]
mod tests;
