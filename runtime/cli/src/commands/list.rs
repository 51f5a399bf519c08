//! `waft list`: lists the runs of a server, or those in the logbook of this machine.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use client::{
    Client,
    api::{ListQuery, RunFilter, Runs, Summary},
};
use engine::{Clock, SystemClock};
use flow::Timestamp;
use logbook::Logbook;

use super::{remote, run_location::reads_logbook, serve::without_password};
use crate::{
    arguments::{FilterFlags, ListFlags},
    exit::{CliError, Exit},
    output,
    settings::Settings,
};

/// The maximum number of runs in one request.
const PAGE: usize = 1_000;

/// Where the listed runs come from.
enum RunListSource {
    Server(Client),
    /// The logbook of this machine; `None` if it does not exist yet.
    Local(Option<Arc<dyn Logbook>>),
}

impl RunListSource {
    async fn page(&self, query: &ListQuery) -> Result<Runs, CliError> {
        match self {
            Self::Server(client) => client.list(query).await.map_err(remote::cli_error),
            Self::Local(Some(logbook)) => ::server::list(&**logbook, query.clone())
                .await
                .map_err(|problem| remote::local_refusal(problem.into_document())),
            Self::Local(None) => Ok(Runs { runs: Vec::new(), next: None }),
        }
    }
}

/// Chooses where runs are listed from: a chosen server, or else the logbook of this machine. If that has no runs, the
/// server at the built-in address may have some.
async fn listed(settings: &Settings) -> Result<RunListSource, CliError> {
    if !reads_logbook(settings) {
        return remote::client(settings).map(RunListSource::Server);
    }
    let logbook = if super::may_have_runs(settings)? { Some(super::open_logbook(settings).await?) } else { None };
    let here = RunListSource::Local(logbook);
    let one = ListQuery { limit: Some(1), ..ListQuery::default() };
    if settings.logbook_is_named() || !here.page(&one).await?.runs.is_empty() {
        return Ok(here);
    }
    let client = remote::client(settings)?;
    Ok(if client.list(&one).await.is_ok() { RunListSource::Server(client) } else { here })
}

pub(super) async fn run(settings: &Settings, flags: ListFlags) -> Result<Exit, CliError> {
    let ListFlags { filter, limit, json } = flags;
    let filter = run_filter(filter);
    let is_filtered = !filter.is_empty();
    let listed = listed(settings).await?;
    let RunFilter { flow, namespace, label, text, state, since, until } = filter;
    let mut query = ListQuery { flow, namespace, label, text, state, since, until, ..ListQuery::default() };
    let mut remaining = limit;
    let mut runs: Vec<Summary> = Vec::new();
    while remaining > 0 {
        query.limit = Some(remaining.min(PAGE));
        let page = listed.page(&query).await?;
        remaining = remaining.saturating_sub(page.runs.len());
        runs.extend(page.runs);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    if json {
        for run in &runs {
            output::json(serde_json::to_string(run).map_err(CliError::unreachable)?);
        }
    } else if runs.is_empty() {
        output::diagnostic(&none(settings, &listed, is_filtered));
    } else {
        print_table(&runs);
        if query.after.is_some() {
            crate::output::note!("there are more; --limit shows them");
        }
    }
    Ok(Exit::Success)
}

/// The message for an empty list.
fn none(settings: &Settings, listed: &RunListSource, is_filtered: bool) -> String {
    match listed {
        _ if is_filtered => "no run fits; `waft list` without filters shows all".into(),
        RunListSource::Server(_) => "there are no runs yet; `waft submit FLOW` starts one".into(),
        RunListSource::Local(_) => format!(
            "there are no runs in the logbook {}; `waft run FLOW` starts one, and --server or WAFT_SERVER names a server",
            without_password(&settings.logbook)
        ),
    }
}

/// The filter that a person gives.
pub(super) fn run_filter(flags: FilterFlags) -> RunFilter {
    let FilterFlags { flow, namespace, label, text, state, since, until } = flags;
    let state = (!state.is_empty()).then(|| state.join(","));
    let [since, until] = [since, until].map(|text| text.map(|text| time(&text)));
    RunFilter { flow, namespace, label, text, state, since, until }
}

/// Converts a duration to the time that long ago; the server parses any other text.
fn time(text: &str) -> String {
    match flow::parse_duration(text) {
        Ok(ago) => protocol::events::rfc3339(before(ago)),
        Err(_) => text.to_owned(),
    }
}

/// The time that long ago.
pub(super) fn before(ago: Duration) -> Timestamp {
    let now = SystemClock.now().as_micros();
    Timestamp::from_micros(now.saturating_sub(u64::try_from(ago.as_micros()).unwrap_or(u64::MAX)))
}

fn print_table(runs: &[Summary]) {
    let width = |field: fn(&Summary) -> &str| runs.iter().map(|run| field(run).len()).max().unwrap_or(0);
    let (id, flow) = (width(|run| &run.run).max(3), width(|run| &run.flow).max(4));
    let has_labels = runs.iter().any(|run| !run.labels.is_empty());
    let head = if has_labels { format!("{:10}  LABELS", "LASTED") } else { "LASTED".to_owned() };
    output::line(&format!("{:id$}  {:flow$}  {:11}  {:20}  {head}", "RUN", "FLOW", "STATE", "STARTED"));
    let now = protocol::events::rfc3339(SystemClock.now());
    for run in runs {
        let duration = duration(run, &now).map(|duration| format!("{:.1}s", duration.as_secs_f64()));
        let Summary { run, flow: name, state, started_at, labels, .. } = run;
        let (started, duration) = (short(started_at), duration.unwrap_or_default());
        let lasted = if labels.is_empty() { duration } else { format!("{duration:10}  {}", shown_labels(labels)) };
        output::line(&format!("{run:id$}  {name:flow$}  {state:11}  {started:20}  {lasted}"));
    }
}

/// Labels on one line. A value with spaces is in quotes, so that it cannot look like several labels.
pub(super) fn shown_labels(labels: &BTreeMap<String, String>) -> String {
    let is_plain = |value: &str| !value.contains(|character: char| character.is_whitespace() || character == '"');
    let shown = |(name, value): (&String, &String)| match is_plain(value) {
        true => format!("{name}={value}"),
        false => format!("{name}={value:?}"),
    };
    labels.iter().map(shown).collect::<Vec<_>>().join(" ")
}

/// How long a run has lasted. A run that has not ended counts until now, however old its last change is.
fn duration(run: &Summary, now: &str) -> Option<Duration> {
    remote::between(&run.started_at, if run.state.is_final() { &run.changed_at } else { now })
}

/// A time, to the second.
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
            labels: BTreeMap::new(),
            started_at: "2026-01-31T08:00:00Z".into(),
            changed_at: "2026-01-31T08:00:01Z".into(),
        };
        let seconds = |state| duration(&run(state), "2026-01-31T09:00:00Z").map(|duration| duration.as_secs());
        for state in ["running", "suspending", "suspended"] {
            assert_eq!(seconds(state), Some(3_600), "{state}");
        }
        for state in ["success", "failure", "rolled-back"] {
            assert_eq!(seconds(state), Some(1), "{state}");
        }
    }

    #[test]
    fn a_label_cannot_look_like_several() {
        let labels = [("a", "1"), ("b", "2 team=shop"), ("c", "\""), ("e", ""), ("f", "x=y/z")];
        let labels = BTreeMap::from(labels.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let shown = r#"a=1 b="2 team=shop" c="\"" e= f=x=y/z"#;
        assert_eq!(shown_labels(&labels), shown);
    }
}
