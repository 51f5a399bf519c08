//! Reports whether the server process responds, and whether it works.

use std::sync::Arc;

use api::{self, Check, Checks, Health};
use axum::{Extension, Json, extract::State, http::HeaderMap};
use engine::{Clock, SystemClock};
use protocol::events::rfc3339;

use crate::{
    Dependencies,
    auth::{self, peer::Peer},
    checks::{self, RunningServer},
    problem::Problem,
    shared_answers::SharedAnswers,
    state::Shared,
};

/// The result of a readiness check: the reason of a failure. Frequent requests share it, so they cost nothing.
pub(crate) type Readiness = SharedAnswers<(), Result<(), String>>;

/// The results of a full check.
pub(crate) type Examination = SharedAnswers<(), Vec<Check>>;

/// Number of checks of each kind that are made at the same time.
pub(crate) const MAX_AT_ONCE: usize = 1;

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
    let engine = state.dependencies.engine.clone();
    let checked = state.readiness.get((), None, async move { Ok(engine.check().await) }).await;
    match checked.unwrap_or_else(|problem| Err(problem.into_document().detail)) {
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
pub(crate) async fn checks(State(state): Shared) -> Result<Json<Checks>, Problem> {
    let examined = state.clone();
    let examining = async move {
        let Dependencies { engine, broker, logbook, locations, .. } = &examined.dependencies;
        let running = RunningServer { engine: engine.clone(), broker: broker.clone(), logbook: logbook.clone() };
        // Boxed because this future is large.
        let examination = Box::pin(checks::check(locations, Some(&running)));
        let checked = examined.stop.run_until_cancelled(examination).await;
        checked.ok_or_else(|| Problem::unavailable("the server is stopping"))
    };
    let checks = state.examination.get((), None, examining).await?;
    let at = rfc3339(SystemClock.now());
    Ok(Json(Checks { version: env!("CARGO_PKG_VERSION").to_owned(), at, checks }))
}
