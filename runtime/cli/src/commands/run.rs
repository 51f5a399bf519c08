//! `waft run`: runs a flow from a file to its end, here or on the workers at a broker.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::anyhow;
use broker::{Broker, InProcess};
use engine::{Engine, ShardAssignment, SubmitError, SystemClock};
use flow::{Flow, Labels, NodeIndex, NodeName, RunId, RunState, Shard, State, graph::Role};
use logbook::{LoadError, Logbook, RunLock};
use machine::Machine;
use protocol::{DescribedWorker, RunCommand, WorkerState};

use super::{
    STOP_GRACE, broker_url, connect, core_count,
    embedded_worker::EmbeddedWorker as Worker,
    may_have_runs, missing_workers, open_logbook, process_name,
    run_follower::{RunFollower, live_lines},
    run_location::{LocalRun, is_own, missing},
    shut_down,
};
use crate::{
    arguments::{BrokerFlag, ValueFlags},
    display::{Display, FullValueHint, GuestLogs},
    exit::{CliError, Exit},
    flow_file,
    modules::{self, ModuleLibrary, Purpose},
    settings::Settings,
    signals::StopSignal,
};

/// The minimum number of slots of a run without a broker.
const MIN_SLOTS: u16 = 4;

/// Everything that a run needs.
pub(super) struct RunContext<'a> {
    pub(super) settings: &'a Settings,
    pub(super) modules: ModuleLibrary,
    pub(super) flow: Arc<Flow>,
    pub(super) logbook: Arc<dyn Logbook>,
    pub(super) broker: &'a BrokerFlag,
    pub(super) run: RunTarget,
    /// The labels of the run.
    pub(super) labels: Labels,
    pub(super) as_json: bool,
    /// How a person sees the full value of a truncated one.
    pub(super) full_value_hint: FullValueHint,
    /// Whether the log lines of guests are shown.
    pub(super) guests: GuestLogs,
    /// The run's exclusive lock, if the run already existed.
    pub(super) lock: Option<RunLock>,
}

/// How to show a run: whether as JSON, and whether with the guests' logs.
pub(super) type OutputOptions = (bool, GuestLogs);

/// The id and the labels that a person gives a new run.
pub(super) struct NewRun {
    pub(super) id: Option<String>,
    pub(super) labels: Vec<String>,
}

/// The run to drive.
#[derive(Debug, Clone)]
pub(super) enum RunTarget {
    /// A new one, with this id or a generated one.
    New(Option<RunId>),
    /// A run that another process has driven before, with its shard, and a command for it.
    Resumed { run: RunId, shard: Shard, command: RunCommand },
}

pub(super) async fn run(
    settings: &Settings,
    flow: &Path,
    values: &ValueFlags,
    broker: &BrokerFlag,
    new: NewRun,
    (as_json, guests): OutputOptions,
) -> Result<Exit, CliError> {
    let inputs = flow_file::parse_values(values)?;
    let run_id = new.id.map(RunId::new).transpose().map_err(CliError::invalid)?;
    let labels = Labels::parse(&new.labels).map_err(CliError::invalid)?;
    let library = modules::open_for_calls(settings, slots(settings)).await?;
    let flow = flow_file::check(&library, flow, &inputs, Purpose::Run).await?.into_flow()?;
    let logbook = open_logbook(settings).await?;
    let run = RunTarget::New(run_id);
    run_flow(RunContext {
        settings,
        modules: library,
        flow,
        logbook,
        broker,
        run,
        labels,
        as_json,
        full_value_hint: FullValueHint::Show,
        guests,
        lock: None,
    })
    .await
}

/// Continues an interrupted run.
pub(super) async fn resume(
    settings: &Settings,
    run: &str,
    broker: &BrokerFlag,
    shown: OutputOptions,
) -> Result<Exit, CliError> {
    let run = RunId::new(run).map_err(CliError::invalid)?;
    if !may_have_runs(settings)? {
        return Err(missing(settings, &run));
    }
    let logbook = open_logbook(settings).await?;
    continue_run(settings, LocalRun { logbook, run }, RunCommand::Resume, broker, shown).await
}

