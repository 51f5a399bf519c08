//! `waft run`: a flow from its file to its end, here or on the workers at a broker.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use ::worker::{Config, Worker};
use anyhow::anyhow;
use broker::{Broker, InProcess};
use engine::{Engine, Happening, SystemClock, Watch};
use flow::{Flow, Machine, QueueName, RunId, Shard, WorkerName};
use logbook::Memory;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{PATIENCE, broker_url, connect, cores, local_modules, process_name};
use crate::{
    arguments::{BrokerFlag, ValueFlags},
    display::Display,
    exit::{Exit, Failed},
    flow_file,
    modules::{Keep, Library},
    settings::Settings,
    signals::Stop,
};

/// A run without a broker starts with at least this many slots.
const FEWEST_SLOTS: u16 = 4;

/// What a run needs.
pub(super) struct Running<'a> {
    pub(super) settings: &'a Settings,
    pub(super) modules: Library,
    pub(super) flow: Arc<Flow>,
    pub(super) broker: &'a BrokerFlag,
    pub(super) run_id: Option<RunId>,
    pub(super) as_json: bool,
}

pub(super) async fn run(
    settings: &Settings,
    flow: &Path,
    values: &ValueFlags,
    broker: &BrokerFlag,
    run_id: Option<&str>,
    as_json: bool,
) -> Result<Exit, Failed> {
    let given = flow_file::given_values(values)?;
    let run_id = run_id.map(RunId::new).transpose().map_err(Failed::invalid)?;
    let library = Library::open(settings, slots(settings)).await?;
    let flow = flow_file::check(&library, flow, &given, Keep::Store).await?.into_flow()?;
    run_flow(Running { settings, modules: library, flow, broker, run_id, as_json }).await
}

/// How many slots a run on its own has.
pub(super) fn slots(settings: &Settings) -> u16 {
    settings.slots.unwrap_or_else(cores).max(FEWEST_SLOTS)
}

/// Runs a flow to its end and shows it.
pub(super) async fn run_flow(running: Running<'_>) -> Result<Exit, Failed> {
    let stop = Stop::listen().map_err(Failed::unreachable)?;
    let unique = uuid::Uuid::now_v7().to_string();
    let run_id = running.run_id.clone().map_or_else(|| RunId::new(&unique), Ok).map_err(Failed::invalid)?;
    let shard = Shard::new(&unique).map_err(Failed::invalid)?;
    match broker_url(running.settings, running.broker) {
        Some(url) => {
            let broker = connect(url, running.broker.tls_ca.clone(), &format!("waft run {}", process_name())).await?;
            let missing = missing_workers(broker.clone(), running.flow.clone());
            let exit = drive(&running, broker.clone(), shard, run_id, &stop, missing).await;
            broker.close().await;
            exit
        }
        None => {
            let broker: Arc<dyn Broker> = Arc::new(InProcess::new());
            let here = Here::start(&running, broker.clone()).await?;
            let exit = drive(&running, broker.clone(), shard, run_id, &stop, std::future::pending()).await;
            here.stop().await;
            broker.close().await;
            exit
        }
    }
}

