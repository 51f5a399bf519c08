//! Counts runs by flow and state.

use api::{self, FlowCounts, RunCounts, RunFilter};
use axum::{Extension, Json, extract::State};

use super::list::parse_filter;
use crate::{auth::namespace::CallerNamespace, extract::RepeatedQuery, problem::Problem, state::Shared, turns};

/// The maximum number of flows in an answer.
const MAX_FLOWS: usize = 1_000;

/// Counts the runs of a filter, by flow and state.
#[utoipa::path(get, operation_id = "count_runs", path = "/v1/runs/counts", tag = "runs", params(RunFilter), responses(
    (status = 200, description = "The counts", body = RunCounts),
    (status = 400, description = "The filter cannot be read", body = api::Problem,
        content_type = "application/problem+json"),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn counts(
    State(state): Shared,
    Extension(caller): Extension<CallerNamespace>,
    RepeatedQuery(mut query): RepeatedQuery<RunFilter>,
) -> Result<Json<RunCounts>, Problem> {
    caller.limit(&mut query.namespace)?;
    let _turn = turns::for_page(caller.0.clone()).await;
    let counts = state.dependencies.logbook.counts(&parse_filter(query)?, MAX_FLOWS).await?;
    let flows = counts.flows.into_iter().map(|(flow, states)| {
        let states = states.into_iter().map(|(state, count)| (state.to_string(), count)).collect();
        FlowCounts { flow: flow.to_string(), states }
    });
    Ok(Json(RunCounts { flows: flows.collect(), total: counts.total, more: counts.more }))
}
