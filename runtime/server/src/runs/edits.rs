//! Edits the flow of a run while it runs.

mod alone;

use std::sync::Arc;

use api::{self, EditResult, Edits, LinkJoin, LinkOutcome, LinkReach};
use axum::{Extension, Json, extract::State, http::StatusCode};
use engine::CommandError;
use flow::{
    Condition, Diagnostic, Draft, Edit, Flow, FlowSource, Join, Namespace, NodeName, Revision, RunId, SkipReach,
    SourceOutcome, Value, ValueName,
};
use machine::Machine;
use protocol::RunCommand;

use super::{
    namespace::foreign_names,
    submit::{api_diagnostics, diagnostics_problem, unserved_queues, wire},
};
use crate::{
    ModuleLibrary, QueueCoverage, WiredFlow, auth::namespace::CallerNamespace, extract, problem::Problem, state,
};

pub use alone::edit_alone;

/// The maximum number of tries when concurrent changes to the run interfere.
const MAX_TRIES: usize = 5;

/// Changes the flow of a run: all of the edits in one step, or none of them.
///
/// They are applied to the current flow. With `if_revision` they are refused if the flow is at another revision.
#[utoipa::path(post, operation_id = "edit_run", path = "/v1/runs/{run}/edits", tag = "runs", request_body = Edits,
    params(("run" = String, Path, description = "The run's id")), responses(
        (status = 200, description = "The flow was changed, or can be", body = EditResult),
        (status = 409, description = "The run is at another revision, or cannot be changed like this any more: every reason; or the namespace has no space left",
            body = api::Problem, content_type = "application/problem+json"),
        (status = 422, description = "The changed flow has errors: all of them", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn edit(
    State(state): state::Shared,
    extract::Run(run): extract::Run,
    Extension(CallerNamespace(namespace)): Extension<CallerNamespace>,
    extract::Json(request): extract::Json<Edits>,
) -> Result<Json<EditResult>, Problem> {
    let edits = parse_edits(&request)?;
    for attempt in 0..MAX_TRIES {
        // An edit that is refused after the flow changed may have made that change itself: its answer was lost.
        if attempt > 0
            && let Some(edited) = applied_edits(&state, &run, &edits).await?
        {
            return Ok(Json(edited));
        }
        if let Some(edited) = try_edit(&state, &run, &request, &edits, namespace.as_ref()).await? {
            return Ok(Json(edited));
        }
    }
    Err(conflict("another request changed the flow at the same time".into()))
}

/// The edits as made, if they are the last ones of the run's flow.
async fn applied_edits(state: &state::State, run: &RunId, edits: &[Edit]) -> Result<Option<EditResult>, Problem> {
    let machine = state.dependencies.logbook.load(run).await?.into_machine()?;
    // Making an edit finds out whether a task had run.
    let as_requested = |edit: &Edit| match edit {
        Edit::Remove { task, .. } => Edit::Remove { task: task.clone(), ran: false },
        edit => edit.clone(),
    };
    let known: Vec<Edit> = machine.flow().origin.iter().flat_map(|origin| &origin.edits).map(as_requested).collect();
    let is_made = known.ends_with(edits);
    let edits = edits.iter().map(ToString::to_string).collect();
    let (run, revision, warnings) = (run.to_string(), machine.revision().get(), Vec::new());
    Ok(is_made.then_some(EditResult { run, revision, applied: true, edits, warnings }))
}

/// Makes the edits against the current flow. Returns `None` if the flow changed in between.
async fn try_edit(
    state: &state::State,
    run: &RunId,
    request: &Edits,
    edits: &[Edit],
    namespace: Option<&Namespace>,
) -> Result<Option<EditResult>, Problem> {
    let machine = state.dependencies.logbook.load(run).await?.into_machine()?;
    let EditPlan { revision, flow, edited } =
        plan_edits(&state.dependencies.modules, &state.dependencies.coverage, &machine, (request, edits), namespace)
            .await?;
    let foreign = foreign_names(&flow, namespace);
    if !foreign.is_empty() {
        return Err(diagnostics_problem(&foreign, ""));
    }
    if request.dry_run {
        return Ok(Some(edited));
    }
    let bytes = edits.iter().map(|edit| edit.to_string().len()).sum();
    state.add_bytes(flow.name.namespace().as_ref(), bytes).await?;
    match state.dependencies.engine.command(run, RunCommand::Edit { revision, flow: Arc::new(flow) }).await {
        Ok(_) => Ok(Some(EditResult { applied: true, ..edited })),
        Err(CommandError::Refused { reason }) if request.if_revision.is_some() => Err(conflict(reason)),
        // The run changed in between; the next try decides what follows.
        Err(CommandError::Refused { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A plan for valid edits, with their result.
struct EditPlan {
    /// The revision that the edits are based on.
    revision: Revision,
    /// The flow that the run continues with.
    flow: Flow,
    /// The answer to the request; the edits are not applied yet.
    edited: EditResult,
}

/// Plans edits of a run; changes nothing.
async fn plan_edits(
    library: &ModuleLibrary,
    coverage: &QueueCoverage,
    machine: &Machine,
    (request, edits): (&Edits, &[Edit]),
    limited_to: Option<&Namespace>,
) -> Result<EditPlan, Problem> {
    let revision = machine.revision();
    if request.if_revision.is_some_and(|expected| expected != revision.get()) {
        return Err(conflict(format!("the flow of the run is at revision {revision}")));
    }
    let (origin, draft) = machine.plan(edits).map_err(|reasons| conflict(reasons.join("; ")))?;
    // The text of the flow may leave out its namespace.
    let mut draft = Draft { name: Some(machine.flow().name.clone()), ..draft };
    pin_modules(&mut draft, &request.edits);
    let (flow, warnings) = edited_flow(library, coverage, machine, (origin, &draft), limited_to).await?;
    let reasons = machine.edit_errors(&flow);
    if !reasons.is_empty() {
        return Err(conflict(reasons.join("; ")));
    }
    let warnings = api_diagnostics(&warnings, "");
    let edits = edits.iter().map(ToString::to_string).collect();
    let (run, next) = (machine.run().to_string(), revision.next().get());
    Ok(EditPlan { revision, flow, edited: EditResult { run, revision: next, applied: false, edits, warnings } })
}

/// Builds the flow that the run continues with.
async fn edited_flow(
    library: &ModuleLibrary,
    coverage: &QueueCoverage,
    machine: &Machine,
    (origin, draft): (FlowSource, &Draft),
    limited_to: Option<&Namespace>,
) -> Result<(Flow, Vec<Diagnostic>), Problem> {
    let wired = wire(library, draft, &machine.flow().inputs, limited_to).await;
    let wired = wired.map_err(|diagnostics| diagnostics_problem(&without_spans(diagnostics), ""))?;
    let WiredFlow { flow, warnings, modules } = wired;
    let unserved = unserved_queues(coverage, &draft.body, &flow);
    if !unserved.is_empty() {
        return Err(diagnostics_problem(&without_spans(unserved), ""));
    }
    let flow = Flow { origin: Some(Arc::new(FlowSource { modules, ..origin })), ..flow };
    Ok((flow, without_spans(warnings)))
}

/// An edited flow comes from several texts, so spans in one of them would mislead.
fn without_spans(diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.into_iter().map(|diagnostic| Diagnostic { span: None, ..diagnostic }).collect()
}

/// Uses the modules that the request names for the added texts.
fn pin_modules(draft: &mut Draft, edits: &[api::Edit]) {
    for edit in edits {
        let api::Edit::Add { text, modules } = edit else { continue };
        let declared = Edit::parse_addition(text).map(|added| added.modules).unwrap_or_default();
        for (alias, digest) in modules.iter().filter(|(alias, _)| declared.contains_key(*alias)) {
            if let Some(reference) = draft.modules.get_mut(alias) {
                reference.text.clone_from(digest);
            }
        }
    }
}

fn conflict(detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "conflict", "the flow of the run cannot be changed so", detail)
        .hint("`waft show RUN --revisions` shows the run, its revision and its edits")
}

fn parse_edits(request: &Edits) -> Result<Vec<Edit>, Problem> {
    let edits: Vec<Edit> =
        request.edits.iter().map(parse_edit).collect::<Result<_, _>>().map_err(Problem::bad_request)?;
    if edits.is_empty() { Err(Problem::bad_request("there is nothing to change")) } else { Ok(edits) }
}

fn parse_edit(edit: &api::Edit) -> Result<Edit, String> {
    let node = |name: &str| NodeName::new(name).map_err(|error| error.to_string());
    let named = |name: &str| ValueName::new(name).map_err(|error| error.to_string());
    Ok(match edit {
        api::Edit::Add { text, modules: _ } => Edit::Add { text: text.as_str().into() },
        api::Edit::Remove { task } => Edit::Remove { task: node(task)?, ran: false },
        api::Edit::Link { from, to, on, when, reach, join } => Edit::Link {
            from: node(from)?,
            to: node(to)?,
            on: match on {
                None | Some(LinkOutcome::Success) => SourceOutcome::Success,
                Some(LinkOutcome::Failure) => SourceOutcome::Failure,
                Some(LinkOutcome::Any) => SourceOutcome::Any,
                Some(other) => return Err(format!("on is {:?}: write success, failure or any", other.as_str())),
            },
            when: when.as_deref().map(Condition::new).transpose().map_err(|error| format!("when: {error}"))?,
            reach: match reach {
                None => None,
                Some(LinkReach::All) => Some(SkipReach::All),
                Some(LinkReach::Flow) => Some(SkipReach::Flow),
                Some(LinkReach::Neighbors) => Some(SkipReach::Neighbors),
                Some(LinkReach::Task) => Some(SkipReach::Task),
                Some(other) => {
                    return Err(format!("reach is {:?}: write all, flow, neighbors or task", other.as_str()));
                }
            },
            join: match join {
                None | Some(LinkJoin::All) => Join::All,
                Some(LinkJoin::Any) => Join::Any,
                Some(other) => return Err(format!("join is {:?}: write all or any", other.as_str())),
            },
        },
        api::Edit::Unlink { from, to } => Edit::Unlink { from: node(from)?, to: node(to)? },
        api::Edit::Use { task, uses } => Edit::Use { task: node(task)?, uses: uses.clone() },
        api::Edit::Set { task, parameter, value } => {
            let json = flow::Json::parse(value.get()).map_err(|error| format!("{parameter}: {error}"))?;
            Edit::Set { task: node(task)?, parameter: named(parameter)?, value: Value::Json(json) }
        }
        api::Edit::Require { task, parameter, value } => {
            Edit::Require { task: node(task)?, parameter: named(parameter)?, value: named(value)? }
        }
    })
}
