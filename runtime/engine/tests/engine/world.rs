//! An engine over the broker in this process, and what surrounds it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use broker::{Binding, Broker, Consumer, Destination, InProcess, Message, Properties, Queue, QueueKind, Routing};
use engine::{Config, Engine, Happening, SubmitError, SystemClock, Watch};
use flow::{
    Answer, CallId, Digest, Fact, Failure, FailureKind, Flow, LimitOverrides, Machine, ModuleContent, ModuleInfo,
    Record, Rollback, RunId, Signal, TaskInfo, Values,
};
use logbook::{Append, AppendError, Appended, LoadError, Logbook, Memory};
use protocol::{Control, Job, Report, topology};
use tokio::sync::{Notify, Semaphore};

/// A flow of tasks one after the other, each with a rollback.
pub(crate) fn linear(tasks: &[&str]) -> Arc<Flow> {
    let nodes: String = tasks.iter().map(|name| format!("[[task]]\nname = \"{name}\"\nuse = \"g\"\n")).collect();
    let text = format!("name = \"f\"\npattern = \"linear\"\n{nodes}[modules]\ng = \"g.wasm\"\n");
    let task = TaskInfo {
        name: "noop".parse().unwrap(),
        doc: String::new(),
        requires: Vec::new(),
        provides: Vec::new(),
        rollback: Rollback::Guest { requires: Vec::new() },
        retry: None,
        limits: LimitOverrides::default(),
    };
    let info = ModuleInfo { digest: Digest::from_bytes([1; 32]), content: ModuleContent::Tasks(vec![task]) };
    let draft = flow::file::parse(&text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    let wired = flow::wire(&draft, &BTreeMap::from([("g".into(), info)]), &Values::new());
    Arc::new(wired.unwrap_or_else(|mistakes| panic!("{mistakes:#?}")).0)
}

/// The queue of all jobs here.
const JOBS: &str = "waft.jobs.default";

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) logbook: Arc<FaultyLogbook>,
    broker: InProcess,
    /// Opened when the first job is taken, so that until then all jobs can be counted where they wait.
    jobs: Option<Consumer>,
    control: Consumer,
    signal_to: String,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::over(InProcess::new(), Arc::default(), "one").await
    }

    /// Another engine over the same broker and logbook.
    pub(crate) async fn another_engine(&self) -> Self {
        Self::over(self.broker.clone(), self.logbook.clone(), "other").await
    }

    async fn over(broker: InProcess, logbook: Arc<FaultyLogbook>, shard: &str) -> Self {
        let config = Config { shard: shard.parse().unwrap() };
        let store = Arc::new(store::Memory::new());
        let shared: Arc<dyn Broker> = Arc::new(broker.clone());
        let engine =
            Engine::start(config.clone(), shared, logbook.clone(), store, Arc::new(SystemClock)).await.unwrap();
        let queue = "default".parse().unwrap();
        broker::topology::declare_jobs(&broker, &queue).await.unwrap();
        let control = listen(&broker, topology::CONTROL, "").await;
        Self { engine, logbook, broker, jobs: None, control, signal_to: topology::engine(&config.shard) }
    }

    pub(crate) async fn submit(&self, run: &str, flow: &Arc<Flow>) -> Result<Watch, SubmitError> {
        self.engine.submit(run.parse().unwrap(), flow.clone()).await
    }

    /// Takes the next job and leaves it unanswered.
    pub(crate) async fn take_job(&mut self) -> Job {
        let jobs = match &mut self.jobs {
            Some(jobs) => jobs,
            none => none.insert(self.broker.consume(JOBS, 1).await.unwrap()),
        };
        let delivery = jobs.next().await.expect("a job");
        let job = Job::decode(&delivery.message.body).expect("a job that can be read");
        delivery.accept();
        job
    }

    /// Takes the next job and answers that it succeeded.
    pub(crate) async fn answer_next(&mut self) -> CallId {
        let job = self.take_job().await;
        self.signal(&job.call).await;
        job.call
    }

    pub(crate) async fn signal(&self, call: &CallId) {
        self.report(call, Answer::Succeeded(Values::new())).await;
    }

    pub(crate) async fn fail(&self, call: &CallId, kind: FailureKind) {
        self.report(call, Answer::Failed(Failure::new(kind, "by hand"))).await;
    }

    async fn report(&self, call: &CallId, answer: Answer) {
        let signal = Signal { call: call.clone(), answer, worker: None };
        self.publish_to_engine(&Report::Signal(signal).encode()).await;
    }

    pub(crate) async fn publish_to_engine(&self, body: &[u8]) {
        let message = Message {
            exchange: String::new(),
            key: self.signal_to.clone(),
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties: Properties::default(),
            body: body.to_vec().into(),
        };
        self.broker.publish(message).await.unwrap();
    }

    /// Jobs that are out, as long as none was taken.
    pub(crate) async fn jobs_waiting(&self) -> u64 {
        self.broker.waiting(JOBS).await.unwrap().unwrap_or(0)
    }

    /// The next call that all workers are told to stop.
    pub(crate) async fn next_interrupt(&mut self) -> CallId {
        let delivery = self.control.next().await.expect("a control message");
        let control = Control::decode(&delivery.message.body).expect("it can be read");
        delivery.accept();
        match control {
            Control::Interrupt(call) => call,
            Control::Ping(_) => panic!("nobody pings here"),
        }
    }

    /// Hears the notifications that a pattern takes.
    pub(crate) async fn listen(&self, pattern: &str) -> Consumer {
        listen(&self.broker, topology::NOTIFICATIONS, pattern).await
    }

    pub(crate) async fn end(mut watch: Watch) -> Arc<Machine> {
        loop {
            match watch.next().await.expect("the run ends") {
                Happening::Ended(machine) => return machine,
                Happening::Change(_) | Happening::Progress(_) => {}
            }
        }
    }

    /// The tasks that the run's records say succeeded, in order.
    pub(crate) async fn successes(&self, run: &str) -> Vec<String> {
        let run: RunId = run.parse().unwrap();
        let records = self.logbook.load(&run).await.unwrap();
        let machine = Machine::replay(run, &records).unwrap();
        let name = |record: &Record| match &record.fact {
            Fact::Succeeded { attempt, .. } => Some(machine.flow().node(attempt.node).name.to_string()),
            _ => None,
        };
        records.iter().filter_map(name).collect()
    }
}

