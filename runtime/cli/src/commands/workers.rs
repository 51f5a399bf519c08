//! `waft workers`: lists the workers at a broker or of a server, and drains one of them.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use api::{DrainOptions, Worker, WorkerCall, WorkerState, WorkerStateResponse};
use broker::{Amqp, Broker};
use flow::WorkerName;
use protocol::DrainAction;

use super::{connect, process_name, remote, required_broker_url};
use crate::{
    arguments::{BrokerFlag, WorkersCommand},
    exit::{CliError, Exit},
    output, sanitize,
    settings::Settings,
};

/// How long workers have to answer. Workers answer at once unless they are starved.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a worker has to answer a request to drain or to resume.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// One JSON object per worker.
    Json,
    /// A table of the workers.
    Workers,
    /// The same, with the calls of each worker.
    Calls,
}

impl Shown {
    /// A table, with the calls of each worker or without.
    pub(super) const fn table(with_calls: bool) -> Self {
        if with_calls { Self::Calls } else { Self::Workers }
    }
}

/// Lists the workers.
pub(super) async fn list(settings: &Settings, flag: &BrokerFlag, shown: Shown) -> Result<Exit, CliError> {
    let workers = if asks_server(settings, flag) {
        remote::client(settings)?.workers().await.map_err(remote::cli_error)?.workers
    } else {
        at_broker(settings, flag).await?
    };
    if shown == Shown::Json {
        for worker in &workers {
            output::json(serde_json::to_string(worker).map_err(CliError::unreachable)?);
        }
    } else if workers.is_empty() {
        crate::output::note!("no worker answered; start one with `waft worker --broker URL`");
    } else {
        print_table(&workers, shown);
    }
    Ok(Exit::Success)
}

/// Tells a worker whether to take jobs.
pub(super) async fn tell(settings: &Settings, command: WorkersCommand) -> Result<Exit, CliError> {
    let (name, action, flag, as_json) = match command {
        WorkersCommand::Drain { name, exit: false, broker, json } => (name, DrainAction::Drain, broker, json),
        WorkersCommand::Drain { name, exit: true, broker, json } => (name, DrainAction::DrainAndExit, broker, json),
        WorkersCommand::Resume { name, broker, json } => (name, DrainAction::Resume, broker, json),
    };
    let worker: WorkerName = name.parse().map_err(CliError::invalid)?;
    let answer = if asks_server(settings, &flag) {
        tell_by_server(settings, &worker, action).await?
    } else {
        tell_at_broker(settings, &worker, action, &flag).await?
    };
    if action == DrainAction::Resume && answer.state == WorkerState::Exiting {
        return Err(CliError::invalid(anyhow!("{worker} exits once its calls have ended: an earlier request says so"))
            .hint("start the worker again after it has exited: it takes jobs then"));
    }
    if as_json {
        output::json(serde_json::to_string(&answer).map_err(CliError::unreachable)?);
    } else {
        let WorkerStateResponse { state, busy, .. } = &answer;
        let calls = if *busy == 1 { "call" } else { "calls" };
        output::line(&sanitize::one_line(&format!("{worker} is {state}, and makes {busy} {calls}")));
    }
    Ok(Exit::Success)
}

/// Whether a server is asked. A broker that a flag names takes precedence.
fn asks_server(settings: &Settings, flag: &BrokerFlag) -> bool {
    settings.server.is_chosen() && flag.broker.is_none()
}

async fn tell_by_server(
    settings: &Settings,
    worker: &WorkerName,
    action: DrainAction,
) -> Result<WorkerStateResponse, CliError> {
    let (client, worker) = (remote::client(settings)?, worker.as_str());
    let answer = match action {
        DrainAction::Drain => client.drain_worker(worker, &DrainOptions::default()).await,
        DrainAction::DrainAndExit => client.drain_worker(worker, &DrainOptions::default().exit()).await,
        DrainAction::Resume => client.resume_worker(worker).await,
    };
    answer.map_err(remote::cli_error)
}

async fn tell_at_broker(
    settings: &Settings,
    worker: &WorkerName,
    action: DrainAction,
    flag: &BrokerFlag,
) -> Result<WorkerStateResponse, CliError> {
    let broker = connect_as_operator(settings, flag).await?;
    let answered = client::drain_worker(broker.clone(), worker, action, DRAIN_TIMEOUT).await;
    broker.close().await;
    let details = answered.map_err(CliError::unreachable)?.ok_or_else(|| {
        let error = anyhow!("{worker} has not answered within {} seconds", DRAIN_TIMEOUT.as_secs());
        CliError::invalid(error).hint(
            "`waft workers` lists the workers, and shows whether one has done it late; one without a state is of an earlier version",
        )
    })?;
    let (state, busy) = (details.state.as_str().into(), details.calls.count());
    Ok(WorkerStateResponse { worker: worker.to_string(), state, busy })
}

async fn connect_as_operator(settings: &Settings, flag: &BrokerFlag) -> Result<Arc<Amqp>, CliError> {
    let url = required_broker_url(settings, flag)?;
    connect(url, flag.tls_ca.clone(), &format!("waft workers {}", process_name())).await
}

async fn at_broker(settings: &Settings, flag: &BrokerFlag) -> Result<Vec<Worker>, CliError> {
    let broker = connect_as_operator(settings, flag).await?;
    let described = client::describe_workers(broker.clone(), None, REPLY_TIMEOUT).await;
    broker.close().await;
    let described = described.map_err(CliError::unreachable)?;
    let mut workers: Vec<Worker> = described.iter().map(Worker::from).collect();
    workers.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(workers)
}

fn print_table(workers: &[Worker], shown: Shown) {
    let host = |worker: &Worker| worker.host.clone().unwrap_or_else(|| "-".into());
    let width = workers.iter().map(|worker| worker.name.len()).max().unwrap_or(0).max(4);
    let host_width = workers.iter().map(|worker| host(worker).len()).max().unwrap_or(0).max(4);
    crate::output::say!("{:width$}  {:host_width$}  SLOTS  BUSY  STATE     VERSION  QUEUES", "NAME", "HOST");
    for worker in workers {
        let Worker { name, slots, own_slots, busy, version, queues, state, .. } = worker;
        let queue = |queue: &String| match own_slots.get(queue) {
            Some(slots) => format!("{queue}={slots}"),
            None => queue.clone(),
        };
        let queues = queues.iter().map(queue).collect::<Vec<_>>().join(",");
        let (host, state) = (host(worker), state.as_ref().map_or("-", WorkerState::as_str));
        let numbers = format!("{slots:>5}  {busy:>4}");
        let line = format!("{name:width$}  {host:host_width$}  {numbers}  {state:8}  {version:7}  {queues}");
        output::line(&sanitize::one_line(&line));
        if shown == Shown::Calls {
            print_calls(worker);
        }
    }
}

fn print_calls(Worker { calls, more_calls, other_calls, .. }: &Worker) {
    for WorkerCall { flow, run, task, firing, attempt, call, seconds } in calls {
        let line = format!("  {call} {flow} {run} {task}, firing {firing}, attempt {attempt}, for {seconds:.0} s");
        output::line(&sanitize::one_line(&line));
    }
    for (count, what) in [(more_calls, "more calls"), (other_calls, "calls of other namespaces")] {
        if *count > 0 {
            crate::output::say!("  {count} {what}");
        }
    }
}
