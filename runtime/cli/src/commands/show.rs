//! `waft show`: shows a run with all its tasks.

use anyhow::anyhow;
use api::{
    AwaitedNotification, Backlog, ElementProgress, Failure, FiringState, LastUsage, LostWorker, NextTime, Node,
    NodeState, OutstandingCall, Revision, Run, SkipReason, SkippedTriggers,
};
use flow::{Size, Value};

use super::{
    list::{short, shown_labels},
    remote::{self, between},
    source::Source,
};
use crate::{
    colour::{self, Colour},
    display::state::Appearance,
    exit::{CliError, Exit},
    output::{self, Stream},
    sanitize,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, run: &str, with_revisions: bool, as_json: bool) -> Result<Exit, CliError> {
    let run = Source::of(settings, run).await?.run(run).await?;
    if as_json {
        output::json(serde_json::to_string(&run).map_err(CliError::unreachable)?);
        return Ok(Exit::Success);
    }
    let Run { run: id, flow, state, revision, revisions, started_at, changed_at, fired, firings, .. } = &run;
    let Run { skipped, backlogs, schedules, tasks, .. } = &run;
    let colour = colour::on(Stream::Out);
    let state = if run.cancelling { "cancelling" } else { state.as_str() };
    output::line(&format!("{}  {id}  {state}", Colour::Bold.text(flow, colour)));
    output::line(&format!("started {}, last changed {}", short(started_at), short(changed_at)));
    if !run.labels.is_empty() {
        output::line(&format!("labels: {}", shown_labels(&run.labels)));
    }
    if let Some(fired) = fired {
        let under_way = firings.iter().map(|FiringState { firing, state }| format!(", firing {firing} {state}"));
        let times = if *fired == 1 { "once".into() } else { format!("{fired} times") };
        output::line(&format!("fired {times}{}", under_way.collect::<String>()));
    }
    skipped.iter().for_each(|skipped| output::line(&skipped_line(skipped)));
    for Backlog { task, next } in backlogs {
        output::line(&format!("{task} has missed times to make up for, from {} on", short(next)));
    }
    for NextTime { task, at } in schedules {
        output::line(&format!("{task} fires next at {}", short(at)));
    }
    output::line("");
    if with_revisions {
        output::line(&format!("revision {revision}"));
        for Revision { revision, at, edits } in revisions {
            output::line(&format!("  {revision}  {}  {}", short(at), sanitize::one_line(&edits.join("; "))));
        }
        output::line("");
    }
    let width = tasks.iter().map(|task| task.name.len()).max().unwrap_or(0);
    tasks.iter().for_each(|task| output::line(&line(task, width, colour)));
    output::lines(remote::summary(&run, remote::state(&run)?, Stream::Out).trim_end());
    remote::print_values(&run);
    Ok(Exit::Success)
}

/// The triggers of a task that fired nothing: `clean was not fired 5 times, …`.
fn skipped_line(skipped: &SkippedTriggers) -> String {
    let SkippedTriggers { task, reason, count, last_at } = skipped;
    let times = match count {
        1 => "once".into(),
        _ if skipped.is_lower_bound() => format!("at least {count} times"),
        _ => format!("{count} times"),
    };
    let why = match reason {
        SkipReason::Overlap => "an earlier firing of its schedule was under way",
        SkipReason::Missed => "nobody drove the run when it was due",
        SkipReason::QueueFull => "the run had as many open firings as it may have",
        // A newer server may send other reasons.
        other => other.as_str(),
    };
    format!("{task} was not fired {times}, since {why}; last at {}", short(last_at))
}

/// Prints one value completely.
pub(super) async fn value(settings: &Settings, run: &str, name: &str) -> Result<Exit, CliError> {
    match Source::of(settings, run).await?.value(run, name).await? {
        Value::Json(json) => output::json(json.as_str()),
        Value::Bytes(_) if Stream::Out.is_terminal() => {
            let error = anyhow!("{name} is bytes, which a terminal might obey");
            return Err(CliError::invalid(error).hint("send them to a file: `waft show RUN --value NAME > FILE`"));
        }
        Value::Bytes(bytes) => output::bytes(&bytes),
        Value::Stored(_) => unreachable!("it is the whole value"),
    }
    Ok(Exit::Success)
}

/// The location of an outstanding call.
pub(super) fn call_location(out: &OutstandingCall) -> String {
    let OutstandingCall { queue, since, worker, unserved, silent_for } = out;
    let since = short(since);
    match (worker, silent_for) {
        (Some(worker), Some(silent)) => {
            format!("called by {worker} since {since}, whose heartbeats stopped {silent:.0}s ago")
        }
        (Some(worker), None) => format!("called by {worker} since {since}"),
        (None, _) if *unserved => format!("waiting for a worker on queue {queue} since {since}"),
        (None, _) => format!("on queue {queue} since {since}"),
    }
}

