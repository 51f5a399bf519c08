//! Tests how a worker handles a job. A call is a function of its job: any attempt can be executed again, anywhere, with the
//! same result.

mod admission;
mod grants;
mod large;
mod forged;
mod limits;
mod live;
mod poison;
mod slow_broker;
mod withdrawn;

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use broker::{
    Broker, Consumer, Destination, InProcess, Message, Properties, Queue, QueueKind, Routing, lossy::LossyConnection,
};
use flow::{Attempt, CallId, Digest, FailureKind, Firing, Limits, TaskResult, Timestamp, Value, Values};
use protocol::{CallLog, Control, EngineSecret, Job, Report, WithdrawnCall, topology};
use sandbox::Sandbox;
use store::{Admission, Store};
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use waft_tests::guest;
use worker::{Config, ContentSource, GuestResult, GuestRunner, WallClock, Worker};

/// The queue of the workers' signals.
const SIGNALS: &str = "signals";

/// The number of slots of a worker.
const SLOTS: u16 = 2;

/// The queue of the workers' fetch requests.
const STORE: &str = "store";

/// A clock that first shows a time before that of the jobs of these tests, at the start of a worker, and then one after it.
fn started_before_jobs() -> WallClock {
    let started = AtomicBool::new(false);
    WallClock::new(move || {
        let is_later = started.swap(true, Ordering::Relaxed);
        Timestamp::from_micros(if is_later { 1_700_000_100_000_000 } else { 1_699_999_900_000_000 })
    })
}

/// The configuration of a worker that takes jobs from the queue of its name, and received withdrawals before the first of
/// them was sent.
fn config(name: &str) -> Config {
    Config {
        name: name.parse().expect("a name"),
        host: "host".into(),
        instance: name.into(),
        version: "test".into(),
        slots: SLOTS,
        queues: vec![name.parse().expect("a name")],
        own_slots: BTreeMap::new(),
        grace: Duration::ZERO,
        clock: started_before_jobs(),
        delivery_limit: flow::DELIVERY_LIMIT,
        journal: None,
    }
}

/// The modules and values that a worker with its own sandbox and cache finds.
async fn content_source(
    name: &str,
    broker: Arc<dyn Broker>,
    cache: &TempDir,
    admission: Admission,
    max_module_bytes: u64,
) -> ContentSource {
    let sandbox = Sandbox::new(sandbox::Config::default()).expect("wasmtime works on this machine");
    let bytes = store::Cache::open(cache.path().into(), 1 << 30).await.expect("the cache opens");
    let client = store::bus::Client::new(broker, topology::reply_queue(name)).await.expect("the broker answers");
    ContentSource::new(sandbox, bytes, client, admission, max_module_bytes)
}

/// Guests whose first call panics, as a bug of waft would.
#[derive(Default)]
struct PanickingGuests {
    calls: AtomicU32,
}

#[async_trait::async_trait]
impl GuestRunner for PanickingGuests {
    async fn call(
        &self,
        _: &Job,
        _: CancellationToken,
        _: Arc<dyn sandbox::Observer>,
        _: Arc<dyn sandbox::CallSlot>,
    ) -> GuestResult {
        assert!(self.calls.fetch_add(1, Ordering::Relaxed) > 0, "injected panic");
        GuestResult::new(sandbox::Completion::Succeeded(Values::new()), CallLog::default())
    }

    fn interrupt_all(&self) {}
}

/// Declares a queue for the signals of workers.
async fn declare_signals(broker: &dyn Broker, name: &str) {
    let queue = Queue { name: name.into(), kind: QueueKind::Exclusive };
    broker::topology::declare_bound(broker, &queue, &[topology::REPORTS]).await.expect("it is new");
}

/// The secret of the engine that these tests stand for.
const SECRET: EngineSecret = EngineSecret::new([7; 32]);

