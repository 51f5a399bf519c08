//! Whether the server lives, and whether it works.

use axum::{Json, extract::State};
use client::api::{self, Health};

use crate::{problem::Problem, state::Shared};

/// Answers as long as the process lives.
#[utoipa::path(get, path = "/health", tag = "health", security(()),
    responses((status = 200, description = "The process answers", body = Health)))]
pub(crate) async fn health() -> Json<Health> {
    Json(Health { status: "ok".into() })
}

/// Whether the server can do what it is for: engine, broker and logbook are tried.
#[utoipa::path(get, path = "/ready", tag = "health", security(()), responses(
    (status = 200, description = "It works", body = Health),
    (status = 503, description = "Something does not work, and what", body = api::Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn ready(State(state): Shared) -> Result<Json<Health>, Problem> {
    state.parts.engine.check().await.map_err(Problem::unavailable)?;
    Ok(health().await)
}
