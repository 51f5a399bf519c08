//! `waft serve`: the engine as a service; without a broker, a whole waft in one process.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use ::server::{BindError, Library, Parts, Server, Takers, Token};
use anyhow::anyhow;
use broker::{Broker, InProcess};
use engine::{Engine, Part, SystemClock};
use flow::QueueName;
use logbook::{EngineLock, LockMode, Logbook};
use tracing::info;

use super::{broker_url, connect, end, here::Here, open_logbook, process_name};
use crate::{
    arguments::BrokerFlag,
    exit::{Exit, Failed},
    modules,
    settings::Settings,
    signals::Stop,
};

pub(super) async fn run(
    settings: Settings,
    flag: &BrokerFlag,
    listen: Option<SocketAddr>,
    slots: Option<u16>,
) -> Result<Exit, Failed> {
    if slots == Some(0) {
        return Err(Failed::invalid(anyhow!("without slots no call is taken")).hint("give --slots 1 or more"));
    }
    let slots = slots.unwrap_or_else(|| super::run::slots(&settings));
    let settings = Settings { listen: listen.unwrap_or(settings.listen), ..settings };
    let stop = Stop::listen().map_err(Failed::unreachable)?;
    let config = ::server::Config {
        listen: settings.listen,
        token: settings.token.as_deref().and_then(Token::new),
        largest_request: settings.largest_request,
    };
    let server = Server::bind(config).await.map_err(refused)?;
    let library = modules::open(&settings, slots).await?;
    let logbook = stop.unless_asked(open_logbook(&settings)).await?;
    // Engines that share a broker divide the runs; one without a broker has to be the only one.
    let mode = broker_url(&settings, flag).map_or(LockMode::Exclusive, |_| LockMode::Shared);
    let lock = stop.unless_asked(lock(&settings, mode)).await?;
    let served = match broker_url(&settings, flag) {
        Some(url) => {
            let shown = without_password(&url);
            let name = format!("waft serve {}", process_name());
            let broker = stop.unless_asked(connect(url, flag.tls_ca.clone(), &name)).await?;
            let broker_flag = flag;
            let serving =
                Serving { settings: &settings, broker: broker.clone(), modules: library, logbook, lock, broker_flag };
            let engine = stop.unless_asked(serving.start()).await?;
            let served = serving.run(server, &engine, Takers::Anyone, &shown, &stop).await;
            end(&engine, &stop).await;
            stop.insisted.run_until_cancelled(broker.close()).await;
            served
        }
        None => {
            let broker: Arc<dyn Broker> = Arc::new(InProcess::new());
            let queues = queues(&settings);
            let sandbox = library.sandbox.clone();
            let here = Here { sandbox, slots, queues: queues.clone(), grace: settings.grace };
            let here = here.start(&settings, broker.clone()).await?;
            let names: Vec<&str> = queues.iter().map(QueueName::as_str).collect();
            let shown = format!("none: a worker here takes {slots} jobs at once from {}", names.join(", "));
            let broker_flag = flag;
            let serving =
                Serving { settings: &settings, broker: broker.clone(), modules: library, logbook, lock, broker_flag };
            let engine = serving.start().await?;
            let served = serving.run(server, &engine, Takers::Here(queues), &shown, &stop).await;
            // The engine is still there to record what running calls answer.
            here.stop(&stop.insisted).await;
            end(&engine, &stop).await;
            broker.close().await;
            served
        }
    };
    info!("the server has stopped");
    served
}

/// The queues that the worker in this process takes jobs from.
fn queues(settings: &Settings) -> BTreeSet<QueueName> {
    let default = QueueName::new("default").expect("it is a lawful name");
    settings.queues.iter().cloned().chain([default]).collect()
}

/// What is served.
struct Serving<'a> {
    settings: &'a Settings,
    broker: Arc<dyn Broker>,
    modules: Library,
    logbook: Arc<dyn Logbook>,
    lock: EngineLock,
    broker_flag: &'a BrokerFlag,
}

async fn lock(settings: &Settings, mode: LockMode) -> Result<EngineLock, Failed> {
    EngineLock::take(&settings.logbook, mode).await.map_err(super::unusable)
}

impl Serving<'_> {
    async fn start(&self) -> Result<Engine, Failed> {
        let config = engine::Config { id: uuid::Uuid::now_v7().to_string(), part: Part::Shared };
        let (store, clock) = (self.modules.store.clone(), Arc::new(SystemClock));
        let engine = Engine::start(config, self.broker.clone(), self.logbook.clone(), store, clock);
        engine.await.map_err(Failed::unreachable)
    }

    /// Serves until told to stop. The engine still runs then.
    async fn run(
        self,
        server: Server,
        engine: &Engine,
        takers: Takers,
        shown_broker: &str,
        stop: &Stop,
    ) -> Result<Exit, Failed> {
        let places = super::doctor::places(self.settings, self.broker_flag);
        let Self { settings, broker, modules, logbook, mut lock, broker_flag: _ } = self;
        let shown_logbook = without_password(&settings.logbook);
        crate::out::note!("waft listens on http://{}", server.local_addr());
        crate::out::note!(
            "  broker   {shown_broker}\n  logbook  {shown_logbook}\n  store    {}",
            settings.store.display()
        );
        let parts = Parts { engine: engine.clone(), logbook, modules, broker, takers, places };
        // Dropped, the server leaves requests unanswered: nobody is left to answer them.
        tokio::select! {
            biased;
            served = server.run(parts, stop.asked.clone()) => served.map(|()| Exit::Success).map_err(Failed::unreachable),
            error = lock.lost() => Err(super::unusable(error)),
            () = engine.ended() => Err(Failed::unreachable(anyhow!("the engine cannot go on"))
                .hint("the lines above say why; no run is lost: start the server again")),
        }
    }
}

fn refused(error: BindError) -> Failed {
    match error {
        error @ BindError::NoToken { .. } => Failed::invalid(error).hint(
            "set a token with WAFT_TOKEN or under [serve] in waft.toml, or listen on 127.0.0.1; the token and all else \
             goes in the clear: put a proxy that speaks TLS in front",
        ),
        error @ BindError::Listen { .. } => {
            Failed::unreachable(error).hint("another waft may listen there; choose another address with --listen")
        }
    }
}

/// An address without what may be secret: who logs in, and what follows a `?`.
pub(super) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let rest = rest.split('?').next().unwrap_or_default();
    // A password may hold a slash that should have been escaped.
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
