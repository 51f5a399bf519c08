//! `waft workers`: lists the workers at a broker or of a server.

use std::{sync::Arc, time::Duration};

use api::Worker;

use super::{connect, process_name, remote, required_broker_url};
use crate::{
    arguments::BrokerFlag,
    exit::{CliError, Exit},
    output, sanitize,
    settings::Settings,
};

/// How long workers have to answer. Workers answer at once unless they are starved.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) async fn run(settings: &Settings, flag: &BrokerFlag, as_json: bool) -> Result<Exit, CliError> {
    // A broker that a flag names takes precedence.
    let workers = if settings.server.is_chosen() && flag.broker.is_none() {
        remote::client(settings)?.workers().await.map_err(remote::cli_error)?.workers
    } else {
        at_broker(settings, flag).await?
    };
    if as_json {
        for worker in &workers {
            output::json(serde_json::to_string(worker).map_err(CliError::unreachable)?);
        }
    } else if workers.is_empty() {
        crate::output::note!("no worker answered; start one with `waft worker --broker URL`");
    } else {
        print_table(&workers);
    }
    Ok(Exit::Success)
}

async fn at_broker(settings: &Settings, flag: &BrokerFlag) -> Result<Vec<Worker>, CliError> {
    let url = required_broker_url(settings, flag)?;
    let broker = connect(url, flag.tls_ca.clone(), &format!("waft workers {}", process_name())).await?;
    let answered = client::workers(broker.clone(), REPLY_TIMEOUT).await.map_err(CliError::unreachable)?;
    broker::Broker::close(&*Arc::clone(&broker)).await;
    let mut workers: Vec<Worker> = answered.iter().map(Worker::from).collect();
    workers.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(workers)
}

fn print_table(workers: &[Worker]) {
    let width = workers.iter().map(|worker| worker.name.len()).max().unwrap_or(0).max(4);
    let host_width = workers.iter().map(|worker| worker.host.len()).max().unwrap_or(0).max(4);
    crate::output::say!("{:width$}  {:host_width$}  SLOTS  BUSY  VERSION  QUEUES", "NAME", "HOST");
    for Worker { name, host, slots, busy, version, queues, process: _ } in workers {
        let queues = queues.join(",");
        let line = format!("{name:width$}  {host:host_width$}  {slots:>5}  {busy:>4}  {version:7}  {queues}");
        output::line(&sanitize::one_line(&line));
    }
}
