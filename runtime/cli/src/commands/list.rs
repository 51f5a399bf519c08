//! `waft list`: the runs that a server knows.

use std::time::Duration;

use client::api::{ListQuery, Summary};
use engine::{Clock, SystemClock};
use flow::{RunState, Timestamp};

use super::remote;
use crate::{
    arguments::ListFlags,
    exit::{Exit, Failed},
    out,
    settings::Settings,
};

/// The most runs that are asked for at once.
const PAGE: usize = 1_000;

pub(super) async fn run(settings: &Settings, flags: ListFlags) -> Result<Exit, Failed> {
    let ListFlags { flow, state, since, limit, json } = flags;
    let client = remote::client(settings)?;
    let state = (!state.is_empty()).then(|| state.join(","));
    let mut query = ListQuery { flow, state, since: since.map(|since| time(&since)), ..ListQuery::default() };
    let is_filtered = query.flow.is_some() || query.state.is_some() || query.since.is_some();
    let mut left = limit;
    let mut runs: Vec<Summary> = Vec::new();
    while left > 0 {
        query.limit = Some(left.min(PAGE));
        let page = client.list(&query).await.map_err(remote::failed)?;
        left = left.saturating_sub(page.runs.len());
        runs.extend(page.runs);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    if json {
        for run in &runs {
            out::json(serde_json::to_string(run).map_err(Failed::unreachable)?);
        }
    } else if runs.is_empty() {
        out::diagnostic(if is_filtered {
            "no run fits; `waft list` without filters shows all"
        } else {
            "there are no runs yet; `waft submit FLOW` starts one"
        });
    } else {
        print_table(&runs);
        if query.after.is_some() {
            crate::out::note!("there are more; --limit shows them");
        }
    }
    Ok(Exit::Success)
}

/// A duration is that long ago; what is none is for the server to read.
fn time(text: &str) -> String {
    match flow::parse_duration(text) {
        Ok(ago) => protocol::json::rfc3339(before(ago)),
        Err(_) => text.to_owned(),
    }
}

/// This long ago.
pub(super) fn before(ago: Duration) -> Timestamp {
    let now = SystemClock.now().as_micros();
    Timestamp::from_micros(now.saturating_sub(u64::try_from(ago.as_micros()).unwrap_or(u64::MAX)))
}

fn print_table(runs: &[Summary]) {
    let width = |field: fn(&Summary) -> &str| runs.iter().map(|run| field(run).len()).max().unwrap_or(0);
    let (id, flow) = (width(|run| &run.run).max(3), width(|run| &run.flow).max(4));
    out::line(&format!("{:id$}  {:flow$}  {:11}  {:20}  LASTED", "RUN", "FLOW", "STATE", "STARTED"));
    let now = protocol::json::rfc3339(SystemClock.now());
    for run in runs {
        let lasted = lasted(run, &now).map(|lasted| format!("{:.1}s", lasted.as_secs_f64()));
        let Summary { run, flow: name, state, started_at, .. } = run;
        let started = short(started_at);
        out::line(&format!("{run:id$}  {name:flow$}  {state:11}  {started:20}  {}", lasted.unwrap_or_default()));
    }
}

/// How long a run has lasted: one that has not ended lasts until now, however long ago something happened in it.
fn lasted(run: &Summary, now: &str) -> Option<Duration> {
    let has_ended = RunState::ALL.into_iter().any(|known| known.is_final() && known.as_str() == run.state);
    remote::between(&run.started_at, if has_ended { &run.changed_at } else { now })
}

/// A time to the second.
pub(super) fn short(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_has_not_ended_lasts_until_now() {
        let run = |state: &str| Summary {
            run: "r".into(),
            flow: "f".into(),
            state: state.into(),
            started_at: "2026-01-31T08:00:00Z".into(),
            changed_at: "2026-01-31T08:00:01Z".into(),
        };
        let seconds = |state| lasted(&run(state), "2026-01-31T09:00:00Z").map(|lasted| lasted.as_secs());
        for state in ["running", "suspending", "suspended"] {
            assert_eq!(seconds(state), Some(3_600), "{state}");
        }
        for state in ["success", "failure", "rolled-back"] {
            assert_eq!(seconds(state), Some(1), "{state}");
        }
    }
}
