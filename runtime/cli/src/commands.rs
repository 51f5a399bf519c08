//! What each command does, a file each.

mod call;
mod check;
mod completions;
mod graph;
mod inspect;
mod modules;
mod new;
mod push;
mod run;
mod worker;
mod workers;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::anyhow;
use broker::{Amqp, ConnectError, Options};

use crate::{
    arguments::{BrokerFlag, Command},
    exit::{Exit, Failed},
    settings::Settings,
};

/// Runs a command to its end.
pub(crate) async fn run(command: Command, settings: Settings) -> Result<Exit, Failed> {
    match command {
        Command::New { name } => new::run(&name),
        Command::Push { files, tag, json } => push::run(&settings, &files, tag.as_deref(), json).await,
        Command::Inspect { module, json } => inspect::run(&settings, &module, json).await,
        Command::Modules { json } => modules::run(&settings, json).await,
        Command::Check { flow, values, json } => check::run(&settings, &flow, &values, json).await,
        Command::Graph { flow, format, values } => graph::run(&settings, &flow, format, &values).await,
        Command::Run { flow, values, broker, run_id, json } => {
            run::run(&settings, &flow, &values, &broker, run_id.as_deref(), json).await
        }
        Command::Call { task, values, broker, provides, json } => {
            call::run(&settings, &task, &values, &broker, &provides, json).await
        }
        Command::Worker { broker, slots, queues, name } => worker::run(settings, &broker, slots, queues, name).await,
        Command::Workers { broker, json } => workers::run(&settings, &broker, json).await,
        Command::Completions { shell } => Ok(completions::run(shell)),
    }
}

/// The broker that flag, environment or file name, if any.
fn broker_url(settings: &Settings, flag: &BrokerFlag) -> Option<String> {
    flag.broker.clone().filter(|url| !url.is_empty()).or_else(|| settings.broker.clone())
}

/// The broker that a command cannot do without.
fn required_broker_url(settings: &Settings, flag: &BrokerFlag) -> Result<String, Failed> {
    broker_url(settings, flag).ok_or_else(|| {
        Failed::invalid(anyhow!("this command needs a broker"))
            .hint("give --broker amqp://user:password@host:5672, or set WAFT_BROKER")
    })
}

/// Connects to a broker, under a name that shows in its list of connections.
async fn connect(url: String, tls_ca: Option<PathBuf>, name: &str) -> Result<Arc<Amqp>, Failed> {
    let options = Options { name: name.into(), tls_ca, ..Options::new(url) };
    match Amqp::connect(options).await {
        Ok(broker) => Ok(Arc::new(broker)),
        Err(error @ ConnectError::BadUrl { .. }) => Err(Failed::invalid(error).hint(
            "write amqp://user:password@host:5672/vhost, or amqps:// for TLS; the vhost / is written %2f or left out",
        )),
        Err(error) => Err(Failed::unreachable(error)),
    }
}

/// A name for this process: host and process id, in the characters of a name.
fn process_name() -> String {
    let host: String = gethostname::gethostname()
        .to_string_lossy()
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || char == '-' { char } else { '-' })
        .take(60)
        .collect();
    format!("{host}-{}", std::process::id())
}

/// How many cores this machine lets us use.
fn cores() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cores).unwrap_or(u16::MAX)
}

/// How long running calls have once a person asked to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a worker in this process finds modules.
async fn local_modules(
    settings: &Settings,
    sandbox: sandbox::Sandbox,
    broker: Arc<dyn broker::Broker>,
    name: &str,
) -> Result<::worker::Modules, Failed> {
    let folder = settings.cache.join("modules");
    let bytes = store::Cache::open(folder.clone(), settings.cache_size).await.map_err(|error| {
        let error = anyhow!(error).context(format!("could not open the cache {}", folder.display()));
        Failed::unreachable(error).hint("choose a folder that can be written with WAFT_CACHE")
    })?;
    let reply_queue = format!("waft.reply.{name}.{}", uuid::Uuid::now_v7());
    let client = store::bus::Client::new(broker, reply_queue).await.map_err(Failed::unreachable)?;
    Ok(::worker::Modules::new(sandbox, bytes, client))
}