/// Drives a run that no process drives to its end, after applying a person's command.
pub(super) async fn continue_run(
    settings: &Settings,
    LocalRun { logbook, run }: LocalRun,
    command: RunCommand,
    broker: &BrokerFlag,
    (as_json, guests): OutputOptions,
) -> Result<Exit, CliError> {
    let load_error = |error| match error {
        LoadError::Missing { .. } => missing(settings, &run),
        error @ (LoadError::Damaged { .. } | LoadError::Unavailable { .. }) => CliError::unreachable(error),
    };
    let summary = logbook.summary(&run).await.map_err(load_error)?;
    let (shard, labels) = (summary.info.shard, summary.labels);
    if !is_own(&shard) {
        let error = anyhow!("run {run} was submitted to a server, and servers drive it");
        return Err(CliError::invalid(error).hint("`waft serve` over this logbook continues it"));
    }
    // Lock before reading, so that the read state is final.
    let lock = lock(&*logbook, &run).await?;
    let modules = modules::open_for_calls(settings, slots(settings)).await?;
    let machine = logbook.load(&run).await.map_err(load_error)?.into_machine().map_err(CliError::unreachable)?;
    if command == RunCommand::Resume && machine.state().is_final() {
        let values =
            store::values::load_run_values(&*modules.store, machine.flow().inputs.clone(), machine.provided()).await;
        Display::new(run, machine.flow(), as_json).end(&machine, &values);
        return Ok(Exit::of(machine.state()));
    }
    if let RunCommand::Skip { task, .. } = &command
        && let Some(unknown) = machine.flow().unknown_task(task)
    {
        let hint = unknown.hint();
        return Err(CliError::invalid(unknown).hint(hint));
    }
    if let Some(reason) = command_rejection(&machine, &command) {
        return Err(CliError::invalid(anyhow!("{reason}")).hint(format!("`waft show {run}` shows its state")));
    }
    let (flow, full_value_hint, run) =
        (machine.flow().clone(), FullValueHint::Show, RunTarget::Resumed { run, shard, command });
    run_flow(RunContext {
        settings,
        modules,
        flow,
        logbook,
        broker,
        run,
        labels,
        as_json,
        full_value_hint,
        guests,
        lock: Some(lock),
    })
    .await
}

/// Why a run rejects a person's command.
fn command_rejection(machine: &Machine, command: &RunCommand) -> Option<String> {
    let (run, state) = (machine.run(), machine.state());
    let node = |task: &NodeName| machine.flow().indices().find(|index| machine.flow().node(*index).name == *task);
    let is_applicable = match command {
        RunCommand::Resume | RunCommand::Cancel => !state.is_final(),
        RunCommand::Retry => matches!(state, RunState::Failure | RunState::RolledBack),
        RunCommand::Skip { task, .. } if state == RunState::Failure => {
            let stuck = |index| machine.node_state(index) == State::RollbackFailure;
            return (!node(&task.base()).is_some_and(stuck))
                .then(|| format!("task {task:?} of run {run} has no rollback that failed: there is nothing to skip"));
        }
        RunCommand::Skip { .. } => false,
        RunCommand::Suspend => return Some(format!("run {run} is driven by no process: there is nothing to suspend")),
        RunCommand::Notify { .. } | RunCommand::TaskNotification(_) | RunCommand::Edit { .. } => {
            return Some(format!("run {run} belongs to `waft run`, which supports no {}", command.as_str()));
        }
    };
    (!is_applicable).then(|| format!("run {run} is {state}: there is nothing to {}", command.as_str()))
}

/// Takes the exclusive lock of a run. The lock ends with this process, however that ends.
pub(super) async fn lock(logbook: &dyn Logbook, run: &RunId) -> Result<RunLock, CliError> {
    if let Some(lock) = logbook.lock_run(run).await.map_err(CliError::unreachable)? {
        return Ok(lock);
    }
    // The run may have ended since.
    let holder = logbook.run_lock_holder(run).await.ok().flatten();
    let holder = holder.map(|holder| format!(": {holder}")).unwrap_or_default();
    Err(CliError::invalid(anyhow!("another process drives run {run}{holder}")).hint(format!(
        "`waft watch {run}` watches it; stop that process with Ctrl-C first; a killed process holds no lock"
    )))
}

