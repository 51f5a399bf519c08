//! `waft worker`: runs a generic worker.

use std::sync::Arc;

use ::server::{MetricsConfig, MetricsServer, Tls};
use ::worker::{Config, ContentSource, Worker, WorkerError};
use anyhow::anyhow;
use broker::DeclareError;
use engine::Clock;
use flow::WorkerName;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{broker::UNDECLARED_HINT, connect, core_count, host_name, process_name, required_broker_url, serve};
use crate::{
    arguments::BrokerFlag,
    exit::{CliError, Exit},
    modules,
    queues::ServedQueues,
    settings::Settings,
    signals::StopSignal,
};

pub(super) async fn run(
    settings: Settings,
    flag: &BrokerFlag,
    slots: Option<u16>,
    queues: Option<Vec<String>>,
    name: Option<String>,
) -> Result<Exit, CliError> {
    let url = required_broker_url(&settings, flag)?;
    let slots = slots.or(settings.slots).unwrap_or_else(core_count);
    if slots == 0 {
        return Err(CliError::invalid(anyhow!("a worker without slots handles no jobs")).hint("give --slots 1 or more"));
    }
    let name = name.unwrap_or_else(process_name);
    let name: WorkerName = name.parse().map_err(CliError::invalid)?;
    let queues = match queues {
        Some(texts) => parse_queues(&texts)?,
        None => settings.queues.clone(),
    };
    let stop = StopSignal::listen().map_err(CliError::unreachable)?;
    // First, so that a mistake is reported before anything is connected.
    let metrics = bind_metrics(&settings).await?;
    let broker = connect(url, flag.tls_ca.clone(), &format!("waft worker {name}")).await?;
    let shown = queues.names_as_text();
    let config = config(name, slots, queues, &settings);
    let slots = config.all_slots();
    let modules = modules(&settings, slots, broker.clone(), &config.name).await?;
    let worker =
        Worker::connect(config.clone(), broker.clone(), Arc::new(modules)).await.map_err(|error| match error {
            error @ WorkerError::NameTaken { .. } => {
                CliError::invalid(error).hint("choose another --name, or leave it out")
            }
            error @ WorkerError::Declare(DeclareError::AccessRefused { .. }) => {
                CliError::unreachable(error).hint(UNDECLARED_HINT)
            }
            error @ (WorkerError::Declare(_) | WorkerError::Consume(_)) => CliError::unreachable(error),
        })?;
    info!(name = %config.name, slots, queues = shown, "the worker takes jobs");
    let serving = async {
        if let Some(metrics) = metrics {
            metrics.run(CancellationToken::new()).await;
        }
        // Whatever becomes of the metrics, the worker goes on.
        std::future::pending::<()>().await;
    };
    // The metrics show the worker until it has ended.
    tokio::select! {
        biased;
        () = worker.run(stop.requested, stop.forced) => {}
        () = serving => {}
    }
    broker::Broker::close(&*broker).await;
    info!("the worker has stopped");
    Ok(Exit::Success)
}

/// Starts to listen for those who collect metrics, if the settings or a flag say where.
async fn bind_metrics(settings: &Settings) -> Result<Option<MetricsServer>, CliError> {
    let Some(listen) = settings.metrics.listen else { return Ok(None) };
    let tls = settings.serve_tls.clone().map(Tls::read).transpose().map_err(serve::tls_error)?;
    let config = MetricsConfig { listen, token: settings.metrics.token()?, tls };
    let metrics = MetricsServer::bind(config).await.map_err(serve::bind_error)?;
    crate::output::note!("the metrics of the worker are at {}", metrics.url());
    Ok(Some(metrics))
}

fn parse_queues(texts: &[String]) -> Result<ServedQueues, CliError> {
    let mut queues = ServedQueues::default();
    for text in texts {
        queues.add(text).map_err(|error| {
            CliError::invalid(anyhow!(error)).hint("give --queues default,ovens, or ovens=4 for slots of its own")
        })?;
    }
    Ok(queues)
}

fn config(name: WorkerName, slots: u16, queues: ServedQueues, settings: &Settings) -> Config {
    Config {
        name,
        host: host_name(),
        instance: uuid::Uuid::now_v7().to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        slots,
        queues: queues.names,
        own_slots: queues.own_slots,
        grace: settings.grace,
        clock: worker::WallClock::new(|| engine::SystemClock.now()),
        delivery_limit: settings.delivery_limit,
        journal: None,
    }
}

async fn modules(
    settings: &Settings,
    slots: u16,
    broker: Arc<dyn broker::Broker>,
    name: &WorkerName,
) -> Result<ContentSource, CliError> {
    let sandbox = modules::sandbox(settings, slots)?;
    super::local_modules(settings, sandbox, broker, name.as_str()).await
}
