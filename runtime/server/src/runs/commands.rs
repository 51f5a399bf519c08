//! The run commands that a person can send.

use api::{self, Notification, RunStateResponse, SkipRollback};
use axum::{Extension, Json, extract::State, http::StatusCode};
use engine::CommandError;
use flow::{Failure, FailureKind, NodeName, RunId, Values};
use protocol::RunCommand;

use super::{history::load_run, submit::parse_values};
use crate::{auth::client::Client, extract, problem::Problem, state, turns};

/// The maximum length of the key of a notification, in bytes. The run remembers the keys of its last notifications.
const MAX_KEY_BYTES: usize = 512;

/// The maximum length of a reason, in bytes: as much as the message of a failure has.
const MAX_REASON_BYTES: usize = flow::MAX_MESSAGE_BYTES;

/// Refuses a text that would make the records of a run large.
fn check_length(name: &str, text: &str, max: usize) -> Result<(), Problem> {
    if text.len() <= max {
        return Ok(());
    }
    let detail = format!("{name}: it has {} bytes, and at most {max} are allowed", text.len());
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too-large", "a text of the request is too long", detail)
        .hint("give a shorter one: the records of the run contain it"))
}

type CommandResponse = Result<Json<RunStateResponse>, Problem>;

async fn send_command(state: &state::State, run: RunId, command: RunCommand) -> CommandResponse {
    let state = state.dependencies.engine.command(&run, command).await?;
    Ok(Json(RunStateResponse { run: run.to_string(), state: state.into(), cancelling: false }))
}

