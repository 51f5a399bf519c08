//! `waft serve`: runs the engine as a service; without a broker, it runs a whole waft in one process.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use ::server::{BindError, Dependencies, ModuleLibrary, QueueCoverage, Server, Token};
use anyhow::anyhow;
use broker::{Broker, InProcess};
use engine::{Engine, ShardAssignment, SystemClock};
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
        return Err(CliError::invalid(anyhow!("without slots no call is taken")).hint("give --slots 1 or more"));
    }
    let slots = slots.unwrap_or_else(|| super::run::slots(&settings));
    let settings = Settings { listen: listen.unwrap_or(settings.listen), ..settings };
    let stop = StopSignal::listen().map_err(CliError::unreachable)?;
    let config = ::server::Config {
        listen: settings.listen,
        token: settings.token.as_deref().and_then(Token::new),
        max_request_bytes: settings.largest_request,
    };
    let server = Server::bind(config).await.map_err(refused)?;
    let library = modules::open(&settings, slots).await?;
    let logbook = stop.until_stop_requested(open_logbook(&settings)).await?;
    // Engines that share a broker divide the runs; an engine without a broker must be the only one.
    let mode = broker_url(&settings, flag).map_or(LockMode::Exclusive, |_| LockMode::Shared);
    let lock = stop.until_stop_requested(lock(&settings, mode)).await?;
    let served = match broker_url(&settings, flag) {
        Some(url) => {
            let shown = without_password(&url);
            let name = format!("waft serve {}", process_name());
            let broker = stop.until_stop_requested(connect(url, flag.tls_ca.clone(), &name)).await?;
            let broker_flag = flag;
            let serving = ServeContext {
                settings: &settings,
                broker: broker.clone(),
                modules: library,
                logbook,
                lock,
                broker_flag,
            };
            let engine = stop.until_stop_requested(serving.start()).await?;
            let served = serving.run(server, &engine, QueueCoverage::AnyWorker, &shown, &stop).await;
            shut_down(&engine, &stop).await;
            stop.forced.run_until_cancelled(broker.close()).await;
            served
        }
        None => {
            let broker: Arc<dyn Broker> = Arc::new(InProcess::new());
            let queues = queues(&settings);
            let sandbox = library.sandbox.clone();
            let here = EmbeddedWorker { sandbox, slots, queues: queues.clone(), grace: settings.grace };
            let here = here.start(&settings, broker.clone()).await?;
            let names: Vec<&str> = queues.iter().map(QueueName::as_str).collect();
            let shown = format!("none: a worker here takes {slots} jobs at once from {}", names.join(", "));
            let broker_flag = flag;
            let serving = ServeContext {
                settings: &settings,
                broker: broker.clone(),
                modules: library,
                logbook,
                lock,
                broker_flag,
            };
            let engine = serving.start().await?;
            let served = serving.run(server, &engine, QueueCoverage::Embedded(queues), &shown, &stop).await;
            // The engine still runs here, and records the answers of running calls.
            here.stop(&stop.forced).await;
            shut_down(&engine, &stop).await;
            broker.close().await;
            served
        }
    };
    info!("the server has stopped");
    served
}

/// The queues of the worker in this process.
fn queues(settings: &Settings) -> BTreeSet<QueueName> {
    let default = QueueName::new("default").expect("it is a lawful name");
    settings.queues.iter().cloned().chain([default]).collect()
}

/// The parts to serve.
struct ServeContext<'a> {
    settings: &'a Settings,
    broker: Arc<dyn Broker>,
    modules: ModuleLibrary,
    logbook: Arc<dyn Logbook>,
    lock: EngineLock,
    broker_flag: &'a BrokerFlag,
}

async fn lock(settings: &Settings, mode: LockMode) -> Result<EngineLock, CliError> {
    EngineLock::take(&settings.logbook, mode).await.map_err(super::logbook_error)
}

impl ServeContext<'_> {
    async fn start(&self) -> Result<Engine, CliError> {
        let config = engine::Config { id: uuid::Uuid::now_v7().to_string(), shards: ShardAssignment::Shared };
        let (store, clock) = (self.modules.store.clone(), Arc::new(SystemClock));
        let engine = Engine::start(config, self.broker.clone(), self.logbook.clone(), store, clock);
        engine.await.map_err(CliError::unreachable)
    }

    /// Serves until a stop request. The engine still runs when this returns.
    async fn run(
        self,
        server: Server,
        engine: &Engine,
        takers: QueueCoverage,
        shown_broker: &str,
        stop: &StopSignal,
    ) -> Result<Exit, CliError> {
        let places = super::doctor::places(self.settings, self.broker_flag);
        let Self { settings, broker, modules, logbook, mut lock, broker_flag: _ } = self;
        let shown_logbook = without_password(&settings.logbook);
        crate::output::note!("waft listens on http://{}", server.local_addr());
        crate::output::note!(
            "  broker   {shown_broker}\n  logbook  {shown_logbook}\n  store    {}",
            settings.store.display()
        );
        let parts = Dependencies { engine: engine.clone(), logbook, modules, broker, coverage: takers, places };
        // If dropped, the server leaves requests unanswered: no requester is left.
        tokio::select! {
            biased;
            served = server.run(parts, stop.requested.clone()) => served.map(|()| Exit::Success).map_err(CliError::unreachable),
            error = lock.lost() => Err(super::logbook_error(error)),
            () = engine.ended() => Err(CliError::unreachable(anyhow!("the engine cannot go on"))
                .hint("the lines above say why; no run is lost: start the server again")),
        }
    }
}

fn refused(error: BindError) -> CliError {
    match error {
        error @ BindError::NoToken { .. } => CliError::invalid(error).hint(
            "set a token with WAFT_TOKEN or under [serve] in waft.toml, or listen on 127.0.0.1; the token and all else \
             goes in the clear: put a proxy that speaks TLS in front",
        ),
        error @ BindError::Listen { .. } => {
            CliError::unreachable(error).hint("another waft may listen there; choose another address with --listen")
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
