//! Talks to a server: explains its refusals to a person, and watches runs there.

use anyhow::anyhow;
use client::{
    Client, ClientError, Event,
    api::{self, Diagnostic, EventPayload, Failure, Node, Problem, Run},
};
use flow::{FlowName, NodeName, RunId, RunState, Severity, StoredReferences};
use std::{collections::BTreeSet, time::Duration};

use super::source::{RunLines, Source};
use crate::{
    colour::{self, Colour},
    display::{self, Display},
    exit::{CliError, Exit},
    output::{self, Stream},
    sanitize,
    settings::Settings,
    signals::StopSignal,
};

/// The hint for a request without a valid token.
const NO_TOKEN: &str = "give the server's token with --token or WAFT_TOKEN, or name its file with WAFT_TOKEN_FILE";

/// A client for the server that the settings name.
pub(super) fn client(settings: &Settings) -> Result<Client, CliError> {
    Client::with_tls(settings.server.url(), settings.token.clone(), settings.client_tls.clone()).map_err(cli_error)
}

/// The exit code and the hint for a client error.
pub(super) fn cli_error(error: ClientError) -> CliError {
    match &error {
        ClientError::Address { .. } => CliError::invalid(error).hint("write --server http://host:port"),
        ClientError::Certificate { .. } => CliError::invalid(error).hint(
            "name PEM files with WAFT_SERVER_AUTHORITY, WAFT_CLIENT_CERTIFICATE and WAFT_CLIENT_KEY, or in [client]",
        ),
        ClientError::Unreachable { .. } => {
            let error = anyhow!(error);
            let hint = tls_hint(&format!("{error:#}"));
            CliError::unreachable(error).hint(
                hint.unwrap_or("start a server with `waft serve`, or name another one with --server or WAFT_SERVER"),
            )
        }
        ClientError::Unexpected { .. } => {
            CliError::unreachable(error).hint("name the address that `waft serve` prints")
        }
        ClientError::Refused { problem, .. } => {
            let hint = match problem.status {
                401 => Some(NO_TOKEN.to_owned()),
                _ => problem.hint.clone(),
            };
            let exit = if problem.status >= 500 { Exit::Unreachable } else { Exit::Invalid };
            CliError { exit, error: error.into(), hint }
        }
        _ => CliError::unreachable(error),
    }
}

/// What to do about a failed TLS handshake; `None` for another failure. The alerts have the names that rustls gives them.
fn tls_hint(reason: &str) -> Option<&'static str> {
    if reason.contains("UnknownIssuer") {
        Some("if you trust the server, name the certificate of its authority with WAFT_SERVER_AUTHORITY")
    } else if reason.contains("CertificateRequired") {
        Some("the server asks for a certificate: name yours with WAFT_CLIENT_CERTIFICATE and WAFT_CLIENT_KEY")
    } else if reason.contains("received fatal alert") {
        Some("the server may not accept your certificate: its authority must be in the file client_authority there")
    } else {
        None
    }
}

/// The same for a problem found in this process, which a server would report alike.
pub(super) fn local_refusal(problem: Problem) -> CliError {
    let exit = if problem.status >= 500 { Exit::Unreachable } else { Exit::Invalid };
    CliError { exit, error: anyhow!(problem.message()), hint: problem.hint }
}

/// Renders a server's diagnostics of a flow file as `waft check` does.
pub(super) fn render(diagnostics: &[Diagnostic], file: &str, text: &str) -> String {
    let diagnostics: Vec<flow::Diagnostic> = diagnostics
        .iter()
        .map(|diagnostic| flow::Diagnostic {
            severity: if diagnostic.severity == api::Severity::Warning { Severity::Warning } else { Severity::Error },
            message: sanitize::indented(&diagnostic.message, 7),
            hint: diagnostic.hint.as_deref().map(|hint| sanitize::indented(hint, 6)),
            // Another version may count differently, and its span must not exceed the text.
            span: diagnostic.span.map(|(start, end)| start..end).filter(|span| text.get(span.clone()).is_some()),
        })
        .collect();
    flow::render(&diagnostics, file, text)
}

/// The state of a run, as a server reports it.
pub(super) fn state(run: &Run) -> Result<RunState, CliError> {
    let state = RunState::ALL.into_iter().find(|state| state.as_str() == run.state.as_str());
    state.ok_or_else(|| {
        CliError::unreachable(anyhow!(
            "the server reports that run {} is {:?}, which this waft does not know",
            run.run,
            run.state.as_str()
        ))
    })
}

