//! Tests the outbox over brokers that refuse, reject or do not answer.

use std::sync::atomic::{AtomicUsize, Ordering};

use broker::{
    InProcess, Properties, Routing,
    lossy::{InterceptedBroker, LossyConnection, PublishInterceptor},
};
use flow::RunId;
use logbook::Version;
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
    job_with((0..values).map(value).collect())
}

pub(super) fn job_with(inputs: flow::Values) -> Job {
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
        inputs,
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
        body: bytes::Bytes::new(),
    };
    let jobs = vec![JobMessage { message, job: Box::new(job.clone()) }];
    let (out, batches) = mpsc::channel(OUTBOX_CAPACITY);
    assert!(out.send(Effects { jobs, ..Effects::default() }).await.is_ok());
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
    let job = |queue: &str| Message { exchange: names::JOBS.into(), key: queue.into(), ..batch().messages.remove(0) };
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

/// Rejects every notification, as a queue does that is full, and counts them.
#[derive(Default, Clone)]
struct FullListener {
    published: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl PublishInterceptor for FullListener {
    async fn publish(&self, inner: &dyn Broker, message: Message) -> Result<(), PublishError> {
        let (exchange, key) = (message.exchange.clone(), message.key.clone());
        inner.publish(message).await?;
        if exchange != names::NOTIFICATIONS {
            return Ok(());
        }
        self.published.fetch_add(1, Ordering::Relaxed);
        Err(PublishError::Rejected { exchange, key })
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_rejects_everything_neither_stops_notifications_nor_repeats_them_for_ever() {
    let memory = InProcess::new();
    broker::topology::declare_shared(&memory).await.unwrap();
    let listener = FullListener::default();
    let broker = InterceptedBroker::new(memory, listener.clone());
    let (out, batches) = mpsc::channel(OUTBOX_CAPACITY);
    let confirmed = ConfirmedVersions::default();
    let context = OutboxContext::new(Arc::new(broker), Arc::new(store::Memory::new()), EngineSecret::new([7; 32]));
    let running = tokio_util::task::TaskTracker::new();
    running.spawn(run(context, batches, confirmed.clone()));
    let many = 1_000;
    let start = Instant::now();
    for _ in 0..many {
        assert!(out.send(batch()).await.is_ok());
    }
    let mut versions = 0;
    while versions < many {
        tokio::time::sleep(RETRY_DELAY).await;
        versions += confirmed.take().len();
        assert!(start.elapsed() < Duration::from_secs(60), "all count as published in the end");
    }
    let published = listener.published.load(Ordering::Relaxed);
    // 256 wait for 5 repetitions each; the others are given up at once.
    assert_eq!(published, many + 256 * 5);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(listener.published.load(Ordering::Relaxed), published, "no more");
}

/// A notification of a run, and the version that it publishes.
fn notification_of(run: &str, task: &str) -> (Message, (RunId, Version)) {
    let key = format!("f.{task}.{run}.success");
    (Message { key, ..batch().messages.remove(0) }, (run.parse().expect("a valid name"), Version::new(1)))
}

/// Refuses messages as long as it is told to, and counts all.
#[derive(Default, Clone)]
struct Refusing {
    /// A part of the keys that are refused.
    refused: Arc<Mutex<Option<&'static str>>>,
    published: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl PublishInterceptor for Refusing {
    async fn publish(&self, inner: &dyn Broker, message: Message) -> Result<(), PublishError> {
        self.published.fetch_add(1, Ordering::Relaxed);
        let refused = *self.refused.lock().unwrap();
        match refused {
            Some(refused) if message.key.contains(refused) => {
                let (exchange, key) = (message.exchange, message.key);
                Err(PublishError::Refused { exchange, key, reason: "the test".into() })
            }
            Some(_) | None => inner.publish(message).await,
        }
    }
}

/// An outbox over a broker that refuses what contains this, and the queue of its batches.
async fn refusing(
    refused: Option<&'static str>,
) -> (Refusing, InProcess, ConfirmedVersions, mpsc::Sender<Effects>, impl Future<Output = ()>) {
    let memory = InProcess::new();
    broker::topology::declare_shared(&memory).await.unwrap();
    let interceptor = Refusing { refused: Arc::new(Mutex::new(refused)), ..Refusing::default() };
    let broker = Arc::new(InterceptedBroker::new(memory.clone(), interceptor.clone()));
    let context = OutboxContext::new(broker, Arc::new(store::Memory::new()), EngineSecret::new([7; 32]));
    let (out, batches) = mpsc::channel(OUTBOX_CAPACITY);
    let confirmed = ConfirmedVersions::default();
    let running = run(context, batches, confirmed.clone());
    (interceptor, memory, confirmed, out, running)
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_no_broker_can_carry_is_given_up_and_delays_nothing() {
    let (interceptor, _, confirmed, out, running) = refusing(None).await;
    let (run, task) = ("r".repeat(100), "t".repeat(100));
    let (mut messages, mut published) = (Vec::new(), Vec::new());
    for (message, version) in [notification_of(&run, &format!("{task}[100000]")), notification_of("other", "t")] {
        messages.push(Message { key: message.key.replace("f.", &format!("{}.", "f".repeat(100))), ..message });
        published.push(version);
    }
    assert!(messages[0].key.len() > 255 && messages[1].key.len() < 255);
    assert!(out.send(Effects { messages, published: published.clone(), ..Effects::default() }).await.is_ok());
    drop(out);
    running.await;
    let mut all = confirmed.take();
    all.sort();
    published.sort();
    assert_eq!(all, published);
    assert_eq!(interceptor.published.load(Ordering::Relaxed), 2, "neither is repeated");
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_waits_delays_only_its_run() {
    let (interceptor, _, confirmed, out, running) = refusing(Some("slow")).await;
    let (messages, published): (Vec<_>, Vec<_>) =
        ["slow", "other"].map(|run| notification_of(run, "t")).into_iter().unzip();
    let none = ("none".parse().expect("a valid name"), Version::new(7));
    let published: Vec<_> = published.into_iter().chain([none]).collect();
    assert!(out.send(Effects { messages, published: published.clone(), ..Effects::default() }).await.is_ok());
    let tracker = tokio_util::task::TaskTracker::new();
    tracker.spawn(running);
    tokio::time::sleep(10 * RETRY_DELAY).await;
    let mut done = confirmed.take();
    done.sort();
    assert_eq!(done, [published[2].clone(), published[1].clone()]);
    *interceptor.refused.lock().unwrap() = None;
    tokio::time::sleep(10 * RETRY_DELAY).await;
    assert_eq!(confirmed.take(), [published[0].clone()]);
}

#[tokio::test(start_paused = true)]
async fn messages_that_wait_take_bounded_memory() {
    let (interceptor, memory, _, out, running) = refusing(Some("full")).await;
    for queue in ["full", "other"] {
        broker::topology::declare_jobs(&memory, &queue.parse().unwrap()).await.unwrap();
    }
    let tracker = tokio_util::task::TaskTracker::new();
    tracker.spawn(running);
    // All share their bytes.
    let body = bytes::Bytes::from(vec![0; 16 << 20]);
    let job = |queue: &str| {
        let message = Message {
            exchange: names::JOBS.into(),
            key: queue.into(),
            body: body.clone(),
            ..batch().messages.remove(0)
        };
        Effects { messages: vec![message], ..Effects::default() }
    };
    let mut sent = 0;
    while let Ok(result) = timeout(Duration::from_secs(600), out.send(job("full"))).await {
        assert!(result.is_ok());
        sent += 1;
        // The outbox sees each refusal before the next batch.
        tokio::time::sleep(RETRY_DELAY).await;
        assert!(sent < 100, "it takes what comes");
    }
    assert_eq!(sent, MAX_RETRY_BYTES / (body.len() + MESSAGE_OVERHEAD) + 1 + OUTBOX_CAPACITY);
    *interceptor.refused.lock().unwrap() = None;
    assert!(out.send(job("other")).await.is_ok());
    while memory.waiting("waft.jobs.full").await.unwrap() != Some(sent as u64)
        || memory.waiting("waft.jobs.other").await.unwrap() != Some(1)
    {
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_outbox_with_many_waiting_messages_ends_with_its_engine() {
    let (_, _, _, out, running) = refusing(Some("full")).await;
    let tracker = tokio_util::task::TaskTracker::new();
    tracker.spawn(running);
    let body = bytes::Bytes::from(vec![0; MAX_RETRY_BYTES]);
    for _ in 0..2 {
        let message = Message {
            exchange: names::JOBS.into(),
            key: "full".into(),
            body: body.clone(),
            ..batch().messages.remove(0)
        };
        assert!(out.send(Effects { messages: vec![message], ..Effects::default() }).await.is_ok());
        tokio::time::sleep(RETRY_DELAY).await;
    }
    drop(out);
    tracker.close();
    timeout(Duration::from_secs(600), tracker.wait()).await.expect("it ends");
}
