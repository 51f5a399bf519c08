//! `waft serve`: runs the engine as a service; without a broker, it also runs a worker in the same process.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc};

use ::server::{BindError, Dependencies, ModuleLibrary, QueueCoverage, Server, Tls, Token, Webhook};
use anyhow::anyhow;
use broker::{Broker, InProcess};
use engine::{Engine, MaxOpenRuns, ShardAssignment, SystemClock};
use flow::QueueName;
use logbook::{EngineLock, LockMode, Logbook};
use tracing::info;

use super::{broker_url, connect, embedded_worker::EmbeddedWorker, open_logbook, process_name, shut_down};
use crate::{
    arguments::BrokerFlag,
    exit::{CliError, Exit},
    modules,
    settings::Settings,
    signals::StopSignal,
};

pub(super) async fn run(
    settings: Settings,
    flag: &BrokerFlag,
    listen: Option<SocketAddr>,
    slots: Option<u16>,
) -> Result<Exit, CliError> {
    if slots == Some(0) {
        return Err(CliError::invalid(anyhow!("a server without slots makes no calls")).hint("give --slots 1 or more"));
    }
    let slots = slots.unwrap_or_else(|| super::run::slots(&settings));
    let settings = Settings { listen: listen.unwrap_or(settings.listen), ..settings };
    let stop = StopSignal::listen().map_err(CliError::unreachable)?;
    let tls = settings.serve_tls.clone().map(Tls::read).transpose().map_err(tls_error)?;
    metrics::global().set_max_names(settings.metrics.max_names);
    let token = settings.token.as_deref().and_then(Token::new);
    let token = token.map(|token| match &settings.token_file {
        Some(file) => token.of_file(file),
        None => token,
    });
    let scheme = if tls.is_some() { "https" } else { "http" };
    let config = ::server::Config {
        listen: settings.listen,
        token,
        metrics_token: settings.metrics.token()?,
        tls,
        max_request_bytes: settings.largest_request,
        dashboard: settings.dashboard,
    };
    let webhooks = settings.webhooks()?;
    let server = Server::bind(config).await.map_err(bind_error)?;
    // The calls of queues with slots of their own run beside the others.
    let own_slots = settings.queues.own_slots.values();
    let calls = own_slots.fold(slots, |calls, own| calls.saturating_add(own.get()));
    let modules = modules::open_for_calls(&settings, calls).await?;
    let logbook = stop.until_stop_requested(open_logbook(&settings)).await?;
    let url = broker_url(&settings, flag);
    // Engines that share a broker divide the runs; an engine without a broker must be the only one.
    let mode = if url.is_some() { LockMode::Shared } else { LockMode::Exclusive };
    let lock = stop.until_stop_requested(lock(&settings, mode)).await?;
    let context =
        ServeContext { settings: &settings, broker_flag: flag, server, scheme, modules, logbook, lock, webhooks };
    let served = match url {
        Some(url) => serve_at_broker(context, &url, &stop).await,
        None => serve_embedded(context, slots, &stop).await,
    };
    info!("the server has stopped");
    served
}

/// Serves with the workers at a broker.
async fn serve_at_broker(context: ServeContext<'_>, url: &str, stop: &StopSignal) -> Result<Exit, CliError> {
    let name = format!("waft serve {}", process_name());
    let broker = stop.until_stop_requested(connect(url.to_owned(), context.broker_flag.tls_ca.clone(), &name)).await?;
    let engine = stop.until_stop_requested(context.start_engine(broker.clone())).await?;
    let served = context.run(&engine, broker.clone(), QueueCoverage::AnyWorker, &without_password(url), stop).await;
    shut_down(&engine, stop).await;
    stop.forced.run_until_cancelled(broker.close()).await;
    served
}

/// Serves with an in-process broker and a worker in this process.
async fn serve_embedded(context: ServeContext<'_>, slots: u16, stop: &StopSignal) -> Result<Exit, CliError> {
    let broker: Arc<dyn Broker> = Arc::new(InProcess::new());
    let queues = queues(context.settings);
    let sandbox = context.modules.sandbox.clone();
    let journal = journal(context.settings);
    let grace = context.settings.grace;
    let own_slots = context.settings.queues.own_slots.clone();
    let worker = EmbeddedWorker { sandbox, slots, queues: queues.clone(), own_slots, grace, journal };
    let worker = worker.start(context.settings, broker.clone()).await?;
    let names: Vec<&str> = queues.iter().map(QueueName::as_str).collect();
    let shown = format!("none: a worker here takes {slots} jobs at once from {}", names.join(", "));
    let engine = context.start_engine(broker.clone()).await?;
    let served = context.run(&engine, broker.clone(), QueueCoverage::Embedded(queues), &shown, stop).await;
    // The engine still runs here, and records the answers of running calls.
    worker.stop(&stop.forced).await;
    shut_down(&engine, stop).await;
    broker.close().await;
    served
}

/// The file for the running calls of the worker in this process: beside the logbook if that is a file. A logbook in memory
/// has no run left after a restart.
fn journal(settings: &Settings) -> Option<PathBuf> {
    if settings.logbook == "memory:" {
        return None;
    }
    match logbook::file(&settings.logbook) {
        Some(file) => Some(PathBuf::from(format!("{}.calls", file.display()))),
        None => {
            let name = store::digest_of(settings.logbook.as_bytes()).hex();
            settings.running_calls.as_ref().map(|folder| folder.join(name))
        }
    }
}

