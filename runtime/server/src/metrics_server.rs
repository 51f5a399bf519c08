//! A server with the metrics of a process that has no API: a worker.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{StatusCode, Uri},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    BindError, Tls, Token,
    auth::{self, Identified, peer::Peer},
    connections,
    problem::Problem,
    scrape::{self, Scrapes},
    server::{follow_files, is_loopback},
};

/// The configuration of a server with metrics.
pub struct MetricsConfig {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The token that scrapes must carry, if any.
    pub token: Option<Token>,
    /// The certificate with which connections are encrypted; without one they are not.
    pub tls: Option<Tls>,
}

/// A server with metrics that listens but handles no request yet.
pub struct MetricsServer {
    listener: TcpListener,
    local_addr: SocketAddr,
    token: Option<Token>,
    tls: Option<Tls>,
}

struct Metrics {
    token: Option<Token>,
    scrapes: Scrapes,
}

impl MetricsServer {
    /// Starts to listen.
    ///
    /// # Errors
    /// [`BindError`] when the system refuses, or everybody could read the metrics.
    pub async fn bind(config: MetricsConfig) -> Result<Self, BindError> {
        let MetricsConfig { listen, token, tls } = config;
        if token.is_none() && !is_loopback(listen.ip()) {
            return Err(BindError::NoMetricsToken { listen });
        }
        let failed = |source| BindError::Listen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, local_addr, token, tls })
    }

    /// The address of the metrics, with the port that the system chose for port 0.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/metrics", self.local_addr)
    }

    /// Answers scrapes until `stop`. Dropping the future stops it at once.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, local_addr: _, mut token, tls } = self;
        let acceptor = tls.as_ref().map(Tls::acceptor);
        let token_file = token.as_mut().and_then(Token::take_file);
        let asks_for_user = token.is_none();
        let metrics = Arc::new(Metrics { token, scrapes: Scrapes::default() });
        tokio::select! {
            () = connections::serve(listener, acceptor, asks_for_user, router(metrics), stop) => {}
            () = follow_files(tls, token_file) => {}
        }
    }
}

fn router(metrics: Arc<Metrics>) -> Router {
    let router = Router::new().route("/metrics", routing::get(answer)).fallback(unknown);
    router
        .layer(middleware::from_fn_with_state(metrics.clone(), require_token))
        .layer(middleware::from_fn(auth::reject_foreign_origin))
        .with_state(metrics)
}

async fn answer(State(metrics): State<Arc<Metrics>>) -> Response {
    scrape::answer(metrics.scrapes.text(std::future::ready(())).await)
}

async fn unknown(uri: Uri) -> Problem {
    let detail = format!("there is nothing at {}", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "not-found", "there is no such route", detail)
        .hint("a worker has only GET /metrics")
}

/// Passes a request with the token, or, if there is none, of the user of this process.
async fn require_token(
    State(metrics): State<Arc<Metrics>>,
    Extension(peer): Extension<Arc<Peer>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let is_allowed = match (&metrics.token, auth::bearer(headers)) {
        (Some(token), Some(text)) if token.is(text.as_bytes()) => Ok(()),
        (Some(_), _) => Err(auth::unauthorized()),
        (None, _) => auth::check_owner(headers, &peer),
    };
    match is_allowed {
        Ok(()) => (Extension(Identified), next.run(request).await).into_response(),
        Err(refusal) => refusal,
    }
}
