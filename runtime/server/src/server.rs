//! The server: a listener, the routes, and a shutdown that waits for open requests.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use futures::future::join_all;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    Config, Dependencies, Tls, Token,
    audit::AuditWriter,
    auth::tokens::RecentTokens,
    bodies::Bodies,
    connections, dashboard,
    engines::{self, EngineLists},
    events::EventStreams,
    health::{self, Examination, Readiness},
    large_answers::LargeAnswers,
    namespace_storage::NamespaceStorage,
    permits::{self, PermitPages},
    queues::{self, QueuePages},
    recent_events::RecentEvents,
    routes,
    runs::{
        self,
        counts::{self, CountAnswers},
        list::SharedPages,
        rehearsal::{self, RehearsalAnswers},
        show::{
            SharedRuns,
            outstanding_calls::{self, CallAnswers},
        },
    },
    scrape::{QueueLengths, Scrapes},
    server_token::TokenFile,
    state::State,
    webhooks::Webhooks,
    workers::{self, WorkerLists},
};

/// How long open requests may take after shutdown starts.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The server would accept requests from everybody.
    #[error("will not listen on {listen} without a token: everybody who reaches it could run anything")]
    NoToken {
        /// The address to listen on.
        listen: SocketAddr,
    },
    /// Everybody could read the metrics.
    #[error("will not serve metrics on {listen} without a token: everybody who reaches it could read them")]
    NoMetricsToken {
        /// The address to listen on.
        listen: SocketAddr,
    },
    /// The operating system refused to listen there.
    #[error("could not listen on {listen}")]
    Listen {
        /// The address to listen on.
        listen: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
}

/// A server that listens but handles no request yet: requests wait until it runs.
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    token: Option<Token>,
    metrics_token: Option<Token>,
    tls: Option<Tls>,
    largest_request: usize,
    dashboard: bool,
}

impl Server {
    /// Starts to listen. Start the engine afterwards: an engine without a server is of no use.
    ///
    /// # Errors
    /// [`BindError`] when the system refuses, or the server would be open to everybody.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let Config { listen, token, metrics_token, tls, max_request_bytes: largest_request, dashboard } = config;
        if token.is_none() && !is_loopback(listen.ip()) {
            return Err(BindError::NoToken { listen });
        }
        let failed = |source| BindError::Listen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        let largest_request = usize::try_from(largest_request).unwrap_or(usize::MAX);
        Ok(Self { listener, local_addr, token, metrics_token, tls, largest_request, dashboard })
    }

    /// The address it listens on, with the port that the system chose for port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Handles requests until `stop`. Then it accepts no more requests, ends event streams, and waits at most
    /// five seconds for the other requests, and as long again for those that do more than read.
    pub async fn run(self, dependencies: Dependencies, stop: CancellationToken) {
        let Self { listener, mut token, mut metrics_token, tls, largest_request, dashboard, local_addr: _ } = self;
        let acceptor = tls.as_ref().map(Tls::acceptor);
        let token_files = [&mut token, &mut metrics_token].map(|token| token.as_mut().and_then(Token::take_file));
        let asks_for_user = token.is_none();
        let Parts { router, mut audit_writer, requests } =
            parts(dependencies, (token, metrics_token), largest_request, stop.clone());
        let router = if dashboard { router.merge(dashboard::router()) } else { router };
        let serving = connections::serve(listener, acceptor, asks_for_user, router, stop.clone());
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        };
        tokio::select! {
            () = serving => {}
            () = follow_files(tls, token_files.into_iter().flatten()) => {}
            () = audit_writer.run() => {}
            () = overdue => info!("some requests were not answered to the end"),
        }
        // Their clients may have left, and their entries in the audit log are still missing.
        requests.close();
        if timeout(SHUTDOWN_GRACE, requests.wait()).await.is_err() {
            info!("some requests may not be in the audit log");
        }
        audit_writer.finish().await;
    }
}

/// The parts of a server that do not depend on how requests arrive.
pub(crate) struct Parts {
    pub(crate) router: Router,
    pub(crate) audit_writer: AuditWriter,
    /// Requests that do more than read.
    requests: TaskTracker,
}

pub(crate) fn parts(
    dependencies: Dependencies,
    (token, metrics_token): (Option<Token>, Option<Token>),
    largest_request: usize,
    stop: CancellationToken,
) -> Parts {
    // Requests take no connection to the logbook that the engine needs.
    let mut dependencies = Dependencies { logbook: dependencies.logbook.for_clients(), ..dependencies };
    let requests = TaskTracker::new();
    let (audit, audit_writer) = AuditWriter::new(dependencies.logbook.clone());
    let recent_events = RecentEvents::new(dependencies.broker.clone(), dependencies.logbook.clone(), stop.clone());
    let webhooks = std::mem::take(&mut dependencies.webhooks);
    let webhooks = Webhooks::start(webhooks, &dependencies.broker, &dependencies.logbook, &stop, &TaskTracker::new());
    let state = State {
        dependencies,
        token,
        metrics_token,
        tokens: RecentTokens::default(),
        audit,
        requests: requests.clone(),
        bodies: Bodies::new(largest_request),
        event_streams: EventStreams::default(),
        recent_events,
        live_lines: runs::live::beginning(),
        webhooks,
        large_answers: LargeAnswers::default(),
        readiness: Readiness::new(health::MAX_AT_ONCE),
        examination: Examination::new(health::MAX_AT_ONCE),
        namespace_storage: NamespaceStorage::default(),
        worker_lists: WorkerLists::new(workers::MAX_LISTS_AT_ONCE),
        queue_pages: QueuePages::new(queues::MAX_PAGES_AT_ONCE),
        engine_lists: EngineLists::new(engines::MAX_LISTS_AT_ONCE),
        permit_pages: PermitPages::new(permits::MAX_LISTS_AT_ONCE),
        call_answers: CallAnswers::new(outstanding_calls::MAX_RUNS_AT_ONCE).with_short_turns(),
        count_answers: CountAnswers::new(counts::MAX_AT_ONCE),
        shared_pages: SharedPages::default(),
        shared_runs: SharedRuns::default(),
        rehearsal_answers: RehearsalAnswers::new(rehearsal::MAX_AT_ONCE),
        scrapes: Scrapes::default(),
        queue_lengths: QueueLengths::default(),
        stop,
    };
    Parts { router: routes::router(Arc::new(state), largest_request), audit_writer, requests }
}

/// Reads the certificate and the tokens again whenever their files change, for ever.
pub(crate) async fn follow_files(tls: Option<Tls>, tokens: impl IntoIterator<Item = TokenFile>) {
    let certificate = async {
        match tls {
            Some(tls) => tls.follow_files().await,
            None => std::future::pending().await,
        }
    };
    tokio::join!(certificate, join_all(tokens.into_iter().map(TokenFile::follow)));
}

pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
