//! Tests how a worker handles a job. A call is a function of its job: any attempt can be executed again, anywhere, with the
//! same result.

mod large;
mod live;
mod poison;
mod slow_broker;
mod withdrawn;

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use broker::{
    Broker, Consumer, Destination, InProcess, Message, Properties, Queue, QueueKind, Routing, lossy::LossyConnection,
};
use flow::{Attempt, CallId, Digest, FailureKind, Firing, Limits, TaskResult, Timestamp, Value, Values};
use protocol::{CallLog, Control, Job, Report, topology};
use sandbox::Sandbox;
use store::Store;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use waft_tests::guest;
use worker::{Config, ContentSource, GuestResult, GuestRunner, Worker};

/// The queue of the workers' signals.
const SIGNALS: &str = "signals";

/// The number of slots of a worker.
const SLOTS: u16 = 2;

/// The queue of the workers' fetch requests.
const STORE: &str = "store";

/// The configuration of a worker that takes jobs from the queue of its name, and has listened since before the first of
/// them was sent.
fn config(name: &str) -> Config {
    Config {
        name: name.parse().expect("a name"),
        host: "here".into(),
        instance: name.into(),
        version: "test".into(),
        slots: SLOTS,
        queues: vec![name.parse().expect("a name")],
        grace: Duration::ZERO,
        since: Timestamp::from_micros(1_700_000_000_000_000),
        delivery_limit: flow::DELIVERY_LIMIT,
    }
}

/// Starts a worker with its own sandbox and cache, which takes jobs from the queue of its name.
async fn start_worker(name: &str, broker: Arc<dyn Broker>, tasks: &TaskTracker, stop: &CancellationToken) {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let sandbox = Sandbox::new(sandbox::Config::default()).expect("wasmtime works here");
    let bytes = store::Cache::open(cache.path().into(), 1 << 30).await.expect("the cache opens");
    let client = store::bus::Client::new(broker.clone(), format!("reply.{name}")).await.expect("the broker is there");
    let worker = Worker::connect(config(name), broker, Arc::new(ContentSource::new(sandbox, bytes, client)))
        .await
        .expect("it connects");
    let stop = stop.clone();
    tasks.spawn(async move {
        worker.run(stop.clone(), stop).await;
        drop(cache);
    });
}

/// Guests whose first call panics, as a bug of waft would.
#[derive(Default)]
struct PanickingGuests {
    calls: AtomicU32,
}

#[async_trait::async_trait]
impl GuestRunner for PanickingGuests {
    async fn call(&self, _: &Job, _: CancellationToken, _: Arc<dyn sandbox::Observer>) -> GuestResult {
        assert!(self.calls.fetch_add(1, Ordering::Relaxed) > 0, "as the test wants it");
        GuestResult { answer: sandbox::Completion::Succeeded(Values::new()), log: CallLog::default() }
    }

    fn interrupt_all(&self) {}
}

/// The first attempt at a task of the hostile guest.
fn job(module: Digest, export: &str) -> Job {
    Job {
        call: CallId {
            run: "r".parse().expect("an id"),
            task: "t".parse().expect("a name"),
            firing: Firing::FIRST,
            attempt: Attempt::FIRST,
            action: flow::Action::Apply,
        },
        flow: "f".parse().expect("a name"),
        module,
        export: Some(export.parse().expect("a name")),
        inputs: Values::new(),
        rollback: None,
        required_outputs: Vec::new(),
        limits: Limits::default(),
        at: Timestamp::from_micros(1_700_000_000_000_000),
        expires_at: None,
        signal_to: SIGNALS.into(),
        fetch_from: STORE.into(),
        delivery_limit: None,
    }
}