/// Shows a run until it has ended, and returns the run's exit code. On a stop request it returns, and the run continues.
pub(super) async fn follow(source: &Source, run: &Run, as_json: bool) -> Result<Exit, CliError> {
    let stop = StopSignal::listen().map_err(CliError::unreachable)?;
    let invalid_name = |error: flow::invalid::InvalidName| {
        CliError::unreachable(anyhow!(error).context("the server sent a run with an invalid name"))
    };
    let id = RunId::new(&run.run).map_err(invalid_name)?;
    let flow = FlowName::new(&run.flow).map_err(invalid_name)?;
    let nodes = run.tasks.iter().filter_map(|node| NodeName::new(&node.name).ok());
    let mut display = Display::of_nodes(id, flow, nodes, as_json);
    let watch = source.watch(&run.run).await?;
    let ended = tokio::select! {
        ended = show(source, run, watch, &mut display, as_json) => ended,
        // The run continues without this watcher.
        () = output::wait_for_failure() => {
            display.clear();
            return Ok(Exit::Success);
        }
        () = stop.requested.cancelled() => {
            display.clear();
            let run = &run.run;
            return Err(CliError::new(Exit::Interrupted, anyhow!("stopped watching; run {run} continues"))
                .hint(format!("`waft watch {run}` watches it again, `waft cancel {run}` stops it")));
        }
    };
    if let Err(error) = ended {
        display.clear();
        return Err(error);
    }
    let run = source.run(&run.run).await?;
    let exit = Exit::of(state(&run)?);
    if !as_json {
        display.finish();
        output::diagnostic(summary(&run, state(&run)?, Stream::Err).trim_end());
        print_values(&run);
    }
    Ok(exit)
}

/// The time without a change after which it asks what the run waits for.
pub(super) const WAIT_HINT_AFTER: Duration = Duration::from_secs(3);

/// The interval at which it checks whether a process drives a run of `waft run`.
const DRIVER_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Shows a run's lines until the last one. If no line comes for some time, it shows each thing that the run waits for,
/// once.
async fn show(
    source: &Source,
    run: &Run,
    mut watch: RunLines,
    display: &mut Display,
    as_json: bool,
) -> Result<(), CliError> {
    let mut redraw = tokio::time::interval(Display::REDRAW_INTERVAL);
    let mut wait_check = tokio::time::interval(WAIT_HINT_AFTER);
    wait_check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut driver_check = tokio::time::interval(DRIVER_CHECK_INTERVAL);
    driver_check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut shown_reasons = BTreeSet::new();
    loop {
        wait_check.reset();
        driver_check.reset();
        let event = {
            let next = watch.next();
            tokio::pin!(next);
            loop {
                tokio::select! {
                    event = &mut next => break event,
                    _ = redraw.tick() => display.draw(),
                    _ = driver_check.tick() => source.check_driver().await?,
                    _ = wait_check.tick(), if !as_json => {
                        // If the server cannot answer now, it is asked again; the run continues anyway.
                        let reasons = source.run(&run.run).await.map(|run| waiting_reasons(&run)).unwrap_or_default();
                        reasons.into_iter().filter(|reason| shown_reasons.insert(reason.clone())).for_each(|reason| display.note(&reason));
                    }
                }
            }
        };
        let Some(event) = event? else { return Ok(()) };
        output::together(|| {
            show_event(&event, display, as_json);
            while let Some(event) = watch.next_received() {
                show_event(&event, display, as_json);
            }
        });
    }
}

fn show_event(event: &Event, display: &mut Display, as_json: bool) {
    if as_json {
        return output::json(&event.line);
    }
    let Some(payload) = event.payload() else { return };
    display.event(&payload);
    if matches!(payload, EventPayload::Run(event) if event.state == api::RunState::Suspended) {
        display.note("the run is suspended; `waft resume RUN` continues it");
    }
}

/// The reasons that calls of a run do not end, if a person can do something about them.
pub(super) fn waiting_reasons(run: &Run) -> Vec<String> {
    let reason = |node: &Node| {
        let out = node.out.as_ref()?;
        let worker = out.worker.as_deref().filter(|_| out.silent_for.is_some());
        match worker {
            Some(worker) => Some(format!("{}: the heartbeats of {worker} have stopped", node.name)),
            None if out.unserved => Some(format!("{}: {}", node.name, super::show::call_location(out))),
            None => None,
        }
    };
    run.tasks.iter().filter_map(reason).map(|reason| sanitize::one_line(&reason)).collect()
}