/// The first attempt at a task of the hostile guest.
fn job(module: Digest, export: &str) -> Job {
    let call = CallId {
        run: "r".parse().expect("an id"),
        task: "t".parse().expect("a name"),
        firing: Firing::FIRST,
        attempt: Attempt::FIRST,
        action: flow::Action::Apply,
    };
    Job {
        flow: "f".parse().expect("a name"),
        module,
        export: Some(export.parse().expect("a name")),
        inputs: Values::new(),
        rollback: None,
        required_outputs: Vec::new(),
        limits: Limits::default(),
        access: flow::Access::default(),
        at: Timestamp::from_micros(1_700_000_000_000_000),
        expires_at: None,
        signal_to: SIGNALS.into(),
        fetch_from: STORE.into(),
        delivery_limit: None,
        keys: SECRET.call_keys(&call, []),
        call,
    }
}

/// The message with which an engine interrupts a call.
fn interrupt(call: CallId) -> Control {
    let proof = SECRET.call_key(&call).interrupt_proof();
    Control::Interrupt { call, proof }
}

/// The message with which an engine withdraws calls.
fn withdraw<'a>(calls: impl IntoIterator<Item = &'a CallId>) -> Control {
    let withdrawn = |call: &CallId| WithdrawnCall { call: call.clone(), proof: SECRET.call_key(call).withdraw_proof() };
    Control::Withdraw(calls.into_iter().map(withdrawn).collect())
}

