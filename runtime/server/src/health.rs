//! Reports whether the server process responds, and whether it works.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use api::{self, Checks, Health};
use axum::{Extension, Json, extract::State, http::HeaderMap};
use engine::{Clock, Engine, SystemClock};
use protocol::events::rfc3339;
use tokio::sync::Mutex;

use crate::{
    Dependencies,
    auth::{self, peer::Peer},
    checks::{self, RunningServer},
    problem::Problem,
    state::Shared,
};

/// Reports that the process is running.
#[utoipa::path(get, path = "/health", tag = "health", security(()),
    responses((status = 200, description = "The process is running", body = Health)))]
pub(crate) async fn health() -> Json<Health> {
    Json(Health { status: "ok".into() })
}

/// Reports whether engine, broker and logbook work. They are checked at most once a second. Only a request with a token for the
/// whole server receives the reason of a failure.
#[utoipa::path(get, path = "/ready", tag = "health", security(()), responses(
    (status = 200, description = "They work", body = Health),
    (status = 503, description = "One of them does not work", body = api::Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn ready(
    State(state): Shared,
    Extension(peer): Extension<Arc<Peer>>,
    headers: HeaderMap,
) -> Result<Json<Health>, Problem> {
    match state.readiness.check(&state.dependencies.engine).await {
        Ok(()) => Ok(health().await),
        Err(reason) => match auth::identify(&state, &headers, &peer).await {
            Ok(caller) if !caller.is_limited() => Err(Problem::unavailable(reason)),
            Ok(_) | Err(_) => Err(Problem::unavailable(
                "the server is not ready: a request with a token for all of it receives the reason",
            )),
        },
    }
}

/// Checks everything that the server depends on: broker, permissions, queues, logbook, store, clocks, workers and runs.
///
/// It takes up to half a minute if something does not answer, and changes nothing.
#[utoipa::path(get, operation_id = "check_health", path = "/v1/health/checks", tag = "health", responses(
    (status = 200, description = "The results of the checks, good or bad", body = Checks),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn checks(State(state): Shared) -> Json<Checks> {
    let checks = state.examination.make(&state.dependencies).await;
    let at = rfc3339(SystemClock.now());
    Json(Checks { version: env!("CARGO_PKG_VERSION").to_owned(), at, checks })
}

/// How long a readiness result is reused, so that frequent requests cost nothing.
const CACHE_FOR: Duration = Duration::from_secs(1);

/// The result of the last readiness check.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Readiness {
    /// Checks the engine, unless a recent result exists. Concurrent requests wait for the same result.
    async fn check(&self, engine: &Engine) -> Result<(), String> {
        let mut last = self.last.lock().await;
        if let Some((at, result)) = &*last
            && at.elapsed() < CACHE_FOR
        {
            return result.clone();
        }
        let result = engine.check().await;
        *last = Some((Instant::now(), result.clone()));
        result
    }
}

/// The results of the last full check.
#[derive(Debug, Default)]
pub(crate) struct Examination {
    last: Mutex<Option<(Instant, Vec<api::Check>)>>,
}

impl Examination {
    /// Runs all checks, unless recent results exist. Concurrent requests wait for the same results.
    async fn make(&self, dependencies: &Dependencies) -> Vec<api::Check> {
        let mut last = self.last.lock().await;
        if let Some((at, result)) = &*last
            && at.elapsed() < CACHE_FOR
        {
            return result.clone();
        }
        let Dependencies { engine, broker, logbook, locations, .. } = dependencies;
        let running = RunningServer { engine: engine.clone(), broker: broker.clone(), logbook: logbook.clone() };
        // Boxed because this future is large.
        let result = Box::pin(checks::check(locations, Some(&running))).await;
        *last = Some((Instant::now(), result.clone()));
        result
    }
}
