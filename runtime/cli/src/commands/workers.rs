//! `waft workers`: who answers at a broker.

use std::{sync::Arc, time::Duration};

use protocol::WorkerStatus;
use serde_json::json;

use super::{connect, process_name, required_broker_url};
use crate::{
    arguments::BrokerFlag,
    exit::{Exit, Failed},
    settings::Settings,
};

/// How long workers have to answer. They answer at once unless they are starved.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn run(settings: &Settings, flag: &BrokerFlag, as_json: bool) -> Result<Exit, Failed> {
    let url = required_broker_url(settings, flag)?;
    let broker = connect(url, flag.tls_ca.clone(), &format!("waft workers {}", process_name())).await?;
    let mut workers = client::workers(broker.clone(), PATIENCE).await.map_err(Failed::unreachable)?;
    broker::Broker::close(&*Arc::clone(&broker)).await;
    workers.sort_by(|one, other| one.name.cmp(&other.name));
    if as_json {
        workers.iter().for_each(|worker| println!("{}", worker_json(worker)));
    } else if workers.is_empty() {
        eprintln!("no worker answered; start one with `waft worker --broker URL`");
    } else {
        print_table(&workers);
    }
    Ok(Exit::Success)
}

fn worker_json(worker: &WorkerStatus) -> serde_json::Value {
    let queues: Vec<&str> = worker.queues.iter().map(flow::QueueName::as_str).collect();
    json!({
        "name": worker.name.as_str(),
        "host": worker.host,
        "process": worker.process,
        "slots": worker.slots,
        "busy": worker.busy,
        "queues": queues,
        "version": worker.version,
    })
}

fn print_table(workers: &[WorkerStatus]) {
    let width = workers.iter().map(|worker| worker.name.as_str().len()).max().unwrap_or(0).max(4);
    let host_width = workers.iter().map(|worker| worker.host.len()).max().unwrap_or(0).max(4);
    println!("{:width$}  {:host_width$}  SLOTS  BUSY  VERSION  QUEUES", "NAME", "HOST");
    for worker in workers {
        let queues: Vec<&str> = worker.queues.iter().map(flow::QueueName::as_str).collect();
        let WorkerStatus { name, host, slots, busy, version, .. } = worker;
        println!("{name:width$}  {host:host_width$}  {slots:>5}  {busy:>4}  {version:7}  {}", queues.join(","));
    }
}
