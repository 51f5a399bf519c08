//! `waft schedules`: lists the schedules of runs on a server.

use api::{Schedule, ScheduleBacklog, Schedules, SchedulesQuery, SkippedTriggers};

use super::remote;
use crate::{
    arguments::SchedulesFlags,
    exit::{CliError, Exit},
    output, sanitize,
    settings::Settings,
};

/// The number of runs that a request looks into.
const PAGE: usize = 100;

pub(super) async fn run(settings: &Settings, flags: SchedulesFlags) -> Result<Exit, CliError> {
    let SchedulesFlags { flow, namespace, limit, json } = flags;
    let client = remote::client(settings)?;
    let mut query = SchedulesQuery { flow, namespace, limit: Some(PAGE), after: None };
    let (mut left, mut is_first) = (limit, true);
    while left > 0 {
        let Schedules { schedules, unreadable, next } = client.schedules(&query).await.map_err(remote::cli_error)?;
        for schedule in schedules.iter().take(left) {
            if json {
                output::json(serde_json::to_string(schedule).map_err(CliError::unreachable)?);
                continue;
            }
            if std::mem::take(&mut is_first) {
                crate::output::say!("{:19}  {:19}  {:8}  FLOW, TASK, RUN AND TIMES", "NEXT", "BACKLOG FROM", "MISSED");
            }
            output::line(sanitize::one_line(&line(schedule)).trim_end());
        }
        for run in unreadable {
            crate::output::note!("the run {} cannot be read now, or its records are corrupt", sanitize::one_line(&run));
        }
        left = left.saturating_sub(schedules.len());
        let Some(next) = next else { break };
        query.after = Some(next);
    }
    if is_first && !json && limit > 0 {
        crate::output::note!("no run that has not ended has a schedule");
    }
    Ok(Exit::Success)
}

/// The line of a schedule in the table.
fn line(schedule: &Schedule) -> String {
    let Schedule { run, flow, state, task, cron, zone, next, backlog, skipped } = schedule;
    let second = |at: &String| at.chars().take(19).collect::<String>();
    let next = next.as_ref().map_or_else(|| "-".to_owned(), second);
    let backlog = backlog.as_ref().map_or_else(|| "-".to_owned(), |ScheduleBacklog { next, .. }| second(next));
    let missed = |skipped: &&SkippedTriggers| skipped.reason == api::SkipReason::Missed;
    // There is at most one count for each reason.
    let missed = skipped.iter().find(missed).map_or_else(
        || "0".to_owned(),
        |skipped| match skipped.is_lower_bound() {
            true => format!("{}+", skipped.count),
            false => skipped.count.to_string(),
        },
    );
    let suspended = if *state == api::RunState::Suspended { ", suspended" } else { "" };
    format!("{next:19}  {backlog:19}  {missed:<8}  {flow} {task} {run}: {cron} ({zone}){suspended}")
}
