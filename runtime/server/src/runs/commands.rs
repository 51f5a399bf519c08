//! The run commands that a person can send.

use api::{self, Notification, RunStateResponse, SkipRollback};
use axum::{Extension, Json, extract::State, http::StatusCode};
use flow::{Failure, FailureKind, NodeName, RunId};
use protocol::RunCommand;

use super::{history::load_machine, submit::parse_values};
use crate::{auth::client::Client, extract, problem::Problem, state};

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
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn skip(
    State(state): state::Shared,
    extract::Run(run): extract::Run,
    Extension(client): Extension<Client>,
    extract::Json(skip): extract::Json<SkipRollback>,
) -> CommandResponse {
    let task = NodeName::new(&skip.task).map_err(|error| Problem::bad_request(format!("task: {error}")))?;
    // The engine reports only that there is nothing to skip.
    let (machine, turn) = client.while_present(load_machine(&state.dependencies.logbook, &run)).await?;
    let unknown = machine.flow().unknown_task(&task);
    // Others may read, now that the run is no longer in memory.
    drop((machine, turn));
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
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn notify(
    State(state): state::Shared,
    extract::Run(run): extract::Run,
    extract::Json(notification): extract::Json<Notification>,
) -> CommandResponse {
    let Notification { task, values, failure, key } = notification;
    let task = NodeName::new(&task).map_err(|error| Problem::bad_request(format!("task: {error}")))?;
    let mut values = parse_values("values", &values)?;
    let answer = match failure {
        Some(_) if !values.is_empty() => {
            return Err(Problem::bad_request("a notification contains either values or a failure"));
        }
        Some(message) => flow::TaskResult::Failed(Failure::new(FailureKind::Permanent, message)),
        None => {
            let summary = state.dependencies.logbook.summary(&run).await?;
            let bytes: usize = values.values().map(flow::Value::size).sum();
            state.add_bytes(summary.info.flow.namespace().as_ref(), bytes).await?;
            let put = store::values::put_large(&*state.dependencies.modules.store, &mut values).await;
            put.map_err(|error| Problem::internal(&error))?;
            flow::TaskResult::Succeeded(values)
        }
    };
    send_command(&state, run, RunCommand::Notify { task, answer, key }).await
}
