//! Counts runs by flow and state. Requests for the same runs share the counts: a database with a million runs takes seconds.

use std::sync::Arc;

use api::{self, FlowCounts, RunCounts, RunFilter};
use axum::{Extension, extract::State, response::Response};
use bytes::Bytes;

use super::list::parse_filter;
use crate::{
    auth::{namespace::CallerNamespace, permission::Permission},
    extract::RepeatedQuery,
    problem::Problem,
    shared_answers::SharedAnswers,
    state::Shared,
    turns,
};

/// The maximum number of flows in an answer.
const MAX_FLOWS: usize = 1_000;

/// Number of different counts that are made at the same time. Each also needs a turn at pages.
///
/// A count goes on without its client. With two, an owner makes one at a time, so that another turn at pages is left for its lists.
pub(crate) const MAX_AT_ONCE: usize = 2;

/// The counts of filters, as JSON. The filter of a sender that is limited to a namespace names it.
pub(crate) type CountAnswers = SharedAnswers<String, Bytes>;

/// Counts the runs of a filter, by flow and state.
#[utoipa::path(get, operation_id = "count_runs", path = "/v1/runs/counts", tag = "runs", params(RunFilter), responses(
    (status = 200, description = "The counts", body = RunCounts),
    (status = 400, description = "The filter cannot be read", body = api::Problem,
        content_type = "application/problem+json"),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn counts(
    State(state): Shared,
    Extension(caller): Extension<CallerNamespace>,
    Extension(permission): Extension<Arc<Permission>>,
    RepeatedQuery(mut query): RepeatedQuery<RunFilter>,
) -> Result<Response, Problem> {
    caller.limit(&mut query.namespace)?;
    let question = serde_json::to_string(&query).expect("strings are JSON");
    let (filter, owner) = (parse_filter(query)?, caller.0.clone());
    let logbook = state.dependencies.logbook.clone();
    let asking = async move {
        let _turn = turns::for_page(owner).await;
        let counts = logbook.counts(&filter, MAX_FLOWS).await?;
        let flows = counts.flows.into_iter().map(|(flow, states)| {
            let states = states.into_iter().map(|(state, count)| (state.to_string(), count)).collect();
            FlowCounts { flow: flow.to_string(), states }
        });
        let counts = RunCounts { flows: flows.collect(), total: counts.total, more: counts.more };
        Ok::<_, Problem>(Bytes::from(serde_json::to_vec(&counts).expect("strings and numbers are JSON")))
    };
    let json = state.count_answers.get(question, caller.0, asking).await?;
    state.large_answers.json(permission.sender(), json)
}
