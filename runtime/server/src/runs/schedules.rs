//! Lists the schedules of runs that have not ended, page by page.
//!
//! A logbook does not know which runs have schedules, so a page looks into some runs, and may find none. Each run is read alone, so a
//! page needs the memory of one run.

use std::sync::{Arc, LazyLock};

use api::{self, RunFilter, Schedule, ScheduleBacklog, Schedules, SchedulesQuery, SkippedTriggers};
use axum::{Extension, extract::State, response::Response};
use flow::{RunState, Timestamp};
use logbook::{Filter, LoadError, Logbook, Summary};
use machine::{Backlog, Machine, ScheduleStatus};
use protocol::events::rfc3339;
use sandbox::Permits;
use tokio::time::{Duration, Instant, timeout_at};

use super::{
    history::load_run,
    list::{cursor, page, parse_cursor, parse_filter},
};
use crate::{
    auth::{namespace::CallerNamespace, permission::Permission},
    extract::Query,
    problem::Problem,
    state::Shared,
    turns,
};

/// The maximum number of runs of a page: each has to be read.
const MAX_RUNS: usize = 100;

/// The default number of runs of a page.
const DEFAULT_RUNS: usize = 50;

/// The bytes of schedules after which a page ends: a run may have hundreds, each with a line of a thousand bytes.
const MAX_BYTES: usize = 1 << 20;

/// The time after which a page ends. Some runs take seconds, and wait for their turn.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The bytes of a schedule in an answer beside the texts that its author chooses: names of keys, times, and reasons.
const BYTES_AROUND: usize = 600;

/// Number of pages that are made at the same time: each reads up to a hundred runs. An owner has at most all but one. Those that wait are
/// not counted: each has a connection, and a sender has a share of those.
const MAX_PAGES_AT_ONCE: usize = 4;

static PAGES: LazyLock<Permits> = LazyLock::new(|| Permits::new(MAX_PAGES_AT_ONCE, usize::MAX));

/// Lists the schedules of runs that have not ended, those of the youngest run first.
///
/// A page looks into some runs, which may have no schedules. It ends after some seconds, or a megabyte.
#[utoipa::path(get, operation_id = "list_schedules", path = "/v1/schedules", tag = "runs", params(SchedulesQuery), responses(
    (status = 200, description = "A page of schedules", body = Schedules),
    (status = 400, description = "The filter cannot be read", body = api::Problem,
        content_type = "application/problem+json"),
    (status = 503, description = "The server sends as many large answers as it has memory for", body = api::Problem,
        content_type = "application/problem+json"),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(state): Shared,
    Extension(caller): Extension<CallerNamespace>,
    Extension(permission): Extension<Arc<Permission>>,
    Query(mut query): Query<SchedulesQuery>,
) -> Result<Response, Problem> {
    caller.limit(&mut query.namespace)?;
    let SchedulesQuery { flow, namespace, limit, after } = query;
    let limit = limit.unwrap_or(DEFAULT_RUNS);
    if !(1..=MAX_RUNS).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: {limit} is not from 1 to {MAX_RUNS}")));
    }
    let after = after.map(|cursor| parse_cursor(&cursor)).transpose()?;
    let states = RunState::ALL.into_iter().filter(|state| !state.is_final()).collect();
    let filter = parse_filter(RunFilter { flow, namespace, ..RunFilter::default() })?;
    let filter = Filter { states, limit, after, ..filter };
    let _page = PAGES.acquire(caller.0.clone()).await.expect("any number of pages may wait");
    let turn = turns::for_page(caller.0.clone()).await;
    let found = page(&*state.dependencies.logbook, &filter).await?;
    // Long histories have turns of their own.
    drop(turn);
    let answer = read(&state.dependencies.logbook, found).await;
    let encode = move || serde_json::to_vec(&answer).expect("strings are JSON");
    let json = turns::in_turn_to_answer(caller.0.clone(), encode).await;
    // A slow reader leaves it in memory.
    state.large_answers.json(permission.sender(), json)
}

/// Reads the runs of a page.
async fn read(logbook: &Arc<dyn Logbook>, (runs, next): (Vec<Summary>, Option<String>)) -> Schedules {
    let reads = runs.into_iter().map(|summary| {
        let (logbook, run) = (logbook.clone(), summary.run.clone());
        let schedules = |machine: &Machine| of_run(machine).collect::<Vec<_>>();
        (summary, async move { Ok::<_, LoadError>(load_run(&logbook, &run).await?.answer(schedules).await) })
    });
    collect(reads, next).await
}

/// Collects the schedules of runs, until they are many bytes, or it has taken long: then another page begins behind the last run that was
/// read. A run that alone takes too long is left out, so that there is always a next page.
async fn collect<Reading>(
    mut reads: impl ExactSizeIterator<Item = (Summary, Reading)>,
    next: Option<String>,
) -> Schedules
where
    Reading: Future<Output = Result<Vec<Schedule>, LoadError>>,
{
    let deadline = Instant::now() + TIME_LIMIT;
    let mut answer = Schedules { schedules: Vec::new(), unreadable: Vec::new(), next };
    let (mut last, mut bytes) = (None::<Summary>, 0);
    while let Some((summary, reading)) = reads.next() {
        match timeout_at(deadline, reading).await {
            Ok(Ok(schedules)) => {
                bytes += schedules.iter().map(size).sum::<usize>();
                answer.schedules.extend(schedules);
            }
            // It was deleted meanwhile.
            Ok(Err(LoadError::Missing { .. })) => {}
            // One run that cannot be read now does not hide the others.
            Ok(Err(LoadError::Damaged { .. } | LoadError::Unavailable { .. })) => {
                answer.unreadable.push(summary.run.to_string());
            }
            Err(_) => match &last {
                // It has all the time of the next page.
                Some(last) => {
                    answer.next = Some(cursor(last));
                    break;
                }
                None => answer.unreadable.push(summary.run.to_string()),
            },
        }
        if (bytes >= MAX_BYTES || Instant::now() >= deadline) && reads.len() > 0 {
            answer.next = Some(cursor(&summary));
            break;
        }
        last = Some(summary);
    }
    answer
}

/// The bytes that a schedule has in an answer, about.
fn size(Schedule { run, flow, task, cron, .. }: &Schedule) -> usize {
    BYTES_AROUND + run.len() + flow.len() + task.len() + cron.len()
}

/// The schedules of a run.
fn of_run(machine: &Machine) -> impl Iterator<Item = Schedule> {
    machine.schedules().map(|ScheduleStatus { schedule, next, backlog }| {
        let task = &machine.flow().node(schedule.to).name;
        let skips = machine.skips().filter(|(skipped, _, _)| *skipped == schedule.to);
        let skipped = skips.map(|(_, reason, skips)| SkippedTriggers {
            task: task.to_string(),
            reason: reason.into(),
            count: skips.count,
            last_at: rfc3339(skips.last_at),
        });
        Schedule {
            run: machine.run().to_string(),
            flow: machine.flow().name.to_string(),
            state: machine.state().into(),
            task: task.to_string(),
            cron: schedule.cron.line().to_owned(),
            zone: schedule.cron.zone().to_owned(),
            next: next.map(rfc3339),
            backlog: backlog.map(shown_backlog),
            skipped: skipped.collect(),
        }
    })
}

/// A backlog whose end lies behind all times has no end.
fn shown_backlog(Backlog { next, until }: Backlog) -> ScheduleBacklog {
    let until = (until < Timestamp::from_micros(u64::MAX)).then(|| rfc3339(until));
    ScheduleBacklog { next: rfc3339(next), until }
}

#[cfg(test)]
mod tests;