/// A broker with a store of the hostile guest and a signal queue, without workers so far.
struct Harness {
    broker: Arc<dyn Broker>,
    module: Digest,
    signals: Consumer,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Harness {
    async fn new() -> Self {
        let broker: Arc<dyn Broker> = Arc::new(InProcess::new());
        let store = Arc::new(store::Memory::new());
        let wasm = std::fs::read(guest("hostile")).expect("it is built");
        let component = sandbox::Module::componentize(&wasm).expect("it is a guest").into_bytes();
        let module = store.put(component).await.expect("memory takes it");
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let server = store::bus::Server::start(broker.clone(), STORE.into(), store, stop.clone()).await;
        tasks.spawn(server.expect("the broker is there").run());
        broker.declare_queue(&Queue { name: SIGNALS.into(), kind: QueueKind::Exclusive }).await.expect("it is new");
        let signals = broker.consume(SIGNALS, 16).await.expect("it is there");
        Self { broker, module, signals, tasks, stop }
    }

    async fn start_worker(&self, name: &str) {
        start_worker(name, self.broker.clone(), &self.tasks, &self.stop).await;
    }

    async fn publish(&self, queue: &str, job: &Job) {
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
            let delivery = self.signals.next().await.expect("the broker is there");
            let report = Report::decode(&delivery.message.body).expect("a worker's report");
            let reply_to = delivery.message.properties.reply_to.clone();
            delivery.accept();
            match (report, reply_to) {
                (Report::Signal(signal, _), _) => return signal.answer,
                // Every call that a worker asks about may begin here.
                (Report::MayBegin { call }, Some(queue)) => {
                    let wanted = Control::MayStart { call, wanted: true };
                    self.control(Destination::Queue(queue), &wanted).await;
                }
                _ => {}
            }
        }
    }

