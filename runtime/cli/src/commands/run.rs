//! `waft run`: a flow from its file to its end, here or on the workers at a broker.

use std::{collections::BTreeSet, path::Path, pin::Pin, sync::Arc};

use anyhow::anyhow;
use broker::{Broker, InProcess};
use engine::{Engine, Happening, Part, SubmitError, SystemClock, Watch};
use flow::{Change, Flow, Machine, NodeChange, NodeIndex, QueueName, Role, RunId, Shard};
use logbook::{LoadError, Logbook};
use protocol::Wish;
use store::Store;

use super::{PATIENCE, broker_url, connect, cores, end, here::Here, open_logbook, process_name};
use crate::{
    arguments::{BrokerFlag, ValueFlags},
    display::Display,
    exit::{Exit, Failed},
    flow_file,
    modules::{self, Keep, Library},
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
    pub(super) logbook: Arc<dyn Logbook>,
    pub(super) broker: &'a BrokerFlag,
    pub(super) run: Which,
    pub(super) as_json: bool,
}

/// Which run it is.
#[derive(Debug, Clone)]
pub(super) enum Which {
    /// A new one; its id is chosen where none is given.
    New(Option<RunId>),
    /// One that was interrupted, and the shard that it was driven under.
    Interrupted(RunId, Shard),
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
    let library = modules::open(settings, slots(settings)).await?;
    let flow = flow_file::check(&library, flow, &given, Keep::Store).await?.into_flow()?;
    let logbook = open_logbook(settings).await?;
    let run = Which::New(run_id);
    run_flow(Running { settings, modules: library, flow, logbook, broker, run, as_json }).await
}

/// Goes on with a run that was interrupted.
pub(super) async fn resume(settings: &Settings, run: &str, broker: &BrokerFlag, as_json: bool) -> Result<Exit, Failed> {
    let run = RunId::new(run).map_err(Failed::invalid)?;
    let modules = modules::open(settings, slots(settings)).await?;
    let logbook = open_logbook(settings).await?;
    let history = logbook.load(&run).await.map_err(|error| match error {
        error @ LoadError::Missing { .. } => Failed::invalid(error).hint("the run may be in another --logbook"),
        error @ (LoadError::Damaged { .. } | LoadError::Unavailable { .. }) => Failed::unreachable(error),
    })?;
    let shard = history.standing.shard.clone();
    let machine = history.into_machine().map_err(Failed::unreachable)?;
    if machine.state().is_final() {
        let values = store::values::whole_of_run(&*modules.store, &machine).await;
        Display::new(run, machine.flow(), as_json).end(&machine, &values);
        return Ok(Exit::of(machine.state()));
    }
    let flow = machine.flow().clone();
    run_flow(Running { settings, modules, flow, logbook, broker, run: Which::Interrupted(run, shard), as_json }).await
}

/// How many slots a run on its own has.
pub(super) fn slots(settings: &Settings) -> u16 {
    settings.slots.unwrap_or_else(cores).max(FEWEST_SLOTS)
}

/// Runs a flow to its end and shows it.
pub(super) async fn run_flow(running: Running<'_>) -> Result<Exit, Failed> {
    let stop = Stop::listen().map_err(Failed::unreachable)?;
    let unique = uuid::Uuid::now_v7().to_string();
    let run_id = match &running.run {
        Which::New(None) => RunId::new(&unique).map_err(Failed::invalid)?,
        Which::New(Some(run)) | Which::Interrupted(run, _) => run.clone(),
    };
    let shard = match &running.run {
        // What workers answer to the calls of an interrupted run goes to the queue of its shard.
        Which::Interrupted(_, shard) if !protocol::topology::shards().any(|shared| shared == *shard) => shard.clone(),
        Which::New(_) | Which::Interrupted(..) => Shard::new(&unique).map_err(Failed::invalid)?,
    };
    match broker_url(running.settings, running.broker) {
        Some(url) => {
            let name = format!("waft run {}", process_name());
            let broker = stop.unless_asked(connect(url, running.broker.tls_ca.clone(), &name)).await?;
            let missing = missing_workers(broker.clone(), running.flow.clone());
            let exit = drive(&running, broker.clone(), shard, run_id, &stop, missing).await;
            stop.insisted.run_until_cancelled(broker.close()).await;
            exit
        }
        None => {
            refuse_to_wait(&running.flow)?;
            let broker: Arc<dyn Broker> = Arc::new(InProcess::new());
            let queues = running.flow.tasks().map(|(_, _, task)| task.queue.clone()).collect();
            let here = Here {
                sandbox: running.modules.sandbox.clone(),
                slots: slots(running.settings),
                queues,
                grace: std::time::Duration::ZERO,
            };
            let here = here.start(running.settings, broker.clone()).await?;
            let exit = drive(&running, broker.clone(), shard, run_id, &stop, std::future::pending()).await;
            here.stop(&stop.insisted).await;
            broker.close().await;
            exit
        }
    }
}