/// A broker with a store of the hostile guest and a signal queue, without workers so far.
struct Harness {
    broker: Arc<dyn Broker>,
    store: Arc<dyn Store>,
    module: Digest,
    signals: Consumer,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Harness {
    async fn new() -> Self {
        let broker: Arc<dyn Broker> = Arc::new(InProcess::new());
        let store: Arc<dyn Store> = Arc::new(store::Memory::new());
        let wasm = std::fs::read(guest("hostile")).expect("it is built");
        let component = sandbox::Module::componentize(&wasm).expect("it is a guest").into_bytes();
        let module = store.put(component).await.expect("memory stores it");
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let server = store::bus::Server::start(broker.clone(), STORE.into(), store.clone(), SECRET, stop.clone()).await;
        tasks.spawn(server.expect("the broker answers").run());
        declare_signals(&*broker, SIGNALS).await;
        let signals = broker.consume(SIGNALS, 16).await.expect("it is there");
        Self { broker, store, module, signals, tasks, stop }
    }

    async fn start_worker(&self, name: &str) {
        self.start_worker_with(name, Admission::default(), 64 << 20).await;
    }

    /// Starts a worker that takes jobs from the queue of its name, for modules that it admits, of at most this many bytes.
    async fn start_worker_with(&self, name: &str, admission: Admission, max_module_bytes: u64) {
        self.start_configured(config(name), admission, max_module_bytes).await;
    }

    /// Like [`Self::start_worker_with`], for a worker with this configuration.
    async fn start_configured(&self, config: Config, admission: Admission, max_module_bytes: u64) {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let name = config.name.as_str();
        let guests = content_source(name, self.broker.clone(), &cache, admission, max_module_bytes).await;
        let worker = Worker::connect(config, self.broker.clone(), Arc::new(guests)).await.expect("it connects");
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            worker.run(stop.clone(), stop).await;
            drop(cache);
        });
    }

    async fn publish(&self, queue: &str, job: &Job) {
        self.publish_of(&SECRET, queue, job).await;
    }

    /// Sends a job of the engines with a secret.
    async fn publish_of(&self, secret: &EngineSecret, queue: &str, job: &Job) {
        // A test may have changed the call.
        let job = job.clone().with_keys(secret);
        let message = Message {
            exchange: topology::JOBS.into(),
            key: queue.into(),
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties: Properties::default(),
            body: job.encode().into(),
        };
        self.broker.publish(message).await.expect("the queue is there");
    }

    /// The next result from a worker.
    async fn answer(&mut self) -> TaskResult {
        loop {
            let delivery = self.signals.next().await.expect("the broker answers");
            let report = Report::decode(&delivery.message.body).expect("a worker's report");
            let reply_to = delivery.message.properties.reply_to.clone();
            delivery.accept();
            match (report, reply_to) {
                (Report::Signal(signal, _), _) => return signal.answer,
                // Every call may start in these tests.
                (Report::AskStart { call }, Some(queue)) => {
                    let proof = SECRET.call_key(&call).may_start_proof(true);
                    let reply = Control::MayStart { call, wanted: true, proof };
                    self.control(Destination::Queue(queue), &reply).await;
                }
                _ => {}
            }
        }
    }

    async fn control(&self, to: Destination, control: &Control) {
        let (exchange, key) = match to {
            Destination::Exchange(exchange) => (exchange, String::new()),
            Destination::Queue(queue) => (topology::REPLIES.to_owned(), queue),
        };
        let message = Message {
            exchange,
            key,
            routing: Routing::Optional,
            persistent: false,
            priority: 0,
            properties: Properties::default(),
            body: control.encode().into(),
        };
        self.broker.publish(message).await.expect("the broker answers");
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_job_gives_the_same_result_twice_and_on_two_workers() {
    let mut harness = Harness::new().await;
    harness.start_worker("one").await;
    harness.start_worker("other").await;
    let first = Job { required_outputs: vec!["observed".parse().expect("a name")], ..job(harness.module, "observe") };
    let second = Job { call: CallId { attempt: Attempt::new(2), ..first.call.clone() }, ..first.clone() };
    let mut results = Vec::new();
    for (worker, job) in [("one", &first), ("one", &first), ("other", &first), ("one", &second)] {
        harness.publish(worker, job).await;
        results.push(harness.answer().await);
    }
    assert!(matches!(results[0], TaskResult::Succeeded(_)), "{:?}", results[0]);
    assert_eq!(results[0], results[1], "the same job twice");
    assert_eq!(results[0], results[2], "the same job on another worker");
    assert_ne!(results[0], results[3], "another attempt has other random numbers");
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_job_of_a_lost_engine_is_not_called() {
    let mut harness = Harness::new().await;
    let queue = "one".parse().expect("a name");
    broker::topology::declare_shared(&*harness.broker).await.expect("the broker answers");
    broker::topology::declare_jobs(&*harness.broker, &queue).await.expect("the broker answers");
    harness.publish("one", &Job { signal_to: "missing".into(), ..job(harness.module, "spin") }).await;
    // A worker received it, and was lost.
    let mut lost_consumer = harness.broker.consume(&topology::job_queue(&queue), 1).await.expect("it is there");
    drop(lost_consumer.next().await.expect("the job"));
    drop(lost_consumer);
    // It has one slot, so a spinning call would block the next job.
    harness.start_worker("one").await;
    harness.publish("one", &job(harness.module, "noop")).await;
    assert_eq!(harness.answer().await, TaskResult::Succeeded(Values::new()));
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_job_waits_for_the_running_call() {
    let harness = Harness::new().await;
    harness.start_worker("one").await;
    let spinning = job(harness.module, "spin");
    harness.publish("one", &spinning).await;
    harness.publish("one", &spinning).await;
    let queue = topology::job_queue(&"one".parse().expect("a name"));
    while harness.broker.waiting(&queue).await.expect("the broker answers") != Some(0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    harness.stop.cancel();
    harness.tasks.close();
    harness.tasks.wait().await;
    // After a lost connection, the delivery that started the call may be invalid; then only the second one remains.
    assert_eq!(harness.broker.waiting(&queue).await.expect("the broker answers"), Some(2), "both were requeued");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_panics_is_redelivered() {
    let mut harness = Harness::new().await;
    let config = config("one");
    let worker = Worker::connect(config, harness.broker.clone(), Arc::new(PanickingGuests::default())).await;
    let stop = harness.stop.clone();
    harness.tasks.spawn(worker.expect("it connects").run(stop.clone(), stop));
    harness.publish("one", &job(harness.module, "noop")).await;
    assert_eq!(harness.answer().await, TaskResult::Succeeded(Values::new()));
    harness.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unresponsive_queue_does_not_block_others() {
    let memory = InProcess::new();
    declare_signals(&memory, SIGNALS).await;
    let signals = memory.consume(SIGNALS, 16).await.expect("it is there");
    let connection = LossyConnection::to(&memory);
    connection.set_unresponsive("waft.jobs.unresponsive", true);
    let queues = ["unresponsive", "responsive"].map(|queue| queue.parse().expect("a name")).to_vec();
    let guests = Arc::new(PanickingGuests { calls: AtomicU32::new(1) });
    let worker = Worker::connect(Config { queues, ..config("one") }, Arc::new(connection.clone()), guests).await;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(worker.expect("it connects").run(stop.clone(), stop.clone()));
    let module = Digest::from_bytes([1; 32]);
    let (broker, store) = (Arc::new(memory.clone()), Arc::new(store::Memory::new()));
    let mut harness = Harness { broker, store, module, signals, tasks, stop };
    for attempt in 1..10 {
        let job = job(module, "noop");
        let call = CallId { attempt: Attempt::new(attempt), ..job.call.clone() };
        harness.publish("responsive", &Job { call, ..job }).await;
        assert_eq!(harness.answer().await, TaskResult::Succeeded(Values::new()));
    }
    connection.set_unresponsive("waft.jobs.unresponsive", false);
    while memory.waiting("waft.jobs.unresponsive").await.expect("the broker answers").is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let job = job(module, "noop");
    let call = CallId { attempt: Attempt::new(10), ..job.call.clone() };
    harness.publish("unresponsive", &Job { call, ..job }).await;
    assert_eq!(harness.answer().await, TaskResult::Succeeded(Values::new()));
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_redeclared_and_consumed() {
    let mut harness = Harness::new().await;
    harness.start_worker("one").await;
    let queue = topology::job_queue(&"one".parse().expect("a name"));
    harness.broker.delete_queue(&queue).await.expect("it is there");
    // It is consumed once it is bound.
    while !matches!(harness.broker.consumers(&queue).await.expect("the broker answers"), Some(1..)) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    harness.publish("one", &job(harness.module, "noop")).await;
    assert_eq!(harness.answer().await, TaskResult::Succeeded(Values::new()));
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_for_two_engines_is_signalled_to_both() {
    let mut harness = Harness::new().await;
    let other = "other-signals";
    declare_signals(&*harness.broker, other).await;
    let mut signals = harness.broker.consume(other, 16).await.expect("it is there");
    harness.start_worker("one").await;
    let sleeping = Job {
        inputs: [("ms".parse().expect("a name"), Value::json(&300.into()))].into(),
        ..job(harness.module, "sleep")
    };
    harness.publish("one", &sleeping).await;
    harness.publish("one", &Job { signal_to: other.into(), ..sleeping.clone() }).await;
    assert!(matches!(harness.answer().await, TaskResult::Succeeded(_)));
    let signal = loop {
        let delivery = signals.next().await.expect("the broker answers");
        let report = Report::decode(&delivery.message.body).expect("a worker's report");
        delivery.accept();
        if let Report::Signal(signal, _) = report {
            break signal;
        }
    };
    assert_eq!(signal.call, sleeping.call);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_module_is_named_by_the_failure_of_its_task() {
    let mut harness = Harness::new().await;
    harness.start_worker("one").await;
    let unknown = Digest::from_bytes([9; 32]);
    harness.publish("one", &job(unknown, "noop")).await;
    match harness.answer().await {
        TaskResult::Failed(failure) => {
            assert_eq!(failure.kind, FailureKind::Module);
            assert!(failure.message.contains(&unknown.to_string()), "{failure}");
        }
        TaskResult::Succeeded(values) => panic!("it succeeded with {values:?}"),
    }
    harness.stop().await;
}
