//! Publishes messages, notifies watchers, and settles signals after that, all for records that are already durable.
//!
//! No state of the outbox has to outlive the process: the next driver of a run sends missing messages from its
//! records.

mod large;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use broker::{Broker, Delivery, Message, PublishError};
use flow::{QueueName, RunId};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use logbook::Version;
use protocol::{EngineSecret, topology as names};
use store::Store;
use tokio::{sync::mpsc, time::timeout};

use crate::{clock::TICK, effects::Effects};

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

/// How often an unconfirmed message is published again at once. After that, the cause is not a lost connection: the
/// queue itself does not respond.
const MAX_IMMEDIATE_RETRIES: u32 = 2;

/// The versions whose messages the broker has confirmed. The outbox adds to them, and the driver takes them once per
/// batch. Cheap to clone. It has at most the versions sent since the driver last took them. Nothing blocks on it.
#[derive(Clone, Default)]
pub(crate) struct ConfirmedVersions(Arc<Mutex<Vec<(RunId, Version)>>>);

impl ConfirmedVersions {
    /// Takes all versions that were added since the last call.
    pub(crate) fn take(&self) -> Vec<(RunId, Version)> {
        std::mem::take(&mut *self.lock())
    }

    fn add(&self, published: &[(RunId, Version)]) {
        self.lock().extend_from_slice(published);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(RunId, Version)>> {
        // A panic in another thread leaves no partial entry.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The versions of a batch whose notifications are not all confirmed yet.
struct PendingPublication {
    left: AtomicUsize,
    published: Vec<(RunId, Version)>,
    confirmed: ConfirmedVersions,
}

impl PendingPublication {
    fn confirm_one(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.confirmed.add(&self.published);
        }
    }
}

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

/// A message, and the publication that its confirm completes.
struct OutgoingMessage {
    message: Message,
    publication: Option<Arc<PendingPublication>>,
}

/// Prepares the messages of a batch. Its versions count as published once all its notifications are confirmed; jobs
/// do not matter for that.
fn prepare_all(
    messages: Vec<Message>,
    published: Vec<(RunId, Version)>,
    confirmed: &ConfirmedVersions,
) -> Vec<OutgoingMessage> {
    let is_notification = |message: &Message| message.exchange == names::NOTIFICATIONS;
    let left = messages.iter().filter(|message| is_notification(message)).count();
    if left == 0 {
        confirmed.add(&published);
    }
    let publication = (left > 0).then(|| {
        Arc::new(PendingPublication { left: AtomicUsize::new(left), published, confirmed: confirmed.clone() })
    });
    let prepare = |message: Message| {
        let publication = publication.clone().filter(|_| is_notification(&message));
        OutgoingMessage { message, publication }
    };
    messages.into_iter().map(prepare).collect()
}

/// What publishing needs. Values that are too large for a message go to the store, and the secret makes the keys with which workers
/// fetch them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct OutboxContext {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) secret: EngineSecret,
    unconfirmed_targets: UnconfirmedTargets,
}

impl OutboxContext {
    /// Creates the context for a broker and a store.
    pub(crate) fn new(broker: Arc<dyn Broker>, store: Arc<dyn Store>, secret: EngineSecret) -> Self {
        Self { broker, store, secret, unconfirmed_targets: UnconfirmedTargets::default() }
    }
}

/// Runs until the engine drops its sender, and then until the broker has taken every message that it accepts.
pub(crate) async fn run(context: OutboxContext, mut batches: mpsc::Receiver<Effects>, confirmed: ConfirmedVersions) {
    let broker = context.broker.clone();
    let mut in_flight: FuturesUnordered<BoxFuture<'static, Vec<OutgoingMessage>>> = FuturesUnordered::new();
    // These occupy no batch slot: a queue that is full or deleted delays only its own jobs.
    let mut to_retry: Vec<OutgoingMessage> = Vec::new();
    let mut retrying: Option<BoxFuture<'static, Vec<OutgoingMessage>>> = None;
    let mut publishing_probes: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    let mut is_open = true;
    while is_open || !in_flight.is_empty() {
        // All arms only receive. Their order is fixed, so that the same batches always go out in the same order.
        tokio::select! {
            biased;
            batch = batches.recv(), if is_open && in_flight.len() < IN_FLIGHT => match batch {
                Some(Effects { messages, probes, watch_events, to_accept, published }) => {
                    let outgoing = prepare_all(messages, published, &confirmed);
                    in_flight.push(Box::pin(publish_all(context.clone(), outgoing, to_accept)));
                    publishing_probes.extend(probes.into_iter().map(|probe| publish_now(broker.clone(), probe)));
                    for (watcher, event) in watch_events {
                        // The watcher may have left; the run does not depend on it.
                        let _ = watcher.send(event).await;
                    }
                }
                None => is_open = false,
            },
            Some(refused) = in_flight.next() => to_retry.extend(refused),
            Some(()) = publishing_probes.next() => {}
            refused = async { retrying.as_mut().expect("it is there").await }, if retrying.is_some() => {
                retrying = None;
                to_retry.extend(refused);
            }
        }
        if retrying.is_none() && !to_retry.is_empty() {
            retrying = Some(retry(context.clone(), std::mem::take(&mut to_retry)));
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

/// Publishes a message until the broker has either taken or refused it.
async fn publish(context: &OutboxContext, mut outgoing: OutgoingMessage) -> Result<(), OutgoingMessage> {
    large::move_large_values(&*context.store, &context.secret, &mut outgoing.message).await;
    let message = &outgoing.message;
    let mut unconfirmed = 0;
    loop {
        match context.broker.publish(message.clone()).await {
            Ok(()) => {
                context.unconfirmed_targets.clear(message);
                outgoing.publication.iter().for_each(|publication| publication.confirm_one());
                return Ok(());
            }
            Err(error @ PublishError::TooLarge { .. }) => {
                large::give_up(&*context.broker, message, &error).await;
                outgoing.publication.iter().for_each(|publication| publication.confirm_one());
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
            !context.unconfirmed_targets.has(&outgoing.message) || first.insert(target(&outgoing.message))
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
mod tests {
    use broker::{InProcess, Properties, Routing, lossy::LossyConnection};
    use protocol::{Job, Report};
    use tokio::time::Instant;

    use super::*;

    fn context(broker: InProcess) -> OutboxContext {
        OutboxContext::new(Arc::new(broker), Arc::new(store::Memory::new()), EngineSecret::new([7; 32]))
    }

    fn batch() -> Effects {
        let message = Message {
            exchange: names::NOTIFICATIONS.into(),
            key: "f.a.r.success".into(),
            routing: Routing::Optional,
            persistent: true,
            priority: 0,
            properties: Properties::default(),
            body: "{}".into(),
        };
        let published = vec![("r".parse().expect("a valid name"), Version::new(1))];
        Effects { messages: vec![message], published, ..Effects::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_message_is_not_confirmed_until_the_broker_takes_it() {
        let (out, batches) = mpsc::channel(OUTBOX_CAPACITY);
        let (confirmed, start) = (ConfirmedVersions::default(), Instant::now());
        assert!(out.send(batch()).await.is_ok());
        // The exchange does not exist yet.
        let running = run(context(InProcess::new()), batches, confirmed.clone());
        let published = async {
            loop {
                match &confirmed.take()[..] {
                    [] => tokio::time::sleep(RETRY_DELAY).await,
                    published => break published.to_vec(),
                }
            }
        };
        tokio::select! {
            () = running => panic!("it goes on for as long as there may be more"),
            published = tokio::time::timeout(10 * RETRY_DELAY, published) => assert_eq!(published.expect("it is taken"), batch().published),
        }
        assert!(start.elapsed() >= RETRY_DELAY);
    }

    fn job(values: usize) -> Job {
        let value = |number| {
            let name = format!("v{number}").parse().expect("a valid name");
            (name, flow::Value::Bytes(vec![0; flow::MAX_INLINE_BYTES].into()))
        };
        Job {
            call: flow::CallId {
                run: "r".parse().expect("a valid name"),
                task: "t".parse().expect("a valid name"),
                firing: flow::Firing::FIRST,
                attempt: flow::Attempt::FIRST,
                action: flow::Action::Apply,
            },
            flow: "f".parse().expect("a valid name"),
            module: flow::Digest::from_bytes([1; 32]),
            export: None,
            inputs: (0..values).map(value).collect(),
            rollback: None,
            required_outputs: Vec::new(),
            limits: flow::Limits::default(),
            access: flow::Access::default(),
            at: flow::Timestamp::from_micros(0),
            expires_at: None,
            signal_to: "signals".into(),
            fetch_from: "store".into(),
            delivery_limit: None,
            keys: protocol::CallKeys::of_call(protocol::Key::NONE),
        }
    }

    /// Sends a job through a broker with a maximum message size; returns the delivery from the job queue and from the
    /// signal queue.
    async fn sent(job: &Job, max_message_bytes: usize, store: Arc<dyn Store>) -> (Option<Delivery>, Option<Delivery>) {
        let broker = InProcess::new().with_max_message_bytes(max_message_bytes);
        declare(&broker, ["default".parse().expect("a valid name")].into()).await.expect("memory takes it");
        let kind = broker::QueueKind::Exclusive;
        let signals = broker::Queue { name: "signals".into(), kind };
        broker::topology::declare_bound(&broker, &signals, &[names::ENGINES]).await.expect("memory takes it");
        let message = Message {
            exchange: names::JOBS.into(),
            key: "default".into(),
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties: Properties::default(),
            body: job.encode().into(),
        };
        let (out, batches) = mpsc::channel(OUTBOX_CAPACITY);
        assert!(out.send(Effects { messages: vec![message], ..Effects::default() }).await.is_ok());
        drop(out);
        run(
            OutboxContext::new(Arc::new(broker.clone()), store, EngineSecret::new([7; 32])),
            batches,
            ConfirmedVersions::default(),
        )
        .await;
        let mut deliveries = Vec::new();
        for queue in ["waft.jobs.default", "signals"] {
            let mut consumer = broker.consume(queue, 1).await.expect("it is there");
            deliveries.push(timeout(Duration::from_secs(1), consumer.next()).await.ok().flatten());
        }
        let signal = deliveries.pop().flatten();
        (deliveries.pop().flatten(), signal)
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_values_of_a_large_job_go_to_the_store() {
        let store: Arc<dyn Store> = Arc::new(store::Memory::new());
        let job = job(40);
        let (deliveries, signal) = sent(&job, 1 << 20, store.clone()).await;
        let deliveries = Job::decode(&deliveries.expect("it was sent").message.body).expect("a job");
        assert!(deliveries.encode().len() < 1 << 20 && signal.is_none());
        assert_eq!(store::values::load_values(&*store, deliveries.inputs).await, job.inputs, "and nothing is lost");
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_too_large_for_the_broker_fails_its_call() {
        let job = job(2);
        let (deliveries, signal) = sent(&job, 100_000, Arc::new(store::Memory::new())).await;
        assert!(deliveries.is_none());
        let report = Report::decode(&signal.expect("the call is answered").message.body).expect("a report");
        let Report::Signal(flow::Signal { call, answer: flow::TaskResult::Failed(failure), .. }, _) = report else {
            panic!("{report:?}")
        };
        assert_eq!((call, failure.kind), (job.call.clone(), flow::FailureKind::Permanent));
        assert!(failure.message.contains("the job of this call has 128.1KiB"), "{failure}");
        assert!(failure.message.contains("are more than 100000"), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unconfirmed_queue_blocks_no_other() {
        let memory = InProcess::new();
        let broker = LossyConnection::to(&memory);
        broker::topology::declare_shared(&broker).await.unwrap();
        for queue in ["dead", "alive"] {
            broker::topology::declare_jobs(&broker, &queue.parse().unwrap()).await.unwrap();
        }
        broker.set_unresponsive("waft.jobs.dead", true);
        let (out, batches) = mpsc::channel(OUTBOX_CAPACITY);
        let running = tokio_util::task::TaskTracker::new();
        running.spawn(run(
            OutboxContext::new(Arc::new(broker.clone()), Arc::new(store::Memory::new()), EngineSecret::new([7; 32])),
            batches,
            ConfirmedVersions::default(),
        ));
        let job =
            |queue: &str| Message { exchange: names::JOBS.into(), key: queue.into(), ..batch().messages.remove(0) };
        // More than the maximum number of batches in flight.
        let many = 10 * IN_FLIGHT as u64;
        let sending = async {
            for _ in 0..many {
                let messages = vec![job("dead"), job("alive")];
                assert!(out.send(Effects { messages, ..Effects::default() }).await.is_ok());
            }
            while memory.waiting("waft.jobs.alive").await.unwrap() != Some(many) {
                tokio::time::sleep(RETRY_DELAY).await;
            }
        };
        let longest = 10 * Duration::from_secs(60);
        timeout(longest, sending).await.expect("other targets are not delayed");
        broker.set_unresponsive("waft.jobs.dead", false);
        let confirmed = async {
            while memory.waiting("waft.jobs.dead").await.unwrap() != Some(many) {
                tokio::time::sleep(RETRY_DELAY).await;
            }
        };
        timeout(longest, confirmed).await.expect("all is published once that queue confirms again");
    }

    #[tokio::test]
    async fn a_message_to_a_closed_broker_is_not_confirmed() {
        let (out, batches) = mpsc::channel(OUTBOX_CAPACITY);
        let (confirmed, broker) = (ConfirmedVersions::default(), InProcess::new());
        broker.close().await;
        assert!(out.send(batch()).await.is_ok());
        drop(out);
        run(context(broker), batches, confirmed.clone()).await;
        assert_eq!(confirmed.take(), []);
    }
}
