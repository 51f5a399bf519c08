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
        (Some(_), _) => Err(Box::new(auth::unauthorized())),
        (None, _) => auth::check_owner(headers, &peer),
    };
    match is_allowed {
        Ok(()) => (Extension(Identified), next.run(request).await).into_response(),
        Err(refusal) => *refusal,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::{
        body::Body,
        http::{self, HeaderName, header},
    };
    use tower::ServiceExt as _;

    use super::*;

    type Headers<'h> = &'h [(HeaderName, &'h str)];

    /// The status of the answer to a request without a body.
    async fn status(token: Option<&str>, path: &str, headers: Headers<'_>) -> u16 {
        let metrics = Metrics { token: token.and_then(Token::new), scrapes: Scrapes::default() };
        let request = http::Request::builder().uri(path).extension(Arc::new(Peer::unconnected()));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, *value));
        let answer = router(Arc::new(metrics)).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (status, is_identified) = (answer.status().as_u16(), answer.extensions().get::<Identified>().is_some());
        assert_eq!(is_identified, ![401, 403].contains(&status), "only a known sender keeps its connection: {status}");
        status
    }

    #[tokio::test]
    async fn only_the_token_shows_the_metrics() {
        let bearer = |token: &'static str| (header::AUTHORIZATION, token);
        let cases: [(&str, Headers<'_>, u16); 7] = [
            ("/metrics", &[], 401),
            ("/metrics", &[bearer("Bearer wrong")], 401),
            ("/metrics", &[bearer("Basic secret")], 401),
            ("/nothing", &[], 401),
            ("/metrics", &[bearer("Bearer secret")], 200),
            ("/nothing", &[bearer("Bearer secret")], 404),
            ("/metrics", &[bearer("Bearer secret"), (header::ORIGIN, "https://evil.example")], 403),
        ];
        for (path, headers, expected) in cases {
            assert_eq!(status(Some("secret"), path, headers).await, expected, "{path} {headers:?}");
        }
    }

    #[tokio::test]
    async fn without_a_token_only_the_own_user_sees_the_metrics() {
        // Nobody knows who opened the connection.
        assert_eq!(status(None, "/metrics", &[]).await, 403);
        assert_eq!(status(None, "/metrics", &[(header::HOST, "evil.example")]).await, 403);
        assert_eq!(status(None, "/metrics", &[(header::AUTHORIZATION, "Bearer secret")]).await, 401);
    }

    #[tokio::test]
    async fn other_machines_need_a_token() {
        let config = |token| {
            let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            MetricsConfig { listen, token, tls: None }
        };
        assert!(matches!(MetricsServer::bind(config(None)).await, Err(BindError::NoMetricsToken { .. })));
        let server = MetricsServer::bind(config(Token::new("secret"))).await.unwrap();
        assert!(server.url().starts_with("http://0.0.0.0:") && server.url().ends_with("/metrics"), "{}", server.url());
    }
}
