//! `waft list`: the runs that a server knows.

use std::time::Duration;

use client::api::{ListQuery, Summary};
use engine::{Clock, SystemClock};
use flow::Timestamp;

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
        crate::out::note!("there is no such run; `waft submit FLOW` starts one");
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
    for run in runs {
        let Summary { run, flow: name, state, started_at, changed_at } = run;
        let lasted = remote::between(started_at, changed_at).map(|lasted| format!("{:.1}s", lasted.as_secs_f64()));
        let started = short(started_at);
        out::line(&format!("{run:id$}  {name:flow$}  {state:11}  {started:20}  {}", lasted.unwrap_or_default()));
    }
}

/// A time to the second.
pub(super) fn short(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}
