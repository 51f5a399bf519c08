//! A whole waft in this process: an engine and a worker, with any broker.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{anyhow, ensure};
use broker::{Amqp, Broker, InProcess, Options};
use bytes::Bytes;
use engine::{Clock, Engine, SystemClock, WatchEvent};
use flow::{Draft, Flow, ModuleContent, ModuleInfo, Pattern, RunId, RunState, Values};
use logbook::{Logbook, Memory};
use sandbox::Sandbox;
use store::Store;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use worker::{Config, ContentSource, Worker};

/// An engine and a worker.
pub(crate) struct Waft {
    engine: Engine,
    module: ModuleInfo,
    queue: String,
    stop: CancellationToken,
    tasks: TaskTracker,
    brokers: [Arc<dyn Broker>; 2],
    _cache: tempfile::TempDir,
}

impl Waft {
    /// Starts it over RabbitMQ, with one connection for the engine and one for the worker.
    pub(crate) async fn over_amqp(url: &str, guest: &Bytes, slots: u16) -> anyhow::Result<Self> {
        Self::durable_over_amqp(url, guest, slots, Arc::new(Memory::new())).await
    }

    /// Starts it over RabbitMQ, with a logbook.
    pub(crate) async fn durable_over_amqp(
        url: &str,
        guest: &Bytes,
        slots: u16,
        logbook: Arc<dyn Logbook>,
    ) -> anyhow::Result<Self> {
        let connect = async || anyhow::Ok(Arc::new(Amqp::connect(Options::new(url)).await?) as Arc<dyn Broker>);
        Self::start([connect().await?, connect().await?], guest, slots, logbook).await
    }

    /// Starts it over the in-process broker.
    pub(crate) async fn in_process(guest: &Bytes, slots: u16) -> anyhow::Result<Self> {
        let broker = InProcess::new();
        Self::start([Arc::new(broker.connect()), Arc::new(broker)], guest, slots, Arc::new(Memory::new())).await
    }

    /// Starts it over the in-process broker, with a logbook.
    pub(crate) async fn with_logbook(guest: &Bytes, slots: u16, logbook: Arc<dyn Logbook>) -> anyhow::Result<Self> {
        let broker = InProcess::new();
        Self::start([Arc::new(broker.connect()), Arc::new(broker)], guest, slots, logbook).await
    }

    async fn start(
        brokers: [Arc<dyn Broker>; 2],
        guest: &Bytes,
        slots: u16,
        logbook: Arc<dyn Logbook>,
    ) -> anyhow::Result<Self> {
        let unique = uuid::Uuid::now_v7().to_string();
        // Only jobs of this start.
        let queue = format!("bench-{unique}");
        let store = Arc::new(store::Memory::new());
        let digest = store.put(guest.clone()).await?;
        let shards = engine::ShardAssignment::Own(unique.parse()?);
        let config = engine::Config {
            id: unique.clone(),
            shards,
            max_open_runs: engine::MaxOpenRuns::default(),
            max_output: flow::Limits::maximum().output,
            memo_limits: logbook::MemoLimits::default(),
            host: String::new(),
        };
        let engine = Engine::start(config, brokers[0].clone(), logbook, store, Arc::new(SystemClock)).await?;
        let sandbox = Sandbox::new(sandbox::Config { slots: slots.into(), ..sandbox::Config::default() })?;
        let content = sandbox.describe(&sandbox.compile(digest, guest.clone()).await?).await?;
        let cache = tempfile::tempdir()?;
        let bytes = store::Cache::open(cache.path().into(), 1 << 30).await?;
        let client = store::bus::Client::new(brokers[1].clone(), format!("waft.reply.worker.{unique}")).await?;
        let config = Config {
            name: format!("bench-{unique}").parse()?,
            host: "here".into(),
            instance: unique.clone(),
            version: "bench".into(),
            slots,
            queues: vec![queue.parse()?],
            own_slots: BTreeMap::new(),
            grace: std::time::Duration::ZERO,
            clock: worker::WallClock::new(|| SystemClock.now()),
            delivery_limit: flow::DELIVERY_LIMIT,
            journal: None,
        };
        let modules = ContentSource::new(sandbox, bytes, client, store::Admission::default(), 64 << 20);
        let worker = Worker::connect(config, brokers[1].clone(), Arc::new(modules)).await?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(worker.run(stop.clone(), stop.clone()));
        tasks.close();
        let module = ModuleInfo { digest, content };
        Ok(Self { engine, module, queue, stop, tasks, brokers, _cache: cache })
    }

    /// The queue that its worker takes from.
    pub(crate) fn queue(&self) -> &str {
        &self.queue
    }

    /// The guest's module.
    pub(crate) fn module(&self) -> &ModuleInfo {
        &self.module
    }

    /// The engine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Runs a flow to its end.
    pub(crate) async fn run(&self, flow: &Arc<Flow>) -> anyhow::Result<()> {
        let run = RunId::new(uuid::Uuid::now_v7().to_string())?;
        let mut watch = self.engine.submit(run, flow.clone()).await?;
        while let Some(event) = watch.next().await {
            if let WatchEvent::Ended(machine) = event {
                let (state, failures) = (machine.state(), machine.failures());
                ensure!(state == RunState::Success, "the run ended in {state}: {failures:?}");
                return Ok(());
            }
        }
        Err(anyhow!("the engine stopped"))
    }

    /// Builds a flow of `noop` tasks in layers of the given sizes; each layer follows the one before.
    pub(crate) fn flow(&self, layers: &[usize]) -> anyhow::Result<Arc<Flow>> {
        self.flow_on(&self.queue, layers)
    }

    /// Builds the same flow with its jobs on a given queue.
    pub(crate) fn flow_on(&self, queue: &str, layers: &[usize]) -> anyhow::Result<Arc<Flow>> {
        let ModuleContent::Tasks(_) = &self.module.content else { return Err(anyhow!("the guest is a command")) };
        let mut builder = Draft::builder("bench")?.pattern(Pattern::Linear);
        for (layer, width) in layers.iter().enumerate() {
            builder = builder.flow(format!("layer-{layer}"), |mut nested| {
                for task in 0..*width {
                    let name = format!("t-{layer}-{task}");
                    nested = nested.task(&name, "guest#noop", |task| task.queue(queue));
                }
                nested.pattern(Pattern::Unordered)
            });
        }
        let modules = [("guest".to_owned(), self.module.clone())].into();
        let (flow, _) = flow::wire(&builder.module("guest", "guest.wasm").build(), &modules, &Values::new())
            .map_err(|diagnostics| anyhow!("{diagnostics:?}"))?;
        Ok(Arc::new(flow))
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.tasks.wait().await;
        self.engine.stop().await;
        for broker in self.brokers {
            broker.close().await;
        }
        Ok(())
    }
}