/// The queues of the worker in this process.
fn queues(settings: &Settings) -> BTreeSet<QueueName> {
    let default = QueueName::new("default").expect("it is a valid name");
    settings.queues.names.iter().cloned().chain([default]).collect()
}

/// The parts of a server that do not depend on its broker.
struct ServeContext<'a> {
    settings: &'a Settings,
    broker_flag: &'a BrokerFlag,
    server: Server,
    /// How the address of the server begins.
    scheme: &'static str,
    modules: ModuleLibrary,
    logbook: Arc<dyn Logbook>,
    lock: EngineLock,
    webhooks: Vec<Webhook>,
}

async fn lock(settings: &Settings, mode: LockMode) -> Result<EngineLock, CliError> {
    EngineLock::take(&settings.logbook, mode).await.map_err(super::logbook_error)
}

impl ServeContext<'_> {
    async fn start_engine(&self, broker: Arc<dyn Broker>) -> Result<Engine, CliError> {
        let (id, shards) = (uuid::Uuid::now_v7().to_string(), ShardAssignment::Shared);
        let of_namespace = self.settings.namespaces.open_runs.clone();
        let max_open_runs = MaxOpenRuns { of_flow: self.settings.max_open_runs, of_namespace };
        let (max_output, memo_limits) = (self.settings.max_limits.output, self.settings.memo_limits);
        let host = super::host_name();
        let config = engine::Config { id, shards, max_open_runs, max_output, memo_limits, host };
        let (store, clock) = (self.modules.store.clone(), Arc::new(SystemClock));
        let engine = Engine::start(config, broker, self.logbook.clone(), store, clock);
        engine.await.map_err(CliError::unreachable)
    }

    /// Serves until a stop request. The engine still runs when this returns.
    async fn run(
        self,
        engine: &Engine,
        broker: Arc<dyn Broker>,
        coverage: QueueCoverage,
        shown_broker: &str,
        stop: &StopSignal,
    ) -> Result<Exit, CliError> {
        let locations = super::doctor::locations(self.settings, self.broker_flag);
        let Self { settings, broker_flag: _, server, scheme, modules, logbook, mut lock, webhooks } = self;
        let shown_logbook = without_password(&settings.logbook);
        crate::output::note!("waft listens on {scheme}://{}", server.local_addr());
        if settings.dashboard {
            crate::output::note!("  a browser shows the dashboard at this address");
        }
        crate::output::note!(
            "  broker   {shown_broker}\n  logbook  {shown_logbook}\n  store    {}",
            settings.store.display()
        );
        let max_namespace_bytes = self.settings.namespaces.bytes.clone();
        let dependencies = Dependencies {
            engine: engine.clone(),
            logbook,
            modules,
            broker,
            coverage,
            locations,
            max_namespace_bytes,
            webhooks,
        };
        // If dropped, the server leaves requests unanswered: the process ends.
        tokio::select! {
            biased;
            () = server.run(dependencies, stop.requested.clone()) => Ok(Exit::Success),
            error = lock.lost() => Err(super::logbook_error(error)),
            () = engine.ended() => Err(CliError::unreachable(anyhow!("the engine cannot continue"))
                .hint("the lines above say why; no run is lost: start the server again")),
        }
    }
}

/// An error with a hint about files of a certificate that cannot be used.
pub(super) fn tls_error(error: credentials::FileError) -> CliError {
    CliError::invalid(error)
        .hint("name PEM files with serve.certificate, serve.key and serve.client_authority in the settings")
}

/// An error with a hint about an address to listen on.
pub(super) fn bind_error(error: BindError) -> CliError {
    match error {
        error @ BindError::NoMetricsToken { .. } => CliError::invalid(error).hint(
            "set a token with WAFT_METRICS_TOKEN_FILE or WAFT_METRICS_TOKEN, or under [metrics] in the settings, or listen on \
             127.0.0.1; without serve.certificate, the token and the metrics are sent unencrypted",
        ),
        error @ BindError::NoToken { .. } => CliError::invalid(error).hint(
            "set a token with WAFT_TOKEN_FILE or WAFT_TOKEN, or under [serve] in the settings, or listen on 127.0.0.1; without \
             serve.certificate, the token and all other data are sent unencrypted",
        ),
        error @ BindError::Listen { .. } => {
            CliError::unreachable(error).hint("another waft may listen there; choose another address with --listen, or of metrics with --metrics")
        }
    }
}

/// An address without its possibly secret parts: the login, and everything after a `?`.
pub(super) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let rest = rest.split('?').next().unwrap_or_default();
    // A password may contain a slash that should have been escaped.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (url, shown) in [
            ("amqp://user:secret@host:5672/%2f", "amqp://host:5672/%2f"),
            ("amqp://host", "amqp://host"),
            ("postgres://u:sec/ret@host/waft?password=secret", "postgres://host/waft"),
            ("sqlite:/srv/logbook.db", "sqlite:/srv/logbook.db"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