/// The number of slots of a run without a broker.
pub(super) fn slots(settings: &Settings) -> u16 {
    settings.slots.unwrap_or_else(core_count).max(MIN_SLOTS)
}

/// Runs a flow to its end and shows it.
pub(super) async fn run_flow(context: RunContext<'_>) -> Result<Exit, CliError> {
    let stop = StopSignal::listen().map_err(CliError::unreachable)?;
    let unique = uuid::Uuid::now_v7().to_string();
    let run_id = match &context.run {
        RunTarget::New(None) => RunId::new(&unique).map_err(CliError::invalid)?,
        RunTarget::New(Some(run)) | RunTarget::Resumed { run, .. } => run.clone(),
    };
    let shard = match &context.run {
        // Workers send answers for calls of an interrupted run to the queue of its shard.
        RunTarget::Resumed { shard, .. } => shard.clone(),
        RunTarget::New(_) => Shard::new(&unique).map_err(CliError::invalid)?,
    };
    let _lock = match context.lock {
        Some(_) => None,
        None => Some(lock(&*context.logbook, &run_id).await?),
    };
    match broker_url(context.settings, context.broker) {
        Some(url) => {
            let name = format!("waft run {}", process_name());
            let broker = stop.until_stop_requested(connect(url, context.broker.tls_ca.clone(), &name)).await?;
            let advice = advice(broker.clone(), context.flow.clone());
            let exit = drive(&context, broker.clone(), shard, run_id, &stop, advice).await;
            stop.forced.run_until_cancelled(broker.close()).await;
            exit
        }
        None => {
            reject_waiting_tasks(&context.flow)?;
            let broker: Arc<dyn Broker> = Arc::new(InProcess::new());
            let queues = context.flow.tasks().map(|(_, _, task)| task.queue.clone()).collect();
            let worker = Worker {
                sandbox: context.modules.sandbox.clone(),
                slots: slots(context.settings),
                queues,
                own_slots: BTreeMap::new(),
                grace: std::time::Duration::ZERO,
                // A person resumes the run, and stops doing so.
                journal: None,
            };
            let worker = worker.start(context.settings, broker.clone()).await?;
            let exit = drive(&context, broker.clone(), shard, run_id, &stop, std::future::pending()).await;
            worker.stop(&stop.forced).await;
            broker.close().await;
            exit
        }
    }
}

/// Refuses waiting tasks: a run in a single process cannot be notified.
fn reject_waiting_tasks(flow: &Flow) -> Result<(), CliError> {
    let waits = |index: &NodeIndex| matches!(flow.node(*index).role, Role::Wait(_));
    let waiting: Vec<&str> = flow.indices().filter(waits).map(|index| flow.node(index).name.as_str()).collect();
    if waiting.is_empty() {
        let is_idle =
            flow.triggers.as_ref().is_some_and(|triggers| triggers.persistent && triggers.schedules.is_empty());
        if is_idle {
            let error = anyhow!("flow {} is persistent, and a run in this process cannot be notified", flow.name);
            return Err(
                CliError::invalid(error).hint("start `waft serve`, and submit the flow to it with `waft submit`")
            );
        }
        return Ok(());
    }
    let error =
        anyhow!("{} would wait to be notified, and a run in this process cannot be notified", waiting.join(", "));
    Err(CliError::invalid(error).hint("start `waft serve`, and give the flow to it with `waft submit`"))
}

/// Waits a while, and names the flow's queues from which no worker at the broker takes jobs, if any.
async fn advice(broker: Arc<dyn Broker>, flow: Arc<Flow>) -> Option<String> {
    tokio::time::sleep(STOP_GRACE).await;
    // A failure to get this advice must not stop a run.
    let workers = client::describe_workers(broker, None, std::time::Duration::from_secs(1)).await.ok()?;
    let takes_jobs =
        |worker: &&DescribedWorker| worker.details.as_ref().is_none_or(|details| details.state == WorkerState::Active);
    let served = workers.iter().filter(takes_jobs).flat_map(|worker| &worker.status.queues);
    let required = flow.tasks().map(|(_, _, task)| task.queue.as_str()).collect();
    missing_workers::advice(required, served.map(|queue| queue.as_str()))
}