/// A run in this process alone has nobody to be notified by.
fn refuse_to_wait(flow: &Flow) -> Result<(), Failed> {
    let waits = |index: &NodeIndex| matches!(flow.node(*index).role, Role::Wait(_));
    let waiting: Vec<&str> = flow.indices().filter(waits).map(|index| flow.node(index).name.as_str()).collect();
    if waiting.is_empty() {
        let is_idle = flow.living.as_ref().is_some_and(|living| living.persistent && living.schedules.is_empty());
        if is_idle {
            let error = anyhow!("flow {} is persistent, and nobody can notify a run of this process", flow.name);
            return Err(Failed::invalid(error).hint("start `waft serve`, and give the flow to it with `waft submit`"));
        }
        return Ok(());
    }
    let error = anyhow!("{} would wait to be notified, and nobody can reach a run of this process", waiting.join(", "));
    Err(Failed::invalid(error).hint("start `waft serve`, and give the flow to it with `waft submit`"))
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
    let config = engine::Config { id: uuid::Uuid::now_v7().to_string(), part: Part::Own(shard.clone()) };
    let (logbook, clock) = (running.logbook.clone(), Arc::new(SystemClock));
    let starting = Engine::start(config, broker.clone(), logbook, modules.store.clone(), clock);
    let engine = stop.unless_asked(async { starting.await.map_err(Failed::unreachable) }).await?;
    let beginning = async {
        match running.run {
            Which::New(_) => engine.submit(run_id.clone(), flow.clone()).await.map_err(|error| match error {
                error @ SubmitError::Exists { .. } => Failed::invalid(error)
                    .hint(format!("choose another --run-id; `waft run --resume {run_id}` goes on with that run")),
                error => Failed::unreachable(error),
            }),
            Which::Interrupted(..) => engine.adopt(run_id.clone()).await.map_err(Failed::unreachable),
        }
    };
    // It may have begun by the time that somebody asks to stop, so that only insisting leaves it.
    let stopped = || {
        let hint = format!("`waft run --resume {run_id}` goes on with it, if it had begun");
        Failed::new(Exit::Interrupted, anyhow!("stopped at once")).hint(hint)
    };
    let watch = match stop.insisted.run_until_cancelled(beginning).await.unwrap_or_else(|| Err(stopped())) {
        Ok(watch) => watch,
        Err(failed) => {
            end(&engine, stop).await;
            stop.insisted.run_until_cancelled(delete_queues(&*broker, &shard)).await;
            return Err(failed);
        }
    };
    let mut display = Display::new(run_id.clone(), &flow, running.as_json);
    let following = Following { engine: &engine, run_id: &run_id, store: &*modules.store };
    let ended = following.run(watch, &mut display, stop, advice).await;
    end(&engine, stop).await;
    if ended.as_ref().is_some_and(|machine| machine.state().is_final()) {
        stop.insisted.run_until_cancelled(delete_queues(&*broker, &shard)).await;
    }
    let Some(machine) = ended else {
        display.clear();
        let hint = format!("`waft run --resume {run_id}` goes on with it");
        return Err(if stop.insisted.is_cancelled() {
            Failed::new(Exit::Interrupted, anyhow!("stopped at once")).hint(hint)
        } else {
            Failed::unreachable(anyhow!("the engine cannot go on")).hint(hint)
        });
    };
    let values = store::values::whole_of_run(&*modules.store, &machine).await;
    display.end(&machine, &values);
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

/// Something that the engine is being asked.
type Asking<'a> = Pin<Box<dyn Future<Output = Result<(), engine::AskError>> + Send + 'a>>;

/// A run that is shown until it has ended.
struct Following<'a> {
    engine: &'a Engine,
    run_id: &'a RunId,
    store: &'a dyn Store,
}

impl Following<'_> {
    /// Shows what happens until the run has ended. Asked to stop, it lets running calls finish for a while, then gives
    /// them up; asked again, it leaves at once.
    async fn run(
        &self,
        mut watch: Watch,
        display: &mut Display,
        stop: &Stop,
        advice: impl Future<Output = Option<String>>,
    ) -> Option<Arc<Machine>> {
        let Self { engine, run_id, store } = *self;
        tokio::pin!(advice);
        let (mut asked, mut advised) = (false, false);
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        let mut gave_up = false;
        let mut redraw = tokio::time::interval(Display::PERIOD);
        // Asked beside all else: what happens meanwhile has to be taken, or the engine waits for us.
        let mut asking: Option<Asking<'_>> = None;
        loop {
            tokio::select! {
                asked = async { asking.as_mut().expect("it is there").await }, if asking.is_some() => {
                    asking = None;
                    asked.ok()?;
                }
                happening = watch.next() => match happening? {
                    Happening::Change(change) => display.change(&whole(store, change).await),
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
                    asking = Some(Box::pin(async { engine.ask_here(run_id, Wish::Suspend).await.map(drop) }));
                }
                () = &mut patience, if asked && !gave_up => {
                    gave_up = true;
                    asking = Some(Box::pin(engine.abandon(run_id.clone())));
                }
                () = stop.insisted.cancelled() => return None,
            }
        }
    }
}

/// The change with the values that only the store has.
async fn whole(store: &dyn Store, change: Change) -> Change {
    match change {
        Change::Node(change) => {
            let provides = match change.provides {
                Some(provides) => Some(store::values::whole(store, provides).await),
                None => None,
            };
            Change::Node(NodeChange { provides, ..change })
        }
        change @ (Change::Run { .. } | Change::Firing { .. }) => change,
    }
}