/// Stops a run and rolls it back.
#[utoipa::path(post, operation_id = "cancel_run", path = "/v1/runs/{run}/cancel", tag = "runs",
    params(("run" = String, Path, description = "The run's id")), responses(
        (status = 200, description = "The command was recorded", body = RunStateResponse),
        (status = 409, description = "The run has ended", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn cancel(State(state): state::Shared, extract::Run(run): extract::Run) -> CommandResponse {
    let new = state.dependencies.engine.command(&run, RunCommand::Cancel).await?;
    Ok(Json(RunStateResponse { run: run.to_string(), state: new.into(), cancelling: !new.is_final() }))
}

/// Suspends a run: it starts nothing new, and running calls may finish.
#[utoipa::path(post, operation_id = "suspend_run", path = "/v1/runs/{run}/suspend", tag = "runs",
    params(("run" = String, Path, description = "The run's id")), responses(
        (status = 200, description = "The command was recorded", body = RunStateResponse),
        (status = 409, description = "The run is not in progress", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn suspend(State(state): state::Shared, extract::Run(run): extract::Run) -> CommandResponse {
    send_command(&state, run, RunCommand::Suspend).await
}

/// Resumes a suspended run.
#[utoipa::path(post, operation_id = "resume_run", path = "/v1/runs/{run}/resume", tag = "runs",
    params(("run" = String, Path, description = "The run's id")), responses(
        (status = 200, description = "The command was recorded", body = RunStateResponse),
        (status = 409, description = "The run is not suspended", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn resume(State(state): state::Shared, extract::Run(run): extract::Run) -> CommandResponse {
    send_command(&state, run, RunCommand::Resume).await
}

/// Retries rollbacks that failed permanently, or restarts a run that was rolled back.
#[utoipa::path(post, operation_id = "retry_run", path = "/v1/runs/{run}/retry", tag = "runs",
    params(("run" = String, Path, description = "The run's id")), responses(
        (status = 200, description = "The command was recorded", body = RunStateResponse),
        (status = 409, description = "The run has not failed", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn retry(State(state): state::Shared, extract::Run(run): extract::Run) -> CommandResponse {
    send_command(&state, run, RunCommand::Retry).await
}

/// Marks the permanently failed rollback of a task as done, after a person has settled it.
#[utoipa::path(post, operation_id = "skip_task", path = "/v1/runs/{run}/skip", tag = "runs", request_body = SkipRollback,
    params(("run" = String, Path, description = "The run's id")), responses(
        (status = 200, description = "The command was recorded", body = RunStateResponse),
        (status = 404, description = "There is no such run, or no such task in it", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 409, description = "No rollback of this task has failed", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "The reason is longer than 16 KiB", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn skip(
    State(state): state::Shared,
    extract::Run(run): extract::Run,
    Extension(client): Extension<Client>,
    extract::Json(skip): extract::Json<SkipRollback>,
) -> CommandResponse {
    let task = NodeName::new(&skip.task).map_err(|error| Problem::bad_request(format!("task: {error}")))?;
    check_length("reason", &skip.reason, MAX_REASON_BYTES)?;
    // The engine reports only that there is nothing to skip.
    let loaded = client.while_present(load_run(&state.dependencies.logbook, &run)).await?;
    let sought = task.clone();
    let unknown = loaded.answer(move |machine| machine.flow().unknown_task(&sought)).await;
    if let Some(unknown) = unknown {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no-such-task", "there is no such task", unknown.to_string())
            .hint(unknown.hint()));
    }
    let reason = skip.reason.trim();
    if reason.is_empty() {
        return Err(Problem::bad_request("the reason is empty")
            .hint("describe how the rollback was settled: it is stored in the run's history"));
    }
    send_command(&state, run, RunCommand::Skip { task, reason: reason.into() }).await
}

/// Notifies a task: a waiting task succeeds with the values, or fails; a task of a persistent flow fires with them.
#[utoipa::path(post, operation_id = "notify_task", path = "/v1/runs/{run}/notify", tag = "runs", request_body = Notification,
    params(("run" = String, Path, description = "The run's id")), responses(
        (status = 200, description = "The command was recorded", body = RunStateResponse),
        (status = 409, description = "The task does not wait and cannot fire, or not with these values; or the namespace has no space left", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "The key is longer than 512 bytes, or the failure than 16 KiB", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn notify(
    State(state): state::Shared,
    extract::Run(run): extract::Run,
    extract::Json(notification): extract::Json<Notification>,
) -> CommandResponse {
    let Notification { task, values, failure, key } = notification;
    let task = NodeName::new(&task).map_err(|error| Problem::bad_request(format!("task: {error}")))?;
    key.iter().try_for_each(|key| check_length("key", key, MAX_KEY_BYTES))?;
    failure.iter().try_for_each(|failure| check_length("failure", failure, MAX_REASON_BYTES))?;
    let mut values = turns::in_turn_if_large(values.size(), move || parse_values("values", &values)).await?;
    let answer = match failure {
        Some(_) if !values.is_empty() => {
            return Err(Problem::bad_request("a notification contains either values or a failure"));
        }
        Some(message) => flow::TaskResult::Failed(Failure::new(FailureKind::Permanent, message)),
        None => {
            let summary = state.dependencies.logbook.summary(&run).await?;
            values = check_values(&state, &run, &task, key.as_deref(), values).await?;
            let bytes: usize = values.values().map(flow::Value::size).sum();
            state.add_bytes(summary.info.flow.namespace().as_ref(), bytes).await?;
            let put = store::values::put_large(&*state.dependencies.modules.store, &mut values).await;
            put.map_err(|error| Problem::internal(&error))?;
            flow::TaskResult::Succeeded(values)
        }
    };
    send_command(&state, run, RunCommand::Notify { task, answer, key }).await
}

/// Compares the values of a notification with the parameters that they reach, before the engine does. The engine does it while its runs
/// wait, so it compares only what is small. Returns the values.
async fn check_values(
    state: &state::State,
    run: &RunId,
    task: &NodeName,
    key: Option<&str>,
    values: Values,
) -> Result<Values, Problem> {
    let Some(flow) = state.dependencies.engine.notified_flow(run, task, key).await else { return Ok(values) };
    if flow.notification_inputs.is_empty() {
        return Ok(values);
    }
    let (owner, task) = (flow.name.namespace(), task.clone());
    let checked = turns::in_turn(owner, move || match flow.notification_mismatch(&task, &values) {
        Some(reason) => Err(reason),
        None => Ok(values),
    });
    checked.await.map_err(|reason| CommandError::Refused { reason }.into())
}