/// How often a call was lost, and which workers lost it.
fn lost(lost: &[LostWorker]) -> Option<String> {
    let times = match lost.len() {
        0 => return None,
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    let workers: Vec<&str> = lost.iter().filter_map(|lost| lost.worker.as_deref()).collect();
    Some(format!("lost {times}, with {}", workers.join(", ")))
}

/// CPU time from which it is shown, in seconds.
const SHOWN_CPU_SECONDS: f64 = 0.1;

/// Memory from which it is shown, in bytes: the default limit is four times as much.
const SHOWN_MEMORY_BYTES: u64 = 16 << 20;

/// What the last call of a task used, as far as it is worth a look.
fn used(LastUsage { usage, .. }: &LastUsage) -> Option<String> {
    let cpu = (usage.cpu_seconds >= SHOWN_CPU_SECONDS).then(|| format!("{:.1}s CPU", usage.cpu_seconds));
    let memory = (usage.memory_bytes >= SHOWN_MEMORY_BYTES).then(|| format!("{:#}", Size(usage.memory_bytes)));
    let requests = match usage.http_requests {
        0 => None,
        1 => Some("1 request".to_owned()),
        more => Some(format!("{more} requests")),
    };
    let parts: Vec<String> = cpu.into_iter().chain(memory).chain(requests).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The word for the state of a node, and its looks. What a task without a rollback did stays: the task is not rolled back.
fn state_in_words(node: &Node) -> (&str, Appearance) {
    match &node.failure {
        Some(_) if has_ended_without_rollback(node) => ("failure", Appearance::of(&NodeState::Failure)),
        None if has_ended_without_rollback(node) => ("ended", Appearance::of(&NodeState::Ignored)),
        _ => (node.state.as_str(), Appearance::of(&node.state)),
    }
}

/// Whether the flow was rolled back, and the task has no rollback. Earlier servers do not report which tasks have one.
fn has_ended_without_rollback(node: &Node) -> bool {
    node.state == NodeState::RolledBack && node.has_rollback == Some(false)
}

fn line(node: &Node, width: usize, colour: bool) -> String {
    let (state, appearance) = state_in_words(node);
    let painted = appearance.text(&format!("{state:16}"), colour);
    let attempt = node.attempt.filter(|attempt| *attempt > 1).map(|attempt| format!("#{attempt}")).unwrap_or_default();
    let took = node.started_at.as_deref().zip(node.at.as_deref()).and_then(|(from, until)| between(from, until));
    let took = took.filter(|_| !matches!(node.state, NodeState::Running | NodeState::RollingBack));
    let took = took.map(|took| format!("{:.1}s", took.as_secs_f64())).unwrap_or_default();
    let mut line = format!("  {} {:width$}  {painted} {attempt:4} {took:>7}", appearance.mark(colour), node.name);
    if has_ended_without_rollback(node) {
        line.push_str("  has no rollback");
    }
    if let Some(AwaitedNotification { word, values, until }) = &node.awaits {
        line.push_str(&format!("  waits for {}", sanitize::one_line(word)));
        if !values.is_empty() {
            line.push_str(&format!(", with {}", values.join(", ")));
        }
        until.iter().for_each(|until| line.push_str(&format!(", until {}", short(until))));
    }
    node.out.iter().for_each(|out| line.push_str(&format!("  {}", call_location(out))));
    if let Some(lost) = lost(&node.lost) {
        line.push_str(&format!("  {lost}"));
    }
    if let Some(ElementProgress { count, succeeded }) = node.elements {
        line.push_str(&format!("  {succeeded} of {count} elements"));
    }
    if let Some(worker) = &node.worker {
        line.push_str(&format!("  {}", Colour::Dim.text(worker, colour)));
    }
    if let Some(computed_by) = &node.computed_by {
        line.push_str(&format!("  remembered from {}", sanitize::one_line(&computed_by.run)));
    }
    if let Some(used) = node.last_usage.as_ref().and_then(used) {
        line.push_str(&format!("  {}", Colour::Dim.text(&used, colour)));
    }
    if let Some(reason) = &node.rollback_skipped {
        line.push_str(&format!("  skipped: {}", sanitize::one_line(reason)));
    }
    if let Some(Failure { kind, message, .. }) = &node.failure {
        line.push_str(&format!("  {kind}: {}", sanitize::one_line(message.lines().next().unwrap_or_default())));
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_dropped_times_that_may_be_too_low_is_called_so() {
        let line = |reason: SkipReason, count| {
            let last_at = "2026-11-28T12:04:00Z".into();
            skipped_line(&SkippedTriggers { task: "clean".into(), reason, count, last_at })
        };
        for (reason, count, times) in [
            (SkipReason::Missed, 1, "once"),
            (SkipReason::Missed, 999, "999 times"),
            (SkipReason::Missed, 1_000, "at least 1000 times"),
            (SkipReason::Missed, 1_001, "at least 1001 times"),
            (SkipReason::Overlap, 86_400, "86400 times"),
        ] {
            let expected = format!("clean was not fired {times}, since ");
            assert!(line(reason, count).starts_with(&expected), "{expected}");
        }
    }
}
