//! Lists the workers.

use std::time::Duration;

use api::{self, Worker, Workers};
use axum::{Json, extract::State};

use crate::{problem::Problem, state::Shared};

/// How long workers have to answer. Workers answer at once unless they are starved.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// Lists the workers that answer within a second.
#[utoipa::path(get, operation_id = "list_workers", path = "/v1/workers", tag = "workers", responses(
    (status = 200, description = "The workers, in order of name", body = Workers),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(State(state): Shared) -> Result<Json<Workers>, Problem> {
    let answered = client::workers(state.dependencies.broker.clone(), REPLY_TIMEOUT).await;
    let answered = answered.map_err(|error| Problem::internal(&error))?;
    let mut workers: Vec<Worker> = answered.iter().map(Worker::from).collect();
    workers.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Json(Workers { workers }))
}