async fn listen(broker: &InProcess, exchange: &str, key: &str) -> Consumer {
    let broker = broker.connect();
    // It does not end with the connection's last handle, so each listener has a queue of its own.
    let name = format!("listener.{}", uuid::Uuid::now_v7());
    broker.declare_queue(&Queue { name: name.clone(), kind: QueueKind::Exclusive }).await.unwrap();
    let to = Destination::Queue(name.clone());
    broker.bind(&Binding { exchange: exchange.into(), key: key.into(), to }).await.unwrap();
    broker.consume(&name, 100).await.unwrap()
}

/// How an append fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is written.
    NotWritten,
    /// All is written, and the answer is lost.
    WrittenAndNotSaid,
}

/// A logbook in memory whose appends can be held and can fail.
pub(crate) struct FaultyLogbook {
    inner: Memory,
    fault: Mutex<Option<Fault>>,
    gate: Semaphore,
    held: Mutex<bool>,
    asked: Notify,
}

impl Default for FaultyLogbook {
    fn default() -> Self {
        Self {
            inner: Memory::new(),
            fault: Mutex::default(),
            gate: Semaphore::new(0),
            held: Mutex::new(false),
            asked: Notify::new(),
        }
    }
}

impl FaultyLogbook {
    pub(crate) fn fail_next(&self, fault: Fault) {
        *self.fault.lock().unwrap() = Some(fault);
    }

    pub(crate) fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }

    pub(crate) fn release(&self) {
        *self.held.lock().unwrap() = false;
        self.gate.add_permits(1);
    }

    pub(crate) async fn wait_for_append(&self) {
        self.asked.notified().await;
    }
}

#[async_trait]
impl Logbook for FaultyLogbook {
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<Appended>, AppendError> {
        self.asked.notify_one();
        let held = *self.held.lock().unwrap();
        if held {
            self.gate.acquire().await.expect("the gate stays").forget();
        }
        let fault = self.fault.lock().unwrap().take();
        match fault {
            None => self.inner.append(appends).await,
            Some(Fault::NotWritten) => Err(AppendError::Unavailable { reason: "as the test wants it".into() }),
            Some(Fault::WrittenAndNotSaid) => {
                self.inner.append(appends).await?;
                Err(AppendError::Unavailable { reason: "as the test wants it".into() })
            }
        }
    }

    async fn load(&self, run: &RunId) -> Result<Vec<Record>, LoadError> {
        self.inner.load(run).await
    }
}