/// Submits the run and watches it to its end.
async fn drive(
    context: &RunContext<'_>,
    broker: Arc<dyn Broker>,
    shard: Shard,
    run_id: RunId,
    stop: &StopSignal,
    advice: impl Future<Output = Option<String>>,
) -> Result<Exit, CliError> {
    let (flow, modules) = (context.flow.clone(), &context.modules);
    // The operator limits the runs of servers. A run of this command lives as long as its process.
    let (id, shards) = (uuid::Uuid::now_v7().to_string(), ShardAssignment::Own(shard.clone()));
    let (max_open_runs, max_output) = (engine::MaxOpenRuns::default(), context.settings.max_limits.output);
    let memo_limits = context.settings.memo_limits;
    let host = super::host_name();
    let config = engine::Config { id, shards, max_open_runs, max_output, memo_limits, host };
    let (logbook, clock) = (context.logbook.clone(), Arc::new(SystemClock));
    let starting = Engine::start(config, broker.clone(), logbook, modules.store.clone(), clock);
    let engine = stop.until_stop_requested(async { starting.await.map_err(CliError::unreachable) }).await?;
    let live = match context.as_json || context.guests == GuestLogs::Hide {
        true => None,
        false => live_lines(&broker, &run_id).await,
    };
    let watch = async {
        match &context.run {
            RunTarget::New(_) => {
                let submitted = engine.submit_labelled(run_id.clone(), flow.clone(), context.labels.clone()).await;
                submitted.map_err(|error| match error {
                    error @ SubmitError::Exists { .. } => CliError::invalid(error)
                        .hint(format!("choose another --run-id; `waft run --resume {run_id}` continues that run")),
                    error @ SubmitError::RunId(_) => CliError::invalid(error).hint("choose a shorter --run-id"),
                    error => CliError::unreachable(error),
                })
            }
            RunTarget::Resumed { command, .. } => {
                engine.adopt(run_id.clone(), command.clone()).await.map_err(CliError::unreachable)
            }
        }
    };
    // The command may already be in progress when a stop is requested, so only a second request abandons it.
    let stopped = || {
        let hint = format!("`waft run --resume {run_id}` continues it, if it had started");
        CliError::new(Exit::Interrupted, anyhow!("stopped at once")).hint(hint)
    };
    let watch = match stop.forced.run_until_cancelled(watch).await.unwrap_or_else(|| Err(stopped())) {
        Ok(watch) => watch,
        Err(failed) => {
            shut_down(&engine, stop).await;
            stop.forced.run_until_cancelled(delete_queues(&*broker, &shard)).await;
            return Err(failed);
        }
    };
    let mut display =
        Display::new(run_id.clone(), &flow, context.as_json).with_options(context.full_value_hint, context.guests);
    display.begin();
    let following = RunFollower { engine: &engine, run_id: &run_id, labels: &context.labels, store: &*modules.store };
    let machine = following.run(watch, live, &mut display, stop, advice).await;
    shut_down(&engine, stop).await;
    if machine.as_ref().is_some_and(|machine| machine.state().is_final()) {
        stop.forced.run_until_cancelled(delete_queues(&*broker, &shard)).await;
    }
    let Some(machine) = machine else {
        display.clear();
        let hint = format!("`waft run --resume {run_id}` continues it");
        return Err(if stop.forced.is_cancelled() {
            CliError::new(Exit::Interrupted, anyhow!("stopped at once")).hint(hint)
        } else {
            CliError::unreachable(anyhow!("the engine cannot continue")).hint(hint)
        });
    };
    let values =
        store::values::load_run_values(&*modules.store, machine.flow().inputs.clone(), machine.provided()).await;
    display.end(&machine, &values);
    Ok(Exit::of(machine.state()))
}

/// Deletes the queues of a run once no more messages are to come. The queues of an interrupted run expire by themselves
/// later, because its workers still answer. RabbitMQ 3 closes the connection of a worker whose signal meets a quorum queue
/// that is just being deleted.
async fn delete_queues(broker: &dyn Broker, shard: &Shard) {
    for queue in [protocol::topology::shard_queue(shard), protocol::topology::store_queue(shard)] {
        // A queue that stays behind expires by itself.
        let _ = broker.delete_queue(&queue).await;
    }
}
