//! An engine over the in-process broker, with its surroundings.

mod append_faults;
mod clock;
mod durable;
mod questions;

use std::{
    collections::BTreeMap,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use broker::{
    Binding, Broker, Consumer, Destination, InProcess, Message, Properties, Queue, QueueKind, Routing,
    lossy::LossyConnection,
};
use engine::{Config, Engine, MaxOpenRuns, ShardAssignment, SubmitError, Watch, WatchEvent};
use flow::{
    CallId, Digest, Execution, Failure, FailureKind, Flow, LimitOverrides, ModuleContent, ModuleInfo, Parameter,
    Rollback, RunId, RunState, Signal, TaskInfo, TaskResult, Values,
};
use logbook::{Logbook, Memory, Version, intercepted::InterceptedLogbook};
use machine::{Fact, Machine, Record};
use protocol::{CallLog, Control, EngineSecret, HeartbeatNumber, Job, Report, SendingId, topology};

pub(crate) use append_faults::{AppendFaults, Batch, Fault, Lookups, StopPoint};
pub(crate) use clock::PausedClock;

/// A flow of consecutive tasks, each with a rollback.
pub(crate) fn linear(tasks: &[&str]) -> Arc<Flow> {
    let nodes: String = tasks.iter().map(|name| format!("[[task]]\nname = \"{name}\"\nuse = \"g\"\n")).collect();
    wired(&format!("name = \"f\"\npattern = \"linear\"\n{nodes}[modules]\ng = \"g.wasm\"\n"))
}

/// The same message in the format of a later waft, with its seal: the third byte is the format version.
pub(crate) fn newer(mut sealed: Vec<u8>, seal: impl Fn(&[u8]) -> protocol::Seal) -> Vec<u8> {
    let body = sealed.len() - 32;
    sealed[2] = 99;
    let seal = seal(&sealed[..body]);
    sealed[body..].copy_from_slice(seal.as_bytes());
    sealed
}

/// A flow of tasks of the module `g`, which has a rollback.
pub(crate) fn wired(text: &str) -> Arc<Flow> {
    let item = Parameter { name: "item".parse().unwrap(), doc: String::new(), schema: None, optional: true };
    let task = TaskInfo {
        name: "noop".parse().unwrap(),
        doc: String::new(),
        requires: vec![item],
        provides: Vec::new(),
        rollback: Rollback::Guest { requires: Vec::new() },
        retry: None,
        limits: LimitOverrides::default(),
    };
    let info = ModuleInfo { digest: Digest::from_bytes([1; 32]), content: ModuleContent::Tasks(vec![task]) };
    let draft = flow::file::parse(text).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}"));
    let wired = flow::wire(&draft, &BTreeMap::from([("g".into(), info)]), &Values::new());
    Arc::new(wired.unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}")).0)
}

/// The queue of all jobs in these tests.
const JOBS: &str = "waft.jobs.default";

pub(crate) struct Harness {
    pub(crate) engine: Engine,
    pub(crate) faults: Arc<AppendFaults>,
    pub(crate) logbook: Arc<dyn Logbook>,
    /// The engine's own connection.
    pub(crate) connection: LossyConnection,
    /// The engine's clock, which mostly restarts with each engine.
    pub(crate) clock: Arc<PausedClock>,
    broker: InProcess,
    /// Opened when the first job is taken, so that until then all jobs can be counted in the queue.
    jobs: Option<Consumer>,
    control: Consumer,
    signal_to: String,
    secret: EngineSecret,
}

impl Harness {
    pub(crate) async fn new() -> Self {
        let faults: Arc<AppendFaults> = Arc::default();
        let logbook = Arc::new(InterceptedLogbook::new(Arc::new(Memory::new()), faults.clone()));
        Self::on_broker(InProcess::new(), logbook, faults, "one", own("one")).await
    }

    /// A world in which so many runs of a flow may be open.
    pub(crate) async fn with_max_open_runs(max: u64) -> Self {
        let faults: Arc<AppendFaults> = Arc::default();
        let logbook = Arc::new(InterceptedLogbook::new(Arc::new(Memory::new()), faults.clone()));
        let broker = InProcess::new();
        let config = (own("one"), NonZeroU64::new(max));
        Self::on(LossyConnection::to(&broker), broker, logbook, faults, "one", config).await
    }

