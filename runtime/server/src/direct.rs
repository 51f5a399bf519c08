//! Servers for tests: their dependencies in memory, and requests that come without a connection. A test makes thousands of
//! them, and reads the answers.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, http};
use broker::{Broker, InProcess};
use engine::{Config, Engine, MaxOpenRuns, ShardAssignment, StartError, SystemClock};
use flow::PerNamespace;
use futures::StreamExt as _;
use logbook::{Logbook, MemoLimits};
use sandbox::Sandbox;
use store::Store;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{
    Dependencies, LibraryLimits, Locations, ModuleLibrary, QueueCoverage, Token, audit::AuditWriter, auth::peer::Peer,
    server,
};

/// The time to wait for the next event of a stream.
const EVENT_TIMEOUT: Duration = Duration::from_secs(1);

/// The maximum number of bytes that are read of a stream of events, which may never end.
const MAX_EVENT_BYTES: usize = 256 << 10;

/// The routes of a server that listens nowhere. They check the token of each request, as those of a [`Server`](crate::Server)
/// with a token do.
pub struct Routes {
    router: Router,
    audit: AuditWriter,
    /// Ends streams of events.
    stop: CancellationToken,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path and query.
    pub path: &'a str,
    /// Its headers.
    pub headers: Vec<(&'a str, &'a [u8])>,
    /// Its body.
    pub body: &'a [u8],
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The content type; empty for an answer without one.
    pub content_type: String,
    /// The body. Of a stream of events, the events that came until nothing happened for a second.
    pub body: Vec<u8>,
}

impl Dependencies {
    /// An engine over a broker in memory, which drives all shards. There is no worker: jobs wait in the queue `default`.
    ///
    /// # Errors
    /// [`StartError`] when the engine cannot read the logbook.
    pub async fn in_memory(
        logbook: Arc<dyn Logbook>,
        store: Arc<dyn Store>,
        sandbox: Sandbox,
    ) -> Result<Self, StartError> {
        let broker: Arc<dyn Broker> = Arc::new(InProcess::new());
        let (shards, max_open_runs) = (ShardAssignment::Shared, MaxOpenRuns::default());
        let (max_output, memo_limits) = (flow::Limits::maximum().output, MemoLimits::default());
        let config = Config { id: "here".into(), shards, max_open_runs, max_output, memo_limits, host: String::new() };
        let engine =
            Engine::start(config, broker.clone(), logbook.clone(), store.clone(), Arc::new(SystemClock)).await?;
        let folder = std::env::temp_dir();
        let locations = Locations::of_one_process("memory:".into(), folder.clone(), folder);
        let (limits, admission) = (LibraryLimits::default(), locations.admission.clone());
        let modules = ModuleLibrary { store, sandbox, limits, admission };
        let coverage = QueueCoverage::Embedded(["default".parse().expect("it is a name")].into());
        let max_namespace_bytes = PerNamespace::default();
        let webhooks = Vec::new();
        Ok(Self { engine, logbook, modules, broker, coverage, locations, max_namespace_bytes, webhooks })
    }
}

impl Routes {
    /// The routes of a server with this token.
    #[must_use]
    pub fn new(dependencies: Dependencies, token: Token, max_request_bytes: u64) -> Self {
        let stop = CancellationToken::new();
        let largest_request = usize::try_from(max_request_bytes).unwrap_or(usize::MAX);
        let parts = server::parts(dependencies, (Some(token), None), largest_request, stop.clone());
        Self { router: parts.router, audit: parts.audit_writer, stop }
    }

    /// Answers a request; `None` for one that cannot be written in HTTP, such as a path with a space. Dropping the future does not
    /// stop a request that does more than read.
    pub async fn answer(&mut self, request: &Request<'_>) -> Option<Answer> {
        let answering = answer(self.router.clone(), request.to_http()?);
        tokio::select! {
            answer = answering => Some(answer),
            () = self.audit.run() => None,
        }
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Request<'_> {
    fn to_http(&self) -> Option<http::Request<Body>> {
        let mut request = http::Request::builder().method(self.method).uri(self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        request.extension(Arc::new(Peer::unconnected())).body(Body::from(self.body.to_vec())).ok()
    }
}

async fn answer(router: Router, request: http::Request<Body>) -> Answer {
    let Ok(response) = router.oneshot(request).await;
    let (head, body) = response.into_parts();
    let content_type = head.headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let body = read(body, content_type == "text/event-stream").await;
    Answer { status: head.status.as_u16(), content_type, body }
}

async fn read(body: Body, is_stream_of_events: bool) -> Vec<u8> {
    let (mut chunks, mut bytes) = (body.into_data_stream(), Vec::new());
    while !is_stream_of_events || bytes.len() < MAX_EVENT_BYTES {
        let next = match is_stream_of_events {
            true => timeout(EVENT_TIMEOUT, chunks.next()).await.ok().flatten(),
            false => chunks.next().await,
        };
        let Some(Ok(chunk)) = next else { break };
        bytes.extend_from_slice(&chunk);
    }
    bytes
}
