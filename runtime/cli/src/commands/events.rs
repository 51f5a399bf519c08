//! `waft events`: prints the states of all runs of a server and of their tasks, as they change.

use anyhow::anyhow;
use client::{
    Event, Watch,
    api::{EventsQuery, NodeStateEvent, RunStateEvent, RunsEvent},
};

use super::remote;
use crate::{
    arguments::EventsFlags,
    exit::{CliError, Exit},
    output, sanitize,
    settings::Settings,
    signals::StopSignal,
};

pub(super) async fn run(settings: &Settings, flags: EventsFlags) -> Result<Exit, CliError> {
    let stop = StopSignal::listen().map_err(CliError::unreachable)?;
    let client = remote::client(settings)?;
    let EventsFlags { flow, namespace, label, kind, state, after, json } = flags;
    let joined = |words: Vec<String>| (!words.is_empty()).then(|| words.join(","));
    let query = EventsQuery { flow, namespace, label, kind: joined(kind), state: joined(state) };
    let watch = match after {
        Some(event) => client.watch_all_after(query, &event),
        None => client.watch_all(query),
    };
    tokio::select! {
        shown = show(watch, json) => shown,
        () = stop.requested.cancelled() => {
            Err(CliError::new(Exit::Interrupted, anyhow!("stopped watching; the runs continue")))
        }
    }
}

async fn show(mut watch: Watch, as_json: bool) -> Result<Exit, CliError> {
    while let Some(event) = watch.next().await.map_err(remote::cli_error)? {
        output::together(|| {
            print(&event, as_json);
            while let Some(event) = watch.next_received() {
                print(&event, as_json);
            }
        });
    }
    Ok(Exit::Success)
}

fn print(event: &Event, as_json: bool) {
    if as_json {
        return output::json(&event.line);
    }
    match event.runs_event() {
        Some(RunsEvent::Run(event)) => output::line(&of_run(&event)),
        Some(RunsEvent::Node(event)) => output::line(&of_node(&event)),
        Some(RunsEvent::Lost(lost)) => output::diagnostic(&sanitize::one_line(&lost.message)),
        Some(RunsEvent::Unknown) | None => {
            output::diagnostic(&sanitize::one_line(&format!("a newer server sent {}", event.line)));
        }
    }
}

/// A row about a run.
fn of_run(event: &RunStateEvent) -> String {
    let RunStateEvent { run, flow, state, at } = event;
    format!("{at}  {flow}  {run}  {state}")
}

/// A row about a task or a retry controller. Its failure comes last, since it may be long.
fn of_node(event: &NodeStateEvent) -> String {
    let NodeStateEvent { run, flow, kind, name, state, firing, attempt, at, failure, retry_in, worker } = event;
    let mut row = format!("{at}  {flow}  {run}  {kind} {name}  {state}");
    if *firing > 1 {
        row.push_str(&format!(", firing {firing}"));
    }
    if *attempt > 1 {
        row.push_str(&format!(", attempt {attempt}"));
    }
    if let Some(worker) = worker {
        row.push_str(&format!(", worker {worker}"));
    }
    if let Some(seconds) = retry_in {
        row.push_str(&format!(", again in {seconds:.1}s"));
    }
    if let Some(failure) = failure {
        row.push_str(&format!(": {}: {}", failure.kind, failure.message));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_what_an_event_says() {
        let row = |line: &str| match serde_json::from_str(line).unwrap() {
            RunsEvent::Run(event) => of_run(&event),
            RunsEvent::Node(event) => of_node(&event),
            RunsEvent::Lost(_) | RunsEvent::Unknown => panic!("{line}"),
        };
        let run = r#"{"event":"run","run":"bake-1","flow":"bake","state":"rolled-back","at":"2026-11-28T14:27:27.9Z"}"#;
        assert_eq!(row(run), "2026-11-28T14:27:27.9Z  bake  bake-1  rolled-back");
        let task = r#"{"event":"state","run":"bake-1","flow":"bake","kind":"task","name":"pan","state":"failure","firing":1,
            "attempt":2,"at":"now","failure":{"kind":"timeout","message":"too late"},"retry_in":1.5,"worker":"w1"}"#;
        assert_eq!(
            row(task),
            "now  bake  bake-1  task pan  failure, attempt 2, worker w1, again in 1.5s: timeout: too late"
        );
    }
}
