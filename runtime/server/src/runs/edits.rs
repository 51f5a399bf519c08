//! Edits the flow of a run while it runs.

mod alone;
mod plan;
mod preview;

use std::{collections::BTreeMap, sync::Arc};

use api::{self, EditResult, Edits, LinkJoin, LinkOutcome, LinkReach};
use axum::{
    Extension, Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use engine::CommandError;
use flow::{
    Condition, Diagnostic, Edit, Flow, Join, Namespace, NodeName, RunId, Severity, SkipReach, SourceOutcome, Value,
    ValueName, file::ParsedEdit,
};
use logbook::LoadError;
use machine::Machine;
use protocol::RunCommand;

use self::plan::{EditPlan, plan_edits};
use super::{
    history::load_machine,
    namespace::foreign_names,
    submit::{diagnostics_problem, edits_problem},
};
use crate::{
    auth::{client::Client, namespace::CallerNamespace, permission::Permission},
    extract,
    problem::Problem,
    state,
    turns::{self, Turn},
};

pub use alone::edit_alone;

/// The maximum number of tries when concurrent changes to the run interfere.
const MAX_TRIES: usize = 5;

/// The maximum number of edits of one request. All of them are one step of the run and one record.
const MAX_EDITS: usize = 1_000;

/// Changes the flow of a run: all of the edits in one step, or none of them.
///
/// They are applied to the current flow. With `if_revision` they are refused if the flow is at another revision. A `dry_run` changes
/// nothing, and with `preview` its answer has the flow as it would be.
#[utoipa::path(post, operation_id = "edit_run", path = "/v1/runs/{run}/edits", tag = "runs", request_body = Edits,
    params(("run" = String, Path, description = "The run's id")), responses(
        (status = 200, description = "The flow was changed, or can be", body = EditResult),
        (status = 409, description = "The run is at another revision, or cannot be changed like this any more: every reason; or the namespace has no space left",
            body = api::Problem, content_type = "application/problem+json"),
        (status = 422, description = "The text of the edits, or the changed flow, has errors: all of them", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "The server sends as many large answers as it has memory for", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn edit(
    State(state): state::Shared,
    extract::Run(run): extract::Run,
    Extension(CallerNamespace(namespace)): Extension<CallerNamespace>,
    Extension(client): Extension<Client>,
    Extension(permission): Extension<Arc<Permission>>,
    extract::Json(request): extract::Json<Edits>,
) -> Result<Response, Problem> {
    // Texts may be long.
    let request = Arc::new(turns::in_turn(namespace.clone(), move || EditRequest::parse(request)).await?);
    for attempt in 0..MAX_TRIES {
        let loaded = client.while_present(load(&state, &run, namespace.as_ref())).await?;
        // An edit that is refused after the flow changed may have made that change itself: its answer was lost.
        let loaded = match attempt {
            0 => loaded,
            _ => match applied_edits(loaded, &request).await {
                Applied::Yes(edited) => return Ok(Json(edited).into_response()),
                Applied::No(loaded) => *loaded,
            },
        };
        match try_edit(&state, &run, &request, loaded, namespace.as_ref()).await? {
            Tried::Done(edited) => return Ok(Json(edited).into_response()),
            Tried::Previewed(edited, flow) => {
                return preview::answer(&state, permission.sender(), (run, edited), flow).await;
            }
            Tried::Changed => {}
        }
    }
    Err(conflict("another request changed the flow at the same time".into()))
}

/// A run as its records are now, with the turn at having it in memory while its flow is wired.
type Loaded = (Machine, Turn);

async fn load(state: &state::State, run: &RunId, namespace: Option<&Namespace>) -> Result<Loaded, LoadError> {
    let turn = turns::for_wired_run(namespace.cloned()).await;
    // Its history has been read: others may read theirs while this one waits for its turn at wiring.
    let (machine, _read) = load_machine(&state.dependencies.logbook, run).await?;
    Ok((machine, turn))
}

/// Whether edits are the last ones of a run's flow.
enum Applied {
    /// They are: the edits as made.
    Yes(EditResult),
    /// They are not: the run, to edit it.
    No(Box<Loaded>),
}

async fn applied_edits((machine, turn): Loaded, request: &Arc<EditRequest>) -> Applied {
    let request = request.clone();
    // Making an edit finds out whether a task had run.
    let as_requested = |edit: &Edit| match edit {
        Edit::Remove { task, .. } => Edit::Remove { task: task.clone(), ran: false },
        edit => edit.clone(),
    };
    let owner = machine.flow().name.namespace();
    let find = move || {
        let known = machine.flow().origin.iter().flat_map(|origin| &origin.edits);
        let known: Vec<Edit> = known.map(as_requested).collect();
        if !known.ends_with(&request.edits) {
            return Applied::No(Box::new((machine, turn)));
        }
        let (run, revision) = (machine.run().to_string(), machine.revision().get());
        let (edits, warnings) = (request.shown(), Vec::new());
        Applied::Yes(EditResult { run, revision, applied: true, edits, warnings, preview: None })
    };
    turns::in_turn(owner, find).await
}

/// The result of one try to edit a run.
enum Tried {
    /// The flow was changed, or can be.
    Done(EditResult),
    /// The flow can be changed, and would be this one.
    Previewed(EditResult, Arc<Flow>),
    /// The run changed in between.
    Changed,
}

/// Makes the edits against the current flow.
async fn try_edit(
    state: &state::State,
    run: &RunId,
    request: &Arc<EditRequest>,
    (machine, turn): Loaded,
    namespace: Option<&Namespace>,
) -> Result<Tried, Problem> {
    let library = &state.dependencies.modules;
    let plan = plan_edits(library, &state.dependencies.coverage, machine, request, namespace).await?;
    let EditPlan { machine, revision, flow, record_bytes, edited } = plan;
    // Others may read, now that the run is no longer in memory.
    turns::drop_in_thread((machine, turn));
    let foreign = foreign_names(&flow, namespace);
    if !foreign.is_empty() {
        return Err(diagnostics_problem(&foreign, ""));
    }
    if request.dry_run {
        return Ok(if request.preview { Tried::Previewed(edited, flow) } else { Tried::Done(edited) });
    }
    state.add_bytes(flow.name.namespace().as_ref(), record_bytes).await?;
    match state.dependencies.engine.command(run, RunCommand::Edit { revision, flow }).await {
        Ok(_) => Ok(Tried::Done(EditResult { applied: true, ..edited })),
        Err(CommandError::Refused { reason }) if request.if_revision.is_some() => Err(conflict(reason)),
        // The run changed in between; the next try decides what follows.
        Err(CommandError::Refused { .. }) => Ok(Tried::Changed),
        Err(error) => Err(error.into()),
    }
}

fn conflict(detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "conflict", "the flow of the run cannot be changed so", detail)
        .hint("`waft show RUN --revisions` shows the run, its revision and its edits")
}

/// A request whose edits were read.
struct EditRequest {
    edits: Vec<Edit>,
    /// The modules that the request names for each of its added texts.
    added: Vec<(Arc<str>, BTreeMap<String, String>)>,
    if_revision: Option<u64>,
    dry_run: bool,
    preview: bool,
}

impl EditRequest {
    fn parse(request: Edits) -> Result<Self, Problem> {
        let Edits { edits: asked, text, if_revision, dry_run, preview } = request;
        if preview && !dry_run {
            return Err(Problem::bad_request("there is a preview only of a dry_run"));
        }
        let (edits, added) = match text {
            Some(text) if asked.is_empty() => (read_text(&text)?, Vec::new()),
            Some(_) => {
                let problem = Problem::bad_request("the request has edits, and a text of edits as well");
                return Err(problem.hint("send one of them"));
            }
            None => {
                check_number(asked.len())?;
                let edits = asked.iter().map(parse_edit).collect::<Result<Vec<Edit>, _>>();
                let edits = edits.map_err(Problem::bad_request)?;
                let added = asked.into_iter().zip(&edits).filter_map(|(asked, edit)| match (asked, edit) {
                    (api::Edit::Add { modules, .. }, Edit::Add { text }) => Some((text.clone(), modules)),
                    _ => None,
                });
                let added = added.collect();
                (edits, added)
            }
        };
        check_number(edits.len())?;
        Ok(Self { edits, added, if_revision, dry_run, preview })
    }

    /// The edits, for people.
    fn shown(&self) -> Vec<String> {
        self.edits.iter().map(ToString::to_string).collect()
    }
}

fn check_number(edits: usize) -> Result<(), Problem> {
    if edits == 0 {
        return Err(Problem::bad_request("there is nothing to change"));
    }
    if edits > MAX_EDITS {
        let detail = format!("these are {edits} edits, and a request has at most {MAX_EDITS}");
        return Err(Problem::bad_request(detail).hint("make them with several requests"));
    }
    Ok(())
}

/// Reads the text of a file of edits. A file that it adds is an error: it is on the sender's machine, if anywhere.
fn read_text(text: &str) -> Result<Vec<Edit>, Problem> {
    let read = flow::file::edits(text).map_err(|diagnostics| edits_problem(&diagnostics, text))?;
    let (mut edits, mut files) = (Vec::new(), Vec::new());
    for edit in read {
        match edit {
            ParsedEdit::Edit(edit) => edits.push(edit),
            ParsedEdit::Add { file, span } => {
                let message = format!("add names the file {file:?}, and the server reads no files");
                let hint = Some("write its content here: add_text = '''…'''".to_owned());
                files.push(Diagnostic { severity: Severity::Error, message, hint, span: Some(span) });
            }
        }
    }
    if files.is_empty() { Ok(edits) } else { Err(edits_problem(&files, text)) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn removals(number: usize) -> Edits {
        let edits = (0..number).map(|number| api::Edit::Remove { task: format!("t{number}") }).collect();
        Edits { edits, dry_run: true, ..Edits::default() }
    }

    #[test]
    fn a_request_has_at_most_so_many_edits() {
        assert_eq!(EditRequest::parse(removals(MAX_EDITS)).ok().unwrap().edits.len(), MAX_EDITS);
        for (number, expected) in
            [(MAX_EDITS + 1, "these are 1001 edits, and a request has at most 1000"), (0, "there is nothing to change")]
        {
            let problem = EditRequest::parse(removals(number)).err().unwrap().into_document();
            assert_eq!((problem.status, problem.detail.as_str()), (400, expected));
        }
        let text = |number: usize| "[[edit]]\nremove = \"t\"\n".repeat(number);
        assert_eq!(EditRequest::parse(Edits::of_text(text(MAX_EDITS))).ok().unwrap().edits.len(), MAX_EDITS);
        let problem = EditRequest::parse(Edits::of_text(text(MAX_EDITS + 1))).err().unwrap().into_document();
        assert!(problem.status == 400 && problem.detail.starts_with("these are 1001 edits"), "{problem:?}");
    }

    #[test]
    fn a_text_of_edits_has_its_errors_at_their_lines() {
        let problem = |edits: Edits| EditRequest::parse(edits).err().unwrap().into_document();
        let refused = problem(Edits::of_text("[[edit]]\nremove = \"a\"\n[[edit]]\nadd = \"more.toml\"\n"));
        assert_eq!((refused.status, refused.kind.as_str()), (422, "urn:waft:problem:invalid-edits"));
        assert!(refused.detail.contains("\"more.toml\", and the server reads no files"), "{refused:?}");
        assert_eq!(refused.diagnostics[0].line, Some(4));
        let refused = problem(Edits::of_text("[[edit]]\nremove = 1\n[[edit]]\nlink = [\"a\"]\n"));
        assert_eq!(refused.detail, "the file of edits has 2 errors");
        let lines: Vec<_> = refused.diagnostics.iter().map(|diagnostic| diagnostic.line).collect();
        assert_eq!(lines, [Some(2), Some(4)]);
        let both = Edits { text: Some("[[edit]]\nremove = \"a\"\n".into()), ..removals(1) };
        assert_eq!(problem(both).status, 400);
        let no_dry_run = Edits { dry_run: false, preview: true, ..removals(1) };
        assert_eq!(problem(no_dry_run).detail, "there is a preview only of a dry_run");
    }
}