    async fn control(&self, to: Destination, control: &Control) {
        let (exchange, key) = match to {
            Destination::Exchange(exchange) => (exchange, String::new()),
            Destination::Queue(queue) => (String::new(), queue),
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
        self.broker.publish(message).await.expect("the broker is there");
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_job_gives_the_same_result_twice_and_on_two_workers() {
    let mut world = Harness::new().await;
    world.start_worker("one").await;
    world.start_worker("other").await;
    let first = Job { required_outputs: vec!["observed".parse().expect("a name")], ..job(world.module, "observe") };
    let second = Job { call: CallId { attempt: Attempt::new(2), ..first.call.clone() }, ..first.clone() };
    let mut answers = Vec::new();
    for (worker, job) in [("one", &first), ("one", &first), ("other", &first), ("one", &second)] {
        world.publish(worker, job).await;
        answers.push(world.answer().await);
    }
    assert!(matches!(answers[0], TaskResult::Succeeded(_)), "{:?}", answers[0]);
    assert_eq!(answers[0], answers[1], "the same job twice");
    assert_eq!(answers[0], answers[2], "the same job on another worker");
    assert_ne!(answers[0], answers[3], "another attempt has other random numbers");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_job_of_a_gone_engine_is_not_called() {
    let mut world = Harness::new().await;
    let queue = "one".parse().expect("a name");
    broker::topology::declare_shared(&*world.broker).await.expect("the broker is there");
    broker::topology::declare_jobs(&*world.broker, &queue).await.expect("the broker is there");
    world.publish("one", &Job { signal_to: "gone".into(), ..job(world.module, "spin") }).await;
    // A worker received it, and died.
    let mut doomed = world.broker.consume(&topology::job_queue(&queue), 1).await.expect("it is there");
    drop(doomed.next().await.expect("the job"));
    drop(doomed);
    // It has one slot, so a spinning call would block the next job.
    world.start_worker("one").await;
    world.publish("one", &job(world.module, "noop")).await;
    assert_eq!(world.answer().await, TaskResult::Succeeded(Values::new()));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_job_waits_for_the_running_call() {
    let world = Harness::new().await;
    world.start_worker("one").await;
    let spinning = job(world.module, "spin");
    world.publish("one", &spinning).await;
    world.publish("one", &spinning).await;
    let queue = topology::job_queue(&"one".parse().expect("a name"));
    while world.broker.waiting(&queue).await.expect("the broker is there") != Some(0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.stop.cancel();
    world.tasks.close();
    world.tasks.wait().await;
    // After a lost connection, the delivery that started the call may be void; only the second one is left then.
    assert_eq!(world.broker.waiting(&queue).await.expect("the broker is there"), Some(2), "both went back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_panics_is_redelivered() {
    let mut world = Harness::new().await;
    let config = config("one");
    let worker = Worker::connect(config, world.broker.clone(), Arc::new(PanickingGuests::default())).await;
    let stop = world.stop.clone();
    world.tasks.spawn(worker.expect("it connects").run(stop.clone(), stop));
    world.publish("one", &job(world.module, "noop")).await;
    assert_eq!(world.answer().await, TaskResult::Succeeded(Values::new()));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unresponsive_queue_does_not_block_others() {
    let memory = InProcess::new();
    memory.declare_queue(&Queue { name: SIGNALS.into(), kind: QueueKind::Exclusive }).await.expect("it is new");
    let signals = memory.consume(SIGNALS, 16).await.expect("it is there");
    let connection = LossyConnection::to(&memory);
    connection.set_unresponsive("waft.jobs.dead", true);
    let queues = ["dead", "alive"].map(|queue| queue.parse().expect("a name")).to_vec();
    let guests = Arc::new(PanickingGuests { calls: AtomicU32::new(1) });
    let worker = Worker::connect(Config { queues, ..config("one") }, Arc::new(connection.clone()), guests).await;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(worker.expect("it connects").run(stop.clone(), stop.clone()));
    let module = Digest::from_bytes([1; 32]);
    let mut world = Harness { broker: Arc::new(memory.clone()), module, signals, tasks, stop };
    for attempt in 1..10 {
        let job = job(module, "noop");
        let call = CallId { attempt: Attempt::new(attempt), ..job.call.clone() };
        world.publish("alive", &Job { call, ..job }).await;
        assert_eq!(world.answer().await, TaskResult::Succeeded(Values::new()));
    }
    connection.set_unresponsive("waft.jobs.dead", false);
    while memory.waiting("waft.jobs.dead").await.expect("the broker is there").is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let job = job(module, "noop");
    let call = CallId { attempt: Attempt::new(10), ..job.call.clone() };
    world.publish("dead", &Job { call, ..job }).await;
    assert_eq!(world.answer().await, TaskResult::Succeeded(Values::new()));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_redeclared_and_consumed() {
    let mut world = Harness::new().await;
    world.start_worker("one").await;
    let queue = topology::job_queue(&"one".parse().expect("a name"));
    world.broker.delete_queue(&queue).await.expect("it is there");
    while world.broker.waiting(&queue).await.expect("the broker is there").is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.publish("one", &job(world.module, "noop")).await;
    assert_eq!(world.answer().await, TaskResult::Succeeded(Values::new()));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_for_two_engines_is_answered_to_both() {
    let mut world = Harness::new().await;
    let other = "signals-of-another";
    world.broker.declare_queue(&Queue { name: other.into(), kind: QueueKind::Exclusive }).await.expect("it is new");
    let mut signals = world.broker.consume(other, 16).await.expect("it is there");
    world.start_worker("one").await;
    let sleeping = Job {
        inputs: [("ms".parse().expect("a name"), Value::json(&300.into()))].into(),
        ..job(world.module, "sleep")
    };
    world.publish("one", &sleeping).await;
    world.publish("one", &Job { signal_to: other.into(), ..sleeping.clone() }).await;
    assert!(matches!(world.answer().await, TaskResult::Succeeded(_)));
    let answered = loop {
        let delivery = signals.next().await.expect("the broker is there");
        let report = Report::decode(&delivery.message.body).expect("a worker's report");
        delivery.accept();
        if let Report::Signal(signal, _) = report {
            break signal;
        }
    };
    assert_eq!(answered.call, sleeping.call);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_no_store_holds_fails_its_task_by_name() {
    let mut world = Harness::new().await;
    world.start_worker("one").await;
    let unknown = Digest::from_bytes([9; 32]);
    world.publish("one", &job(unknown, "noop")).await;
    match world.answer().await {
        TaskResult::Failed(failure) => {
            assert_eq!(failure.kind, FailureKind::Module);
            assert!(failure.message.contains(&unknown.to_string()), "{failure}");
        }
        TaskResult::Succeeded(values) => panic!("it left {values:?}"),
    }
    world.stop().await;
}