    /// A world whose broker takes only small messages. The engine has a long name, which each permit repeats.
    pub(crate) async fn with_max_message_bytes(max: usize) -> Self {
        let faults: Arc<AppendFaults> = Arc::default();
        let logbook = Arc::new(InterceptedLogbook::new(Arc::new(Memory::new()), faults.clone()));
        let broker = InProcess::new().with_max_message_bytes(max);
        Self::on_broker(broker, logbook, faults, &"e".repeat(90), own("one")).await
    }

    /// Another engine over the same broker and logbook.
    pub(crate) async fn another_engine(&self) -> Self {
        Self::on_broker(self.broker.connect(), self.logbook.clone(), self.faults.clone(), "other", own("other")).await
    }

    async fn on_broker(
        broker: InProcess,
        logbook: Arc<dyn Logbook>,
        faults: Arc<AppendFaults>,
        id: &str,
        part: ShardAssignment,
    ) -> Self {
        Self::on(LossyConnection::to(&broker), broker, logbook, faults, id, (part, None)).await
    }

    async fn with_clock(
        clock: Arc<PausedClock>,
        connection: LossyConnection,
        broker: InProcess,
        logbook: Arc<dyn Logbook>,
        faults: Arc<AppendFaults>,
        id: &str,
        (part, max_open_runs): (ShardAssignment, Option<NonZeroU64>),
    ) -> Self {
        let of_namespace = flow::PerNamespace::default();
        let max_open_runs = MaxOpenRuns { of_flow: max_open_runs, of_namespace };
        let max_output = flow::Limits::maximum().output;
        let memo_limits = logbook::MemoLimits::default();
        let host = "host".to_owned();
        let config = Config { id: id.into(), shards: part, max_open_runs, max_output, memo_limits, host };
        let signal_to = match &config.shards {
            ShardAssignment::Own(shard) => topology::shard_queue(shard),
            ShardAssignment::Shared => topology::shard_queue(&config.id.parse().unwrap()),
        };
        let store = Arc::new(store::Memory::new());
        let shared: Arc<dyn Broker> = Arc::new(connection.clone());
        let engine = Engine::start(config, shared, logbook.clone(), store, clock.clone()).await.unwrap();
        let queue = "default".parse().unwrap();
        broker::topology::declare_jobs(&broker, &queue).await.unwrap();
        let control = listen(&broker, topology::CONTROL, "").await;
        let secret = logbook.secret().await.unwrap();
        Self { engine, faults, logbook, connection, clock, broker, jobs: None, control, signal_to, secret }
    }

    /// A world whose engine shares the shards with others.
    pub(crate) async fn shared() -> Self {
        let faults: Arc<AppendFaults> = Arc::default();
        let logbook = Arc::new(InterceptedLogbook::new(Arc::new(Memory::new()), faults.clone()));
        Self::on_broker(InProcess::new(), logbook, faults, "one", ShardAssignment::Shared).await
    }

    /// A world whose engine starts while a queue does not respond.
    pub(crate) async fn with_unresponsive_queue(queue: &str) -> Self {
        let faults: Arc<AppendFaults> = Arc::default();
        let logbook = Arc::new(InterceptedLogbook::new(Arc::new(Memory::new()), faults.clone()));
        let broker = InProcess::new();
        let connection = LossyConnection::to(&broker);
        connection.set_unresponsive(queue, true);
        Self::on(connection, broker, logbook, faults, "one", (ShardAssignment::Shared, None)).await
    }

    /// An engine that shares the shards with this one.
    pub(crate) async fn sharing_engine(&self, id: &str) -> Self {
        Self::on_broker(self.broker.connect(), self.logbook.clone(), self.faults.clone(), id, ShardAssignment::Shared)
            .await
    }

    /// Like [`Self::sharing_engine`], with a connection that takes this long for each operation on an exchange.
    pub(crate) async fn sharing_engine_with_slow(&self, id: &str, exchange: &str, delay: std::time::Duration) -> Self {
        let broker = self.broker.connect();
        let connection = LossyConnection::to(&broker);
        connection.set_slow(exchange, delay);
        let (logbook, faults) = (self.logbook.clone(), self.faults.clone());
        Self::on(connection, broker, logbook, faults, id, (ShardAssignment::Shared, None)).await
    }

