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
use protocol::topology as names;
use store::Store;
use tokio::{sync::mpsc, time::timeout};

use crate::{driver::TICK, effects::Effects};

/// Maximum number of batches in flight. More would only wait for the broker's confirms.
const IN_FLIGHT: usize = 64;

/// Maximum number of batches that wait for the outbox; then the engine waits.
pub(crate) const OUTBOX_CAPACITY: usize = 16;

/// Pause before a message that the broker did not take is published again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// How often an unconfirmed message is published again at once. After that, the cause is not a lost connection: the
/// queue itself does not respond.
const MAX_IMMEDIATE_RETRIES: u32 = 2;

/// The versions whose messages the broker has confirmed. The outbox adds to them, and the driver takes them once per
/// batch. Cheap to clone. It holds at most what the driver has sent since it last took them, and nothing blocks on
/// it.
#[derive(Clone, Default)]
pub(crate) struct ConfirmedVersions(Arc<Mutex<Vec<(RunId, Version)>>>);

impl ConfirmedVersions {
    /// Takes all versions that were added since the last call.
    pub(crate) fn take(&self) -> Vec<(RunId, Version)> {
        std::mem::take(&mut *self.lock())
    }

    fn add(&self, told: &[(RunId, Version)]) {
        self.lock().extend_from_slice(told);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(RunId, Version)>> {
        // A panic in another thread leaves no partial entry.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The versions of a batch whose notifications are not all confirmed yet.
struct PendingPublication {
    left: AtomicUsize,
    told: Vec<(RunId, Version)>,
    taken: ConfirmedVersions,
}

impl PendingPublication {
    fn confirm_one(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.taken.add(&self.told);
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
fn outgoing(messages: Vec<Message>, told: Vec<(RunId, Version)>, taken: &ConfirmedVersions) -> Vec<OutgoingMessage> {
    let is_notification = |message: &Message| message.exchange == names::NOTIFICATIONS;
    let left = messages.iter().filter(|message| is_notification(message)).count();
    if left == 0 {
        taken.add(&told);
    }
    let untold =
        (left > 0).then(|| Arc::new(PendingPublication { left: AtomicUsize::new(left), told, taken: taken.clone() }));
    let leave = |message: Message| {
        let untold = untold.clone().filter(|_| is_notification(&message));
        OutgoingMessage { message, publication: untold }
    };
    messages.into_iter().map(leave).collect()
}

/// The broker for messages, and the store for values that are too large for a message. Cheap to clone.
#[derive(Clone)]
pub(crate) struct OutboxContext {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) store: Arc<dyn Store>,
    silent: UnconfirmedTargets,
}

impl OutboxContext {
    /// Creates the context for a broker and a store.
    pub(crate) fn new(broker: Arc<dyn Broker>, store: Arc<dyn Store>) -> Self {
        Self { broker, store, silent: UnconfirmedTargets::default() }
    }
}

/// Runs until the engine drops its sender, and then until the broker has taken every message that it accepts.
pub(crate) async fn run(ways: OutboxContext, mut batches: mpsc::Receiver<Effects>, taken: ConfirmedVersions) {
    let broker = ways.broker.clone();
    let mut in_flight: FuturesUnordered<BoxFuture<'static, Vec<OutgoingMessage>>> = FuturesUnordered::new();
    // These occupy no batch slot: a queue that is full or deleted delays only its own jobs.
    let mut held_up: Vec<OutgoingMessage> = Vec::new();
    let mut trying: Option<BoxFuture<'static, Vec<OutgoingMessage>>> = None;
    let mut probing: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    let mut open = true;
    while open || !in_flight.is_empty() {
        // All arms only receive. Their order is fixed, so that the same batches always go out in the same order.
        tokio::select! {
            biased;
            batch = batches.recv(), if open && in_flight.len() < IN_FLIGHT => match batch {
                Some(Effects { messages, probes, watch_events, to_accept, published, .. }) => {
                    let leaving = outgoing(messages, published, &taken);
                    in_flight.push(Box::pin(publish_all(ways.clone(), leaving, to_accept)));
                    probing.extend(probes.into_iter().map(|probe| publish_now(broker.clone(), probe)));
                    for (watcher, happening) in watch_events {
                        // The watcher may have left; the run does not depend on it.
                        let _ = watcher.send(happening).await;
                    }
                }
                None => open = false,
            },
            Some(refused) = in_flight.next() => held_up.extend(refused),
            Some(()) = probing.next() => {}
            refused = async { trying.as_mut().expect("it is there").await }, if trying.is_some() => {
                trying = None;
                held_up.extend(refused);
            }
        }
        if trying.is_none() && !held_up.is_empty() {
            trying = Some(retry(ways.clone(), std::mem::take(&mut held_up)));
        }
    }
    if trying.is_some() {
        tracing::warn!("some messages were not taken; what was to be called is called when its run goes on");
    }
}

/// Publishes the messages that the broker takes, and returns those that it refused.
async fn publish_all(
    ways: OutboxContext,
    leaving: Vec<OutgoingMessage>,
    signals: Vec<Delivery>,
) -> Vec<OutgoingMessage> {
    let is_silent = |leaving: &OutgoingMessage| ways.silent.has(&leaving.message);
    let (waiting, leaving): (Vec<_>, Vec<_>) = leaving.into_iter().partition(is_silent);
    // `join_all` first polls its futures in order, so the broker receives the messages in order.
    let published = futures::future::join_all(leaving.into_iter().map(|leaving| publish(&ways, leaving))).await;
    signals.into_iter().for_each(Delivery::accept);
    published.into_iter().filter_map(Result::err).chain(waiting).collect()
}

/// Publishes a message until the broker has either taken or refused it.
async fn publish(ways: &OutboxContext, mut leaving: OutgoingMessage) -> Result<(), OutgoingMessage> {
    large::move_large_values(&*ways.store, &mut leaving.message).await;
    let message = &leaving.message;
    let mut unconfirmed = 0;
    loop {
        match ways.broker.publish(message.clone()).await {
            Ok(()) => {
                ways.silent.clear(message);
                leaving.publication.iter().for_each(|untold| untold.confirm_one());
                return Ok(());
            }
            Err(error @ PublishError::TooLarge { .. }) => {
                large::give_up(&*ways.broker, message, &error).await;
                leaving.publication.iter().for_each(|untold| untold.confirm_one());
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
                tracing::warn!(%error, "what goes there waits, and is published again now and then");
                ways.silent.note(message);
                return Err(leaving);
            }
            // The message goes straight to a deleted queue, so its reader no longer exists. The quarantine has no
            // owner, and is declared again.
            Err(error @ PublishError::Unroutable { .. })
                if message.exchange.is_empty() && message.key != names::QUARANTINE =>
            {
                tracing::warn!(%error, "nobody waits for this message any more");
                return Ok(());
            }
            Err(error @ (PublishError::Unroutable { .. } | PublishError::Refused { .. })) => {
                tracing::warn!(%error, "a message was not taken; it is published again");
                return Err(leaving);
            }
        }
    }
}

/// After a pause, declares the queues and exchanges that the messages need, since they may have been deleted, and
/// publishes the messages again. Returns those that are refused once more.
///
/// For an unconfirmed target only the first message is tried: each further one would only wait as well.
fn retry(ways: OutboxContext, held_up: Vec<OutgoingMessage>) -> BoxFuture<'static, Vec<OutgoingMessage>> {
    Box::pin(async move {
        tokio::time::sleep(RETRY_DELAY).await;
        let mut first = BTreeSet::new();
        let is_tried =
            |leaving: &OutgoingMessage| !ways.silent.has(&leaving.message) || first.insert(target(&leaving.message));
        let (held_up, waiting): (Vec<_>, Vec<_>) = held_up.into_iter().partition(is_tried);
        let jobs = held_up.iter().map(|held_up| &held_up.message).filter(|message| message.exchange == names::JOBS);
        let queues: BTreeSet<QueueName> = jobs.filter_map(|message| QueueName::new(&message.key).ok()).collect();
        if let Err(error) = declare(&*ways.broker, queues).await {
            tracing::warn!(%error, "what some messages need could not be declared");
        }
        let published = futures::future::join_all(held_up.into_iter().map(|leaving| publish(&ways, leaving))).await;
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

    fn ways(broker: InProcess) -> OutboxContext {
        OutboxContext::new(Arc::new(broker), Arc::new(store::Memory::new()))
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
        let told = vec![("r".parse().expect("a lawful name"), Version::new(1))];
        Effects { messages: vec![message], published: told, ..Effects::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_message_is_not_confirmed_until_the_broker_takes_it() {
        let (out, batches) = mpsc::channel(OUTBOX_CAPACITY);
        let (taken, start) = (ConfirmedVersions::default(), Instant::now());
        assert!(out.send(batch()).await.is_ok());
        // The exchange does not exist yet.
        let running = run(ways(InProcess::new()), batches, taken.clone());
        let told = async {
            loop {
                match &taken.take()[..] {
                    [] => tokio::time::sleep(RETRY_DELAY).await,
                    told => break told.to_vec(),
                }
            }
        };
        tokio::select! {
            () = running => panic!("it goes on for as long as there may be more"),
            told = tokio::time::timeout(10 * RETRY_DELAY, told) => assert_eq!(told.expect("it is taken"), batch().published),
        }
        assert!(start.elapsed() >= RETRY_DELAY);
    }

    fn job(values: usize) -> Job {
        let value = |number| {
            let name = format!("v{number}").parse().expect("a lawful name");
            (name, flow::Value::Bytes(vec![0; flow::MAX_INLINE_BYTES].into()))
        };
        Job {
            call: flow::CallId {
                run: "r".parse().expect("a lawful name"),
                task: "t".parse().expect("a lawful name"),
                firing: flow::Firing::FIRST,
                attempt: flow::Attempt::FIRST,
                action: flow::Action::Apply,
            },
            flow: "f".parse().expect("a lawful name"),
            module: flow::Digest::from_bytes([1; 32]),
            export: None,
            inputs: (0..values).map(value).collect(),
            rollback: None,
            required_outputs: Vec::new(),
            limits: flow::Limits::default(),
            at: flow::Timestamp::from_micros(0),
            expires_at: None,
            signal_to: "signals".into(),
            fetch_from: "store".into(),
            delivery_limit: None,
        }
    }

    /// Sends a job through a broker with a maximum message size; returns the delivery from the job queue and from the
    /// signal queue.
    async fn sent(job: &Job, largest: usize, store: Arc<dyn Store>) -> (Option<Delivery>, Option<Delivery>) {
        let broker = InProcess::new().with_max_message_bytes(largest);
        declare(&broker, ["default".parse().expect("a lawful name")].into()).await.expect("memory takes it");
        let kind = broker::QueueKind::Exclusive;
        broker.declare_queue(&broker::Queue { name: "signals".into(), kind }).await.expect("memory takes it");
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
        run(OutboxContext::new(Arc::new(broker.clone()), store), batches, ConfirmedVersions::default()).await;
        let mut came = Vec::new();
        for queue in ["waft.jobs.default", "signals"] {
            let mut consumer = broker.consume(queue, 1).await.expect("it is there");
            came.push(timeout(Duration::from_secs(1), consumer.next()).await.ok().flatten());
        }
        let signal = came.pop().flatten();
        (came.pop().flatten(), signal)
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_values_of_a_large_job_go_to_the_store() {
        let store: Arc<dyn Store> = Arc::new(store::Memory::new());
        let job = job(40);
        let (came, signal) = sent(&job, 1 << 20, store.clone()).await;
        let came = Job::decode(&came.expect("it was sent").message.body).expect("a job");
        assert!(came.encode().len() < 1 << 20 && signal.is_none());
        assert_eq!(store::values::load_values(&*store, came.inputs).await, job.inputs, "and nothing is lost");
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_too_large_for_the_broker_fails_its_call() {
        let job = job(2);
        let (came, signal) = sent(&job, 100_000, Arc::new(store::Memory::new())).await;
        assert!(came.is_none());
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
            OutboxContext::new(Arc::new(broker.clone()), Arc::new(store::Memory::new())),
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
        timeout(longest, sending).await.expect("what goes elsewhere is not held up");
        broker.set_unresponsive("waft.jobs.dead", false);
        let taken = async {
            while memory.waiting("waft.jobs.dead").await.unwrap() != Some(many) {
                tokio::time::sleep(RETRY_DELAY).await;
            }
        };
        timeout(longest, taken).await.expect("all is published once that queue confirms again");
    }

    #[tokio::test]
    async fn a_message_to_a_closed_broker_is_not_confirmed() {
        let (out, batches) = mpsc::channel(OUTBOX_CAPACITY);
        let (taken, broker) = (ConfirmedVersions::default(), InProcess::new());
        broker.close().await;
        assert!(out.send(batch()).await.is_ok());
        drop(out);
        run(ways(broker), batches, taken.clone()).await;
        assert_eq!(taken.take(), []);
    }
}
