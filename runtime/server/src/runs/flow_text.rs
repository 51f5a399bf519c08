//! The text of a run's flow, at one of its revisions.

use api::{self, FlowText, FlowTextQuery};
use axum::{Json, extract::State, http::StatusCode};
use flow::{FlowSource, RunId};

use super::show::read_with_machine;
use crate::{extract, problem::Problem, state::Shared, turns};

/// Shows the flow of a run at a revision, as the text of a flow file.
///
/// The first revision is the text as it was submitted. The text of a later one is written with the edits up to it, so comments
/// are missing.
#[utoipa::path(get, operation_id = "read_flow", path = "/v1/runs/{run}/flow", tag = "runs",
    params(("run" = String, Path, description = "The run's id"), FlowTextQuery), responses(
        (status = 200, description = "The flow", body = FlowText),
        (status = 404, description = "There is no such run or revision, or the run has no text of its flow", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn flow_text(
    State(state): Shared,
    extract::Run(run): extract::Run,
    extract::Query(FlowTextQuery { revision }): extract::Query<FlowTextQuery>,
) -> Result<Json<FlowText>, Problem> {
    let dependencies = &state.dependencies;
    let (shown, machine) = read_with_machine(&dependencies.logbook, &*dependencies.modules.store, &run).await?;
    let revision = revision.unwrap_or(shown.revision);
    if revision == 0 || revision > shown.revision {
        let detail = format!("run {run} has no revision {revision}: its flow is at revision {}", shown.revision);
        return Err(missing(detail).hint("revisions count from 1"));
    }
    let Some(origin) = machine.flow().origin.clone() else {
        let detail = format!("run {run} was started by `waft run`, which stores no text of its flow");
        return Err(missing(detail).hint("`waft submit` stores it"));
    };
    let edits: usize =
        shown.revisions.iter().filter(|known| known.revision <= revision).map(|known| known.edits.len()).sum();
    let modules = origin.modules.iter().map(|(alias, digest)| (alias.clone(), digest.to_string())).collect();
    let (text, submitted) = match edits {
        0 => (origin.text.to_string(), true),
        edits => {
            let written = turns::in_turn(machine.flow().name.namespace(), move || text_with(&origin, edits)).await;
            (written.map_err(|reason| unwritable(&run, &reason))?, false)
        }
    };
    Ok(Json(FlowText { run: run.to_string(), revision, text, submitted, modules }))
}

/// The text of a flow with its first edits.
fn text_with(origin: &FlowSource, edits: usize) -> Result<String, String> {
    let edits = origin.edits.iter().take(edits).cloned().collect();
    let draft = FlowSource { edits, ..origin.clone() }.draft()?.into_draft();
    flow::file::write(&draft).map_err(|error| error.to_string())
}

fn missing(detail: String) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-such-flow", "the run has no such text of a flow", detail)
}

/// A flow that no file can express.
fn unwritable(run: &RunId, reason: &str) -> Problem {
    missing(format!("the flow of run {run} cannot be written as a file: {reason}"))
}