    /// Stops the process and its queues; starts another engine that shares the logbook.
    pub(crate) async fn new_process(self) -> Self {
        self.engine.abort().await;
        self.faults.resume();
        Self::on_broker(InProcess::new(), self.logbook, self.faults, "again", ShardAssignment::Shared).await
    }

    /// Aborts the engine, and starts another for the same shard.
    pub(crate) async fn restart(self) -> Self {
        self.engine.abort().await;
        let (broker, jobs, control) = (self.broker.connect(), self.jobs, self.control);
        drop(control);
        let again = Self::on_broker(broker, self.logbook, self.faults, "again", own("one")).await;
        Self { jobs, ..again }
    }

    pub(crate) async fn submit(&self, run: &str, flow: &Arc<Flow>) -> Result<Watch, SubmitError> {
        self.engine.submit(run.parse().unwrap(), flow.clone()).await
    }

    /// Takes the next job and leaves it unanswered.
    pub(crate) async fn take_job(&mut self) -> Job {
        let message = self.take_job_message().await;
        Job::decode(&message.body).expect("a job that can be read")
    }

    /// Takes the next job with its headers, and leaves it unanswered.
    pub(crate) async fn take_job_message(&mut self) -> Message {
        let jobs = match &mut self.jobs {
            Some(jobs) => jobs,
            none => {
                // If the queue was deleted, waits until it exists again.
                while self.broker.waiting(JOBS).await.unwrap().is_none() {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                none.insert(self.broker.consume(JOBS, 1).await.unwrap())
            }
        };
        let delivery = jobs.next().await.expect("a job");
        let message = delivery.message.clone();
        delivery.accept();
        message
    }

    /// A worker returns the job that this message sent, and has not started it.
    pub(crate) async fn return_job(&self, call: &CallId, sending: SendingId) {
        let call = call.clone();
        self.publish_report(&Report::NotStarted { call, redeliveries: 0, unanswered: 0, sending }).await;
    }

    /// Deletes the queue of all jobs.
    pub(crate) async fn delete_jobs(&mut self) {
        self.broker.delete_queue(JOBS).await.unwrap();
        self.jobs = None;
    }

    /// Deletes the queue of the engine's shard.
    pub(crate) async fn delete_own_queue(&self) {
        self.broker.delete_queue(&self.signal_to).await.unwrap();
    }

    /// Takes the next job and answers that it succeeded.
    pub(crate) async fn answer_next(&mut self) -> CallId {
        let job = self.take_job().await;
        self.signal(&job.call).await;
        job.call
    }

    pub(crate) async fn signal(&self, call: &CallId) {
        self.report(call, TaskResult::Succeeded(Values::new())).await;
    }

    pub(crate) async fn fail(&self, call: &CallId, kind: FailureKind) {
        self.report(call, TaskResult::Failed(Failure::new(kind, "by hand"))).await;
    }

    /// Takes the next job and answers it on the queue that the job names.
    pub(crate) async fn answer_shared(&mut self, run: &str) -> CallId {
        let job = self.take_job().await;
        assert_eq!(job.call.run.as_str(), run);
        self.signal_job(&job).await;
        job.call
    }

    /// Answers a job on the queue that the job names.
    pub(crate) async fn signal_job(&self, job: &Job) {
        self.answer_job(job, TaskResult::Succeeded(Values::new())).await;
    }

    /// Fails a job on the queue that the job names.
    pub(crate) async fn fail_job(&self, job: &Job, kind: FailureKind) {
        self.answer_job(job, TaskResult::Failed(Failure::new(kind, "by hand"))).await;
    }

    async fn answer_job(&self, job: &Job, answer: TaskResult) {
        let (call, execution) = (job.call.clone(), execution(&job.call));
        let signal = Signal { call, answer, execution, redelivered: false, worker: None };
        self.publish(job.signal_to.clone(), &Report::Signal(signal, CallLog::default()).encode(&job.keys)).await;
    }

    /// Sends a worker's heartbeat for a call.
    pub(crate) async fn heartbeat(&self, call: &CallId) {
        let (worker, number) = ("w".parse().unwrap(), next_number());
        let report = Report::Heartbeat { call: call.clone(), worker, number };
        self.publish_report(&report).await;
    }

    /// Sends a worker's heartbeat on the queue that the job names.
    pub(crate) async fn heartbeat_job(&self, job: &Job) {
        let (worker, number) = ("w".parse().unwrap(), next_number());
        let report = Report::Heartbeat { call: job.call.clone(), worker, number };
        self.publish(job.signal_to.clone(), &report.encode(&job.keys)).await;
    }

    /// Waits until a run has a record with this fact.
    pub(crate) async fn wait_for_fact(&self, run: &str, fact: &str) {
        while !self.facts(run).await.contains(&fact) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// A stopping worker releases a call.
    pub(crate) async fn release(&self, call: &CallId) {
        let report = Report::Released { call: call.clone(), worker: "w".parse().unwrap() };
        self.publish_report(&report).await;
    }

    /// The names of the run's records.
    pub(crate) async fn facts(&self, run: &str) -> Vec<&'static str> {
        let records = self.logbook.read(&run.parse().unwrap(), Version::NONE, 1_000).await.unwrap();
        records.iter().map(|record| record.fact.name()).collect()
    }

    /// The state of the run, according to its records.
    pub(crate) async fn state(&self, run: &str) -> RunState {
        self.logbook.summary(&run.parse().unwrap()).await.unwrap().info.state
    }

    /// The shard of a run.
    pub(crate) async fn shard(&self, run: &str) -> String {
        self.logbook.summary(&run.parse().unwrap()).await.unwrap().info.shard.to_string()
    }

    /// Waits until the recorded state of the run is `state`.
    pub(crate) async fn wait_for_state(&self, run: &str, state: RunState) {
        while self.state(run).await != state {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn report(&self, call: &CallId, answer: TaskResult) {
        let signal =
            Signal { call: call.clone(), answer, execution: execution(call), redelivered: false, worker: None };
        self.publish_report(&Report::Signal(signal, CallLog::default())).await;
    }

    /// Sends a report about a call as the worker that has its job.
    pub(crate) async fn publish_report(&self, report: &Report) {
        let call = report.call().expect("a worker reports about a call");
        let keys = self.secret.call_keys(call, report.contents());
        self.publish_to_engine(&report.encode(&keys)).await;
    }

    /// The secret of the engines.
    pub(crate) fn secret(&self) -> &EngineSecret {
        &self.secret
    }

    pub(crate) async fn publish_to_engine(&self, body: &[u8]) {
        self.publish(self.signal_to.clone(), body).await;
    }

    async fn publish(&self, queue: String, body: &[u8]) {
        let message = Message {
            exchange: topology::REPORTS.into(),
            key: queue,
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties: Properties::default(),
            body: body.to_vec().into(),
        };
        self.publish_message(message).await;
    }

    pub(crate) async fn publish_message(&self, message: Message) {
        self.broker.publish(message).await.unwrap();
    }

    /// The queue of the engine's shard.
    pub(crate) fn signal_to(&self) -> &str {
        &self.signal_to
    }

    /// The broker that all engines of this world share.
    pub(crate) fn broker(&self) -> &InProcess {
        &self.broker
    }

    /// The next message in quarantine, with the queue it was taken from and the reason.
    pub(crate) async fn next_quarantined(&self) -> (Message, String, String) {
        let delivery = self.broker.consume(topology::QUARANTINE, 1).await.unwrap().next().await.expect("a message");
        let message = delivery.message.clone();
        delivery.accept();
        let header = |name: &str| message.properties.headers[name].clone();
        let (queue, reason) = (header(topology::QUARANTINED_FROM), header(topology::QUARANTINE_REASON));
        (message, queue, reason)
    }

    /// Number of sent jobs, as long as none was taken.
    pub(crate) async fn jobs_waiting(&self) -> u64 {
        self.broker.waiting(JOBS).await.unwrap().unwrap_or(0)
    }

    /// Returns the next call that all workers are asked to stop.
    pub(crate) async fn next_interrupt(&mut self) -> CallId {
        loop {
            match self.next_control().await {
                Control::Interrupt { call, .. } => return call,
                Control::Withdraw(_) => {}
                Control::Ping(_)
                | Control::MayStart { .. }
                | Control::UnknownKey { .. }
                | Control::ExplainGrants(_)
                | Control::Details(_)
                | Control::Drain(_)
                | Control::FollowLogs { .. } => {
                    panic!("unexpected broadcast")
                }
            }
        }
    }

    /// Returns the next withdrawn calls, as all workers receive them.
    pub(crate) async fn next_withdrawn(&mut self) -> Vec<CallId> {
        loop {
            match self.next_control().await {
                Control::Withdraw(calls) => return calls.into_iter().map(|withdrawn| withdrawn.call).collect(),
                Control::Interrupt { .. } => {}
                Control::Ping(_)
                | Control::MayStart { .. }
                | Control::UnknownKey { .. }
                | Control::ExplainGrants(_)
                | Control::Details(_)
                | Control::Drain(_)
                | Control::FollowLogs { .. } => {
                    panic!("unexpected broadcast")
                }
            }
        }
    }

    async fn next_control(&mut self) -> Control {
        let delivery = self.control.next().await.expect("a control message");
        let control = Control::decode(&delivery.message.body).expect("it can be read");
        delivery.accept();
        control
    }

    /// A worker reports that it has begun a call.
    pub(crate) async fn report_started(&self, call: &CallId) {
        let (worker, number) = ("w".parse().unwrap(), next_number());
        let report = Report::Started { call: call.clone(), worker, number };
        self.publish_report(&report).await;
    }

    /// Consumes the notifications that match a pattern.
    pub(crate) async fn listen(&self, pattern: &str) -> Consumer {
        listen(&self.broker, topology::NOTIFICATIONS, pattern).await
    }

    /// Consumes the notifications about runs that match a pattern.
    pub(crate) async fn listen_to_runs(&self, pattern: &str) -> Consumer {
        listen(&self.broker, topology::RUNS, pattern).await
    }

    pub(crate) async fn end(mut watch: Watch) -> Arc<Machine> {
        loop {
            match watch.next().await.expect("the run ends") {
                WatchEvent::Ended(machine) => return machine,
                WatchEvent::Change(_) | WatchEvent::Log(_) | WatchEvent::Progress(_) => {}
            }
        }
    }

    /// The tasks that succeeded according to the run's records, in order.
    pub(crate) async fn successes(&self, run: &str) -> Vec<String> {
        let run: RunId = run.parse().unwrap();
        let records = self.logbook.load(&run).await.unwrap().records;
        let machine = Machine::replay(run, &records).unwrap();
        let name = |record: &Record| match &record.fact {
            Fact::Succeeded { attempt, .. } => Some(machine.flow().node(attempt.node).name.to_string()),
            _ => None,
        };
        records.iter().filter_map(name).collect()
    }
}

/// The number of the next heartbeat.
fn next_number() -> HeartbeatNumber {
    static LAST: AtomicU64 = AtomicU64::new(0);
    HeartbeatNumber { execution: Execution::new(1), count: LAST.fetch_add(1, Ordering::Relaxed) + 1 }
}

fn own(shard: &str) -> ShardAssignment {
    ShardAssignment::Own(shard.parse().unwrap())
}

async fn listen(broker: &InProcess, exchange: &str, key: &str) -> Consumer {
    let broker = broker.connect();
    // The queue outlives the connection's last handle, so each listener has its own.
    let name = format!("listener.{}", uuid::Uuid::now_v7());
    broker.declare_queue(&Queue { name: name.clone(), kind: QueueKind::Exclusive }).await.unwrap();
    let to = Destination::Queue(name.clone());
    broker.bind(&Binding { exchange: exchange.into(), key: key.into(), to }).await.unwrap();
    broker.consume(&name, 100).await.unwrap()
}

/// Returns the same execution for each answer to a call.
fn execution(call: &CallId) -> Execution {
    Execution::new(call.to_string().bytes().fold(7, |sum, byte| sum * 31 % 1_000_007 + u64::from(byte)))
}