/// The progress of a run, or how it ended, for a person to act on.
pub(super) fn summary(run: &Run, state: RunState, stream: Stream) -> String {
    let colour = colour::on(stream);
    let (ending, paint) = match state {
        RunState::Success => ("succeeded", Colour::Green),
        RunState::Failure => ("failed and needs a person: a rollback failed", Colour::Red),
        RunState::RolledBack if run.failures.is_empty() => ("was stopped and rolled back", Colour::Yellow),
        RunState::RolledBack => ("failed and was rolled back", Colour::Yellow),
        RunState::Suspended => ("is suspended", Colour::Yellow),
        RunState::Pending | RunState::Running | RunState::Suspending => ("is in progress", Colour::Blue),
    };
    let duration = between(&run.started_at, &run.changed_at).filter(|_| state.is_final());
    let duration = duration.map(|duration| format!(" after {:.1}s", duration.as_secs_f64())).unwrap_or_default();
    let mut text = format!(
        "\n{} {}{duration}\n",
        Colour::Bold.text(&sanitize::one_line(&run.flow), colour),
        paint.text(ending, colour)
    );
    for (name, failure) in &run.failures {
        let Failure { kind, message, apply, .. } = failure;
        let stuck = run.tasks.iter().any(|task| task.name == *name && task.state == api::NodeState::RollbackFailure);
        let action = if stuck { "could not be rolled back" } else { "failed" };
        let message = sanitize::indented(message, 4);
        let (name, kind) = (sanitize::one_line(name), sanitize::one_line(&kind.to_string()));
        text.push_str(&format!("  {} {action} ({kind}): {message}\n", Colour::Red.text(&name, colour)));
        if let Some(apply) = apply {
            let message = sanitize::indented(&apply.message, 6);
            let kind = sanitize::one_line(&apply.kind.to_string());
            text.push_str(&format!("    after it had failed ({kind}): {message}\n"));
        }
    }
    let id = sanitize::one_line(&run.run);
    match state {
        RunState::Failure => text.push_str(&format!(
            "`waft retry {id}` tries the rollbacks again; if you have rolled back by hand, \
             `waft skip {id} TASK --reason TEXT`\n"
        )),
        RunState::RolledBack => text.push_str(&format!("`waft retry {id}` starts it anew\n")),
        RunState::Suspended => text.push_str(&format!("`waft resume {id}` continues it\n")),
        RunState::Pending | RunState::Running | RunState::Suspending | RunState::Success => {}
    }
    text
}

/// Prints the values that tasks provided, one a line; prints none if a newer server uses another format.
pub(super) fn print_values(run: &Run) {
    let values = run.provides.read(StoredReferences::Accept).unwrap_or_default();
    display::print_values(&values, &display::FullValueHint::Show.advice(sanitize::one_line(&run.run)));
}

/// The duration between two times of a server; `None` if one is not a time.
pub(super) fn between(from: &str, until: &str) -> Option<Duration> {
    let micros = |text: &str| Some(text.parse::<jiff::Timestamp>().ok()?.as_microsecond());
    Some(Duration::from_micros(u64::try_from(micros(until)? - micros(from)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_a_server_start_no_line() {
        let failure = serde_json::json!({"kind": "task\nerror", "message": "one\ntwo"});
        let run = serde_json::json!({
            "run": "r1\nr2", "flow": "bake\ncake", "state": "rolled-back", "revision": 1, "started_at": "", "changed_at": "",
            "tasks": [], "inputs": {}, "provides": {}, "failures": {"a\nb": failure},
        });
        let run: Run = serde_json::from_value(run).unwrap();
        let text = summary(&run, RunState::RolledBack, Stream::Out);
        let lines: Vec<&str> = text.trim().lines().collect();
        assert_eq!(lines.len(), 4, "the flow, the failure with two lines, and the advice: {text}");
        assert!(lines[0].contains("bake ⏎ cake") && lines[1].contains("a ⏎ b failed (task ⏎ error): one"), "{text}");
        assert!(lines[2] == "    two" && lines[3].contains("waft retry r1 ⏎ r2"), "{text}");
    }
}