/// The worker inside this process.
struct Here {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Here {
    async fn start(running: &Running<'_>, broker: Arc<dyn Broker>) -> Result<Self, Failed> {
        let name = WorkerName::new("local").map_err(Failed::invalid)?;
        let sandbox = running.modules.sandbox.clone();
        let modules = local_modules(running.settings, sandbox, broker.clone(), "local").await?;
        let queues: BTreeSet<QueueName> = running.flow.tasks().map(|(_, _, task)| task.queue.clone()).collect();
        let config = Config {
            name,
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            instance: process_name(),
            version: env!("CARGO_PKG_VERSION").into(),
            slots: slots(running.settings),
            queues: queues.into_iter().collect(),
            grace: std::time::Duration::ZERO,
        };
        let worker = Worker::connect(config, broker, modules).await.map_err(Failed::unreachable)?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(worker.run(stop.clone(), stop.clone()));
        tasks.close();
        Ok(Self { stop, tasks })
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// Waits a while, and says which queues of the flow no worker at the broker takes jobs from, if any.
async fn missing_workers(broker: Arc<dyn Broker>, flow: Arc<Flow>) -> Option<String> {
    tokio::time::sleep(PATIENCE).await;
    // Advice that cannot be had is no reason to stop a run.
    let workers = client::workers(broker, std::time::Duration::from_secs(1)).await.ok()?;
    let served: BTreeSet<&QueueName> = workers.iter().flat_map(|worker| &worker.queues).collect();
    let wanted: BTreeSet<&QueueName> = flow.tasks().map(|(_, _, task)| &task.queue).collect();
    let missing: Vec<&str> = wanted.difference(&served).map(|queue| queue.as_str()).collect();
    if missing.is_empty() {
        return None;
    }
    let queues = missing.join(",");
    Some(format!("no worker takes jobs from {queues}: start one with `waft worker --broker URL --queues {queues}`"))
}

/// Submits the run and watches it to its end.
async fn drive(
    running: &Running<'_>,
    broker: Arc<dyn Broker>,
    shard: Shard,
    run_id: RunId,
    stop: &Stop,
    advice: impl Future<Output = Option<String>>,
) -> Result<Exit, Failed> {
    let (flow, modules) = (running.flow.clone(), &running.modules);
    let config = engine::Config { shard: shard.clone() };
    let (logbook, clock) = (Arc::new(Memory::new()), Arc::new(SystemClock));
    let engine = Engine::start(config, broker.clone(), logbook, modules.store.clone(), clock)
        .await
        .map_err(Failed::unreachable)?;
    let watch = engine.submit(run_id.clone(), flow.clone()).await.map_err(Failed::unreachable)?;
    let mut display = Display::new(run_id.clone(), flow, running.as_json);
    let ended = follow(&engine, watch, &run_id, &mut display, stop, advice).await;
    engine.stop().await;
    if ended.as_ref().is_some_and(|machine| machine.state().is_final()) {
        delete_queues(&*broker, &shard).await;
    }
    let Some(machine) = ended else {
        display.clear();
        let error =
            if stop.insisted.is_cancelled() { anyhow!("stopped at once") } else { anyhow!("the engine stopped") };
        return Err(Failed::new(Exit::Interrupted, error));
    };
    display.end(&machine);
    Ok(Exit::of(machine.state()))
}

/// Takes the queues of a run away once nothing more is to come. Those of an interrupted one go by themselves, later: its
/// workers are still answering, and RabbitMQ 3 closes the connection of a worker whose signal meets a quorum queue that is
/// just being deleted.
async fn delete_queues(broker: &dyn Broker, shard: &Shard) {
    for queue in [protocol::topology::engine(shard), protocol::topology::store(shard)] {
        // Left behind, it goes by itself.
        let _ = broker.delete_queue(&queue).await;
    }
}

/// Shows what happens until the run has ended. Asked to stop, it lets running calls finish for a while, then gives
/// them up; asked again, it leaves at once.
async fn follow(
    engine: &Engine,
    mut watch: Watch,
    run_id: &RunId,
    display: &mut Display,
    stop: &Stop,
    advice: impl Future<Output = Option<String>>,
) -> Option<Arc<Machine>> {
    tokio::pin!(advice);
    let (mut asked, mut advised) = (false, false);
    let patience = tokio::time::sleep(PATIENCE);
    tokio::pin!(patience);
    let mut gave_up = false;
    let mut redraw = tokio::time::interval(Display::PERIOD);
    loop {
        tokio::select! {
            happening = watch.next() => match happening? {
                Happening::Change(change) => display.change(&change),
                Happening::Progress(progress) => display.progress(&progress),
                Happening::Ended(machine) => return Some(machine),
            },
            _ = redraw.tick() => display.draw(),
            advice = &mut advice, if !advised => {
                advised = true;
                advice.iter().for_each(|advice| display.note(advice));
            }
            () = stop.asked.cancelled(), if !asked => {
                asked = true;
                patience.as_mut().reset(tokio::time::Instant::now() + PATIENCE);
                display.note("stopping: running calls have five seconds to finish; again to stop at once");
                engine.suspend(run_id.clone()).await.ok()?;
            }
            () = &mut patience, if asked && !gave_up => {
                gave_up = true;
                engine.abandon(run_id.clone()).await.ok()?;
            }
            () = stop.insisted.cancelled() => return None,
        }
    }
}
