//! Reads what guests wrote during a run.

use api::{self, AttemptLog, LogLine, RunLogs};
use axum::{Json, extract::State};
use flow::RunId;
use logbook::{LoadError, Logbook, Version};
use protocol::CallUsage;

use crate::{extract::Run, problem::Problem, state::Shared};

/// Shows what guests logged and printed during the attempts of a run.
#[utoipa::path(get, operation_id = "run_logs", path = "/v1/runs/{run}/logs", tag = "runs",
    params(("run" = String, Path, description = "The run's id")), responses(
        (status = 200, description = "The attempts with output", body = RunLogs),
        (status = 404, description = "There is no such run", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn logs(State(state): Shared, Run(run): Run) -> Result<Json<RunLogs>, Problem> {
    Ok(Json(read(&*state.dependencies.logbook, &run).await?))
}

/// Reads what guests wrote during a run.
///
/// # Errors
/// [`LoadError`] when there is no such run, or it cannot be read.
pub async fn read(logbook: &dyn Logbook, run: &RunId) -> Result<RunLogs, LoadError> {
    let logs = logbook.logs(run, Version::NONE).await?;
    Ok(RunLogs { logs: logs.into_iter().filter(|log| !log.log.is_silent()).map(attempt).collect() })
}

/// The output of a guest during one attempt, as an API type.
#[must_use]
pub fn attempt(log: protocol::AttemptLog) -> AttemptLog {
    let protocol::AttemptLog { call, at, worker, log } = log;
    let line = |line: protocol::LogLine| LogLine { level: line.level.as_str().into(), text: line.text };
    AttemptLog {
        task: call.task.to_string(),
        attempt: call.attempt.get(),
        firing: call.firing.get(),
        call: call.action.into(),
        worker: worker.map(|worker| worker.to_string()),
        at: protocol::events::rfc3339(at),
        lines: log.lines.into_iter().map(line).collect(),
        cut: log.cut,
        usage: log.usage.as_ref().map(usage),
    }
}

/// What an attempt used, as an API type.
#[must_use]
pub fn usage(usage: &CallUsage) -> api::Usage {
    api::Usage {
        wall_seconds: usage.wall.as_secs_f64(),
        cpu_seconds: usage.cpu.as_secs_f64(),
        memory_bytes: usage.memory,
        input_bytes: usage.input_bytes,
        output_bytes: usage.output_bytes,
        http_requests: usage.http_requests,
        http_request_bytes: usage.http_request_bytes,
        http_response_bytes: usage.http_response_bytes,
    }
}
