//! Reads what guests wrote during a run, page by page.

use std::sync::Arc;

use api::{self, AttemptLog, LogLine, LogsQuery, RunLogs};
use axum::{
    Extension,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use flow::{NodeName, RunId};
use logbook::{LoadError, LogPage, LogPosition, LogRange, Logbook};
use protocol::{CallUsage, log_size};
use tokio::task::spawn_blocking;

use crate::{
    auth::{namespace::CallerNamespace, permission::Permission},
    extract::{Query, Run},
    problem::Problem,
    state::Shared,
    turns,
};

/// The bytes of logs with which a page ends. The last log may have 64 KiB more.
const MAX_BYTES: usize = 2 << 20;

/// The maximum number of attempts on a page, and of stored logs that are looked at together.
const MAX_ATTEMPTS: usize = 1_000;

/// The minimum number of stored logs that are looked at together: some have no lines, or are of other tasks.
const MIN_LOOKED_AT: usize = 100;

/// How many times the bytes of its logs an answer takes while it is made. An empty line counts 16 bytes, and takes four strings and 30
/// bytes of JSON; a byte that is no printable character takes six in JSON.
const MEMORY_FACTOR: usize = 12;

/// The bytes that an attempt counts besides its lines.
const ATTEMPT_OVERHEAD: usize = 256;

/// Shows what guests logged and printed during the attempts of a run.
///
/// The attempt that ended first comes first. A page ends with about 2 MiB of lines or 1,000 attempts, and `next` is the cursor for the
/// next one.
#[utoipa::path(get, operation_id = "run_logs", path = "/v1/runs/{run}/logs", tag = "runs",
    params(("run" = String, Path, description = "The run's id"), LogsQuery), responses(
        (status = 200, description = "A page of the attempts with output", body = RunLogs),
        (status = 400, description = "The query cannot be read", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "There is no such run", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "The server sends as many large answers as it has memory for", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn logs(
    State(state): Shared,
    Extension(permission): Extension<Arc<Permission>>,
    Extension(CallerNamespace(namespace)): Extension<CallerNamespace>,
    Run(run): Run,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Problem> {
    let wanted = Wanted::parse(query)?;
    let turn = turns::for_page(namespace).await;
    let page = Page::find(&*state.dependencies.logbook, &run, wanted).await?;
    let memory = state.large_answers.take(permission.sender(), MEMORY_FACTOR * page.bytes)?;
    drop(turn);
    let encode = move || serde_json::to_vec(&page.shown()).expect("strings and numbers are JSON");
    let bytes = spawn_blocking(encode).await.expect("encoding does not panic");
    let headers =
        [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_LENGTH, bytes.len().to_string())];
    Ok((headers, memory.body(bytes.into())).into_response())
}

/// Reads a page of what guests wrote during a run.
///
/// # Errors
/// [`Problem`] when the query cannot be read, there is no such run, or it cannot be read.
pub async fn read(logbook: &dyn Logbook, run: &RunId, query: LogsQuery) -> Result<RunLogs, Problem> {
    Ok(Page::find(logbook, run, Wanted::parse(query)?).await?.shown())
}

/// A query that was read.
struct Wanted {
    task: Option<NodeName>,
    from: LogPosition,
    limit: usize,
}

impl Wanted {
    fn parse(LogsQuery { task, after, limit }: LogsQuery) -> Result<Self, Problem> {
        let task = task.map(NodeName::new).transpose();
        let task = task.map_err(|error| Problem::bad_request(format!("task: {error}")))?;
        let limit = limit.unwrap_or(MAX_ATTEMPTS);
        if !(1..=MAX_ATTEMPTS).contains(&limit) {
            return Err(Problem::bad_request(format!("limit: {limit} is not from 1 to {MAX_ATTEMPTS}")));
        }
        let from = match after {
            None => LogPosition::START,
            Some(cursor) => cursor.parse().map_err(|_| {
                Problem::bad_request(format!("after: {cursor:?} is not what a page gave as next"))
                    .hint("leave it out for the first page")
            })?,
        };
        Ok(Self { task, from, limit })
    }
}

/// A page of logs with lines.
struct Page {
    logs: Vec<protocol::AttemptLog>,
    /// The bytes that they count.
    bytes: usize,
    next: Option<LogPosition>,
}

impl Page {
    async fn find(logbook: &dyn Logbook, run: &RunId, wanted: Wanted) -> Result<Self, LoadError> {
        let Wanted { task, mut from, limit } = wanted;
        let (mut logs, mut bytes) = (Vec::new(), 0);
        loop {
            // A page of the logbook may have no log with lines, and this one then goes on with its next.
            let looked_at = (limit - logs.len()).max(MIN_LOOKED_AT);
            let range = LogRange { task: task.clone(), from, limit: looked_at, max_bytes: MAX_BYTES - bytes };
            let LogPage { logs: found, next } = logbook.logs(run, &range).await?;
            for (position, log) in found {
                if log.log.is_silent() {
                    continue;
                }
                if logs.len() == limit || bytes >= MAX_BYTES {
                    return Ok(Self { logs, bytes, next: Some(position) });
                }
                bytes += size(&log);
                logs.push(log);
            }
            match next {
                Some(next) if bytes < MAX_BYTES && logs.len() < limit => from = next,
                next => return Ok(Self { logs, bytes, next }),
            }
        }
    }

    fn shown(self) -> RunLogs {
        RunLogs {
            logs: self.logs.into_iter().map(attempt).collect(),
            next: self.next.map(|position| position.to_string()),
        }
    }
}

/// The bytes that an attempt counts: those of its text, and some for each line and for itself.
fn size(log: &protocol::AttemptLog) -> usize {
    ATTEMPT_OVERHEAD + log.log.lines.iter().map(|line| log_size(&line.text)).sum::<usize>()
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

#[cfg(test)]
mod tests {
    use flow::{Action, Attempt, CallId, Firing, RunState, Timestamp};
    use logbook::{Append, MaxUnended, Memory, RunInfo, Version};
    use machine::{Fact, Record};
    use protocol::CallLog;

    use super::*;

    fn run() -> RunId {
        "r".parse().unwrap()
    }

    /// The log of an attempt with a line of so many bytes; without a line if there are none.
    fn log(task: &str, attempt: u32, bytes: usize) -> protocol::AttemptLog {
        let (firing, action) = (Firing::FIRST, Action::Apply);
        let call = CallId { run: run(), task: task.parse().unwrap(), firing, attempt: Attempt::new(attempt), action };
        // With the HTTP record, it is stored among the logs.
        let mut log = CallLog { http: Some(protocol::HttpRecord::Inline(vec![1])), ..CallLog::default() };
        if bytes > 0 {
            log.push("stdout", "a".repeat(bytes));
        }
        protocol::AttemptLog { call, at: Timestamp::from_micros(1), worker: None, log }
    }

    async fn logbook(logs: Vec<protocol::AttemptLog>) -> Memory {
        let logbook = Memory::new();
        let append = Append {
            run: run(),
            follows: Version::NONE,
            records: vec![Record { at: Timestamp::from_micros(1), firing: None, fact: Fact::Resumed }],
            info: RunInfo { shard: "s".parse().unwrap(), flow: "f".parse().unwrap(), state: RunState::Running },
            logs,
            published: Version::NONE,
            max_unended: MaxUnended::default(),
            memos: logbook::MemoChanges::default(),
        };
        logbook.append(vec![append]).await.unwrap();
        logbook
    }

    /// All pages, each as the attempts on it.
    async fn pages(logbook: &Memory, mut query: LogsQuery) -> Vec<Vec<u32>> {
        let mut pages = Vec::new();
        loop {
            let RunLogs { logs, next } = read(logbook, &run(), query.clone()).await.unwrap();
            pages.push(logs.iter().map(|log| log.attempt).collect());
            match next {
                Some(next) => query.after = Some(next),
                None => return pages,
            }
        }
    }

    #[tokio::test]
    async fn the_logs_of_a_large_run_are_on_pages() {
        const LOGS: u32 = 100;
        let logbook = logbook((1..=LOGS).map(|attempt| log("x", attempt, 60 << 10)).collect()).await;
        let pages = pages(&logbook, LogsQuery::default()).await;
        assert_eq!(pages.concat(), (1..=LOGS).collect::<Vec<_>>());
        let most = MAX_BYTES / (60 << 10) + 1;
        assert!(pages.len() > 1 && pages.iter().all(|page| page.len() <= most), "{pages:?}");
    }

    #[tokio::test]
    async fn empty_lines_count() {
        let mut silent = log("x", 1, 0);
        (0..4_096).for_each(|_| silent.log.push("stdout", ""));
        let logs = (1..=100).map(|attempt| {
            let mut log = silent.clone();
            log.call.attempt = Attempt::new(attempt);
            log
        });
        let pages = pages(&logbook(logs.collect()).await, LogsQuery::default()).await;
        assert!(pages[0].len() <= 1 + MAX_BYTES / (64 << 10), "{pages:?}");
        assert_eq!(pages.concat().len(), 100);
    }

    #[tokio::test]
    async fn a_page_has_attempts_with_lines_of_the_task() {
        let silent = (1..=300).map(|attempt| log("x", attempt, 0));
        let names = [("x", 301), ("y", 302), ("x[0]", 303), ("xy", 304), ("x", 305)];
        let written = names.map(|(task, attempt)| log(task, attempt, 9));
        let logbook = logbook(silent.chain(written).collect()).await;
        let all = || LogsQuery::default();
        assert_eq!(pages(&logbook, all()).await, [[301, 302, 303, 304, 305]], "a small run has one page");
        assert_eq!(pages(&logbook, all().limit(2)).await, [vec![301, 302], vec![303, 304], vec![305]]);
        assert_eq!(pages(&logbook, all().task("x").limit(2)).await, [vec![301, 303], vec![305]]);
        assert_eq!(pages(&logbook, all().task("x[0]")).await, [[303]]);
        assert_eq!(pages(&logbook, all().task("z")).await, [[0_u32; 0]]);
    }

    #[tokio::test]
    async fn a_query_that_cannot_be_read_is_refused() {
        let logbook = logbook(Vec::new()).await;
        for (query, says) in [
            (LogsQuery::default().task("a b"), "task: "),
            (LogsQuery::default().limit(0), "limit: 0 is not from 1 to 1000"),
            (LogsQuery::default().limit(1_001), "limit: 1001 is not from 1 to 1000"),
            (LogsQuery::default().after("1"), "after: \"1\" is not what a page gave as next"),
        ] {
            let problem = read(&logbook, &run(), query).await.unwrap_err().into_document();
            assert!(problem.status == 400 && problem.detail.starts_with(says), "{problem:?}");
        }
    }
}
