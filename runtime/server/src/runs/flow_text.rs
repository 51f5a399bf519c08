//! The text of a run's flow, at one of its revisions.

use std::sync::Arc;

use api::{self, FlowText, FlowTextQuery};
use axum::{Extension, extract::State, http::StatusCode, response::Response};
use flow::{Draft, Edit, FlowName, FlowSource, Revision, RunId};
use logbook::Logbook;
use machine::Machine;

use super::{graph::flow_of_revision, history::load_run};
use crate::{
    auth::permission::Permission,
    extract,
    problem::Problem,
    state::Shared,
    turns::{self, in_turn},
};

/// The memory of an edit with its names, in bytes, without its text, condition or value.
const BYTES_OF_EDIT: usize = 512;

/// The form of the text in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As it was submitted.
    Submitted,
    /// Written anew.
    Written,
}

/// Shows the flow of a run at a revision, as the text of a flow file.
///
/// The first revision is the text as it was submitted. The text of a later one is written with the edits up to it, so comments
/// are missing. With `written` the first one is written in the same way.
#[utoipa::path(get, operation_id = "read_flow", path = "/v1/runs/{run}/flow", tag = "runs",
    params(("run" = String, Path, description = "The run's id"), FlowTextQuery), responses(
        (status = 200, description = "The flow", body = FlowText),
        (status = 404, description = "There is no such run or revision, or the run has no text of its flow", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "The server sends as many large answers as it has memory for", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn flow_text(
    State(state): Shared,
    Extension(permission): Extension<Arc<Permission>>,
    extract::Run(run): extract::Run,
    extract::Query(FlowTextQuery { revision, written }): extract::Query<FlowTextQuery>,
) -> Result<Response, Problem> {
    let logbook = &state.dependencies.logbook;
    let loaded = load_run(logbook, &run).await?;
    let revision = revision.map_or_else(|| loaded.machine().revision(), Revision::new);
    let source = source_at(&**logbook, &run, loaded.machine(), revision).await?;
    let name = loaded.machine().flow().name.clone();
    // Writing a flow with its edits may take long, and so may the wait for a turn at it. Meanwhile others read their runs, and only the
    // text is in memory.
    let memory = state.large_answers.take(permission.sender(), size(&source))?;
    turns::drop_in_thread(loaded);
    let form = if written || !source.edits.is_empty() { Form::Written } else { Form::Submitted };
    memory.json(in_turn(name.namespace(), move || shown(&run, revision, (&source, &name), form)).await?)
}

/// The memory of a source and of the answer that is made from it, in bytes: the text is written again, and escaped in JSON.
pub(super) fn size(source: &FlowSource) -> usize {
    let of_edit = |edit: &Edit| match edit {
        Edit::Add { text } => text.len(),
        Edit::Link { when, .. } => when.as_ref().map_or(0, |when| when.as_str().len()),
        Edit::Use { uses, .. } => uses.len(),
        // A value in the store stays there.
        Edit::Set { value, .. } if value.digest().is_none() => value.size(),
        Edit::Set { .. } | Edit::Remove { .. } | Edit::Unlink { .. } | Edit::Require { .. } => 0,
    };
    let edits = source.edits.iter().map(|edit| BYTES_OF_EDIT + of_edit(edit)).sum::<usize>();
    3 * (source.text.len() + edits)
}

/// The text of the flow of a run at a revision, with the edits up to then.
async fn source_at(
    logbook: &dyn Logbook,
    run: &RunId,
    machine: &Machine,
    wanted: Revision,
) -> Result<FlowSource, Problem> {
    let last = machine.revision();
    if wanted.get() == 0 || wanted.get() > last.get() {
        let detail = format!("run {run} has no revision {}: its flow is at revision {}", wanted.get(), last.get());
        return Err(missing(detail).hint("revisions count from 1"));
    }
    let Some(source) = machine.flow().origin.as_deref() else { return Err(without_text(run)) };
    let with_first = |edits: usize| FlowSource {
        text: source.text.clone(),
        modules: source.modules.clone(),
        edits: source.edits.iter().take(edits).cloned().collect(),
    };
    if wanted == last {
        return Ok(source.clone());
    }
    if wanted == Revision::FIRST {
        return Ok(with_first(0));
    }
    // The trim point names the revisions of records that are deleted.
    let trimmed = logbook.trim_point(run).await?.map(|point| point.revisions).unwrap_or_default();
    if let Some(entry) = trimmed.iter().find(|entry| entry.revision == wanted) {
        return Ok(with_first(entry.edits));
    }
    let flow = flow_of_revision(logbook, run, wanted, last).await?;
    flow.origin.as_deref().cloned().ok_or_else(|| without_text(run))
}

/// The answer as JSON.
fn shown(
    run: &RunId,
    revision: Revision,
    (source, name): (&FlowSource, &FlowName),
    form: Form,
) -> Result<Vec<u8>, Problem> {
    let text = match form {
        Form::Submitted => source.text.to_string(),
        Form::Written => written(source, name).map_err(|reason| {
            missing(format!("the flow of run {run} cannot be written as a file: {reason}"))
                .hint("GET /v1/runs/RUN lists the edits of each revision")
        })?,
    };
    let submitted = form == Form::Submitted;
    let modules = source.modules.iter().map(|(alias, digest)| (alias.clone(), digest.to_string())).collect();
    let shown = FlowText { run: run.to_string(), revision: revision.get(), text, submitted, modules };
    Ok(serde_json::to_vec(&shown).expect("strings and numbers are JSON"))
}

/// The text of a flow with its edits. Its name has the namespace, which the submitted text may leave out.
pub(super) fn written(source: &FlowSource, name: &FlowName) -> Result<String, String> {
    let draft = Draft { name: Some(name.clone()), ..source.draft()?.into_draft() };
    flow::file::write(&draft).map_err(|error| error.to_string())
}

fn without_text(run: &RunId) -> Problem {
    missing(format!("run {run} was started by `waft run`, which stores no text of its flow"))
        .hint("`waft submit` stores it")
}

fn missing(detail: String) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-such-flow", "the run has no such text of a flow", detail)
}
