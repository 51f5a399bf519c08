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

use super::{
    history::load_machine,
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

/// The bytes of a schedule in an answer beside the texts that its author chooses: names of keys, times, and reasons.
const BYTES_AROUND: usize = 600;

/// Number of pages that are made at the same time: each reads up to a hundred runs. An owner has at most all but one. Those that wait are not counted: each has a connection, and a sender has a share of
/// those.
const MAX_PAGES_AT_ONCE: usize = 4;

static PAGES: LazyLock<Permits> = LazyLock::new(|| Permits::new(MAX_PAGES_AT_ONCE, usize::MAX));

/// Lists the schedules of runs that have not ended, those of the youngest run first.
///
/// A page looks into some runs, which may have no schedules.
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
    let answer = read(&state.dependencies.logbook, found).await?;
    let encode = move || serde_json::to_vec(&answer).expect("strings are JSON");
    let json = turns::in_turn_to_answer(caller.0.clone(), encode).await;
    // A slow reader leaves it in memory.
    state.large_answers.json(permission.sender(), json)
}

/// Reads the runs of a page, until their schedules are many bytes: then another page begins behind the last one that was read.
async fn read(logbook: &Arc<dyn Logbook>, (runs, next): (Vec<Summary>, Option<String>)) -> Result<Schedules, Problem> {
    let mut answer = Schedules { schedules: Vec::new(), unreadable: Vec::new(), next };
    let (mut runs, mut bytes) = (runs.into_iter(), 0);
    while let Some(summary) = runs.next() {
        match load_machine(logbook, &summary.run).await {
            Ok((machine, _turn)) => {
                let schedules = of_run(&machine).inspect(|schedule| bytes += size(schedule));
                answer.schedules.extend(schedules);
            }
            // It was deleted meanwhile.
            Err(LoadError::Missing { .. }) => {}
            Err(LoadError::Damaged { .. }) => answer.unreadable.push(summary.run.to_string()),
            Err(error @ LoadError::Unavailable { .. }) => return Err(error.into()),
        }
        if bytes >= MAX_BYTES && runs.len() > 0 {
            answer.next = Some(cursor(&summary));
            break;
        }
    }
    Ok(answer)
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
