//! The connections, and what happens to each request before and after its work.

use std::{io, sync::Arc, time::Duration};

use anyhow::Result;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::{
    api::{App, IDEMPOTENCY_KEY, REQUESTS},
    faults::Fault,
    problem::Problem,
};

/// Pause after a connection could not be accepted, mostly for want of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Marks an answer that must not be sent.
#[derive(Debug, Clone, Copy)]
struct Lost;

/// Serves connections until the process ends. Each change is durable before its answer, so it needs no shutdown.
pub(crate) async fn serve(listener: TcpListener, router: Router) -> Result<()> {
    let tasks = TaskTracker::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tasks.spawn(serve_connection(stream, router.clone(), tasks.clone()));
            }
            Err(error) => {
                eprintln!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router, tasks: TaskTracker) {
    let service = service_fn(|request| {
        // A task of its own: the work goes on if the client leaves.
        let work = tasks.spawn(router.clone().oneshot(Request::map(request, Body::new)));
        async move {
            let response = match work.await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(error) => return Err(io::Error::other(error)),
            };
            // An error closes the connection without an answer.
            if response.extensions().get::<Lost>().is_some() { Err(io::Error::other("lost")) } else { Ok(response) }
        }
    });
    // A client that leaves, or an answer that is lost on purpose.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Refuses requests without the token.
pub(crate) async fn require_token(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match app.check_token(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Lets some requests go wrong, and those with the same idempotency key wait for each other. Prints what happens to each.
pub(crate) async fn handle(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let sent_key = request.headers().get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok());
    let with_key = sent_key.map(|key| format!(" with the key {key}")).unwrap_or_default();
    let name = format!("{} {path}{with_key}", request.method());
    let fault = app.faults.next();
    if fault == Some(Fault::Busy) {
        eprintln!("received {name}\n503 for {name}: the cloud is flaky");
        return Problem::busy("the cloud is busy: try again").into_response();
    }
    let taken_back = path.strip_prefix(REQUESTS).map(|key| percent_decode_str(key).decode_utf8_lossy());
    let place = taken_back.as_deref().or(sent_key).map(|key| app.turns.place(key));
    eprintln!("received {name}");
    let _turn = match place {
        Some(place) => Some(place.turn().await),
        None => None,
    };
    let mut response = next.run(request).await;
    let is_lost = fault == Some(Fault::LostAnswer);
    let end = if is_lost { ", and the answer is lost: the cloud is flaky" } else { "" };
    eprintln!("{} for {name}{end}", response.status().as_u16());
    if is_lost {
        response.extensions_mut().insert(Lost);
    }
    response
}
