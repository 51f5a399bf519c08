//! Shows a replay: what was recorded, what happened now, and how they compare.

use std::time::Duration;

use ::server::usage;
use ::worker::ReplayResult;
use flow::{Digest, Failure, Size, Values};
use protocol::{CallUsage, RecordedOutcome, Unrecorded, events::rfc3339};
use sandbox::{Completion, Frame};
use serde_json::{Value as Json, json};

use super::{attempt::Attempt, compare::Comparison};
use crate::{
    colour::{self, Colour},
    commands::list::short,
    display::log::Title,
    output::{self, Stream},
    sanitize,
};

/// All that is known of a replay.
pub(super) struct Report<'a> {
    pub(super) attempt: &'a Attempt,
    /// The module that ran.
    pub(super) digest: Digest,
    pub(super) replayed: &'a ReplayResult,
    pub(super) comparison: &'a Comparison,
}

impl Report<'_> {
    /// Prints it for a person.
    pub(super) fn print(&self) {
        let Self { attempt, digest, replayed, comparison } = self;
        let (job, recorded) = (&attempt.job, &attempt.recorded);
        let title = Title::of(&job.call);
        let colour = colour::on(Stream::Out);
        let worker = recorded.worker.as_ref().map(|worker| format!(" on {worker}")).unwrap_or_default();
        let (call, at) = (&job.call, short(&rfc3339(job.at)));
        let run = Colour::Bold.text(call.run.as_str(), colour);
        let (action, task, attempt, firing) = (call.action, &call.task, call.attempt, call.firing);
        output::line(&format!(
            "{run}  {action} of {task}, attempt {attempt} of firing {firing}{worker}, dispatched {at}"
        ));
        let replaced = if *digest == job.module { String::new() } else { format!(", in place of {}", job.module) };
        output::line(&format!("module {digest}{replaced}"));
        for line in &replayed.log.lines {
            output::line(&title.line(&line.level, &line.text));
        }
        if replayed.log.cut {
            output::line(&title.cut());
        }
        self.print_backtrace();
        self.print_usage();
        self.notes().iter().for_each(|note| output::line(&format!("note: {}", sanitize::one_line(note))));
        output::line(&format!("recorded: {}", describe_recorded(recorded.outcome.as_ref())));
        output::line(&format!("now:      {}", describe(&replayed.completion)));
        print_comparison(comparison);
    }

    fn print_backtrace(&self) {
        let frames = &self.replayed.backtrace;
        if frames.is_empty() {
            return;
        }
        output::line("backtrace of the guest, innermost first:");
        for (number, Frame { function, place }) in frames.iter().enumerate() {
            let place = place.as_ref().map(|place| format!("  at {}", sanitize::one_line(place))).unwrap_or_default();
            output::line(&format!("  {number:2}: {}{place}", sanitize::one_line(function)));
        }
    }

    /// What it used against what it was allowed, and what was recorded.
    fn print_usage(&self) {
        let Some(used) = self.replayed.log.usage else { return };
        let limits = &self.attempt.job.limits;
        let recorded = self.attempt.recorded.log.usage;
        let was = |part: fn(&CallUsage) -> String| {
            recorded.as_ref().map(|usage| format!("; recorded {}", part(usage))).unwrap_or_default()
        };
        let timeout = seconds(limits.timeout);
        output::line(&format!("time    {} of {timeout}{}", seconds(used.wall), was(|usage| seconds(usage.wall))));
        output::line(&format!("CPU     {}{}", seconds(used.cpu), was(|usage| seconds(usage.cpu))));
        let bytes = |bytes: u64| format!("{:#}", Size(bytes));
        let memory = was(|usage| format!("{:#}", Size(usage.memory)));
        output::line(&format!("memory  {} of {}{memory}", bytes(used.memory), bytes(limits.memory)));
        let output_bytes = was(|usage| format!("{:#}", Size(usage.output_bytes)));
        let (inputs, outputs) = (bytes(used.input_bytes), bytes(used.output_bytes));
        output::line(&format!("values  {inputs} in, {outputs} out of {}{output_bytes}", bytes(limits.output)));
        if used.http_requests > 0 || recorded.is_some_and(|usage| usage.http_requests > 0) {
            let requests = was(|usage| count(usage.http_requests));
            let (sent, received) = (bytes(used.http_request_bytes), bytes(used.http_response_bytes));
            let limit = bytes(limits.http_bytes);
            let count = count(used.http_requests);
            output::line(&format!("HTTP    {count}, {sent} out and {received} in of {limit}{requests}"));
        }
    }

    /// What makes the replay differ from the attempt, whatever the guest does.
    fn notes(&self) -> Vec<String> {
        let unrecorded = self.attempt.recorded.log.unrecorded;
        let Unrecorded { clock, random, http, settings, directories, connections } = unrecorded;
        let possible = [
            (
                clock,
                "the attempt had the clock of its worker, which is not recorded; here the clock stands at the time of the job",
            ),
            (
                random,
                "the attempt had random numbers of its worker, which are not recorded; here they follow from the attempt",
            ),
            (http, "the HTTP exchanges of the attempt were not recorded, so its requests have no answers here"),
            (
                settings,
                "the attempt had configuration values or variables of its worker, which are not recorded; here it has none",
            ),
            (directories, "the attempt had directories of its worker; here it has none"),
            (connections, "the attempt had TCP connections, which are not recorded; here it has none"),
        ];
        let mut notes: Vec<String> =
            possible.into_iter().filter(|(is_so, _)| *is_so).map(|(_, note)| note.to_owned()).collect();
        notes.extend(self.replayed.mismatches.iter().cloned());
        match self.replayed.unsent {
            0 => {}
            1 => notes.push("1 recorded HTTP request was not sent".to_owned()),
            more => notes.push(format!("{more} recorded HTTP requests were not sent")),
        }
        notes
    }

    /// One JSON object.
    pub(super) fn json(&self) -> Json {
        let Self { attempt: Attempt { recorded, job, .. }, digest, replayed, comparison } = self;
        let call = &job.call;
        let (differences, reason) = comparison.parts();
        let line = |line: &protocol::LogLine| json!({ "level": line.level, "text": line.text });
        let frame = |frame: &Frame| json!({ "function": frame.function, "place": frame.place });
        let limits = &job.limits;
        json!({
            "run": call.run.as_str(),
            "flow": job.flow.as_str(),
            "task": call.task.as_str(),
            "firing": call.firing.get(),
            "attempt": call.attempt.get(),
            "call": call.action.as_str(),
            "worker": recorded.worker.as_ref().map(ToString::to_string),
            "dispatched_at": rfc3339(job.at),
            "recorded_module": job.module.to_string(),
            "module": digest.to_string(),
            "comparison": comparison.word(),
            "differences": differences,
            "reason": reason,
            "notes": self.notes(),
            "recorded": recorded.outcome.as_ref().map(recorded_json),
            "replayed": completion_json(&replayed.completion),
            "lines": replayed.log.lines.iter().map(line).collect::<Vec<_>>(),
            "cut": replayed.log.cut,
            "backtrace": replayed.backtrace.iter().map(frame).collect::<Vec<_>>(),
            "recorded_usage": recorded.log.usage.as_ref().map(usage),
            "usage": replayed.log.usage.as_ref().map(usage),
            "limits": {
                "timeout_seconds": limits.timeout.as_secs_f64(),
                "memory_bytes": limits.memory,
                "output_bytes": limits.output,
                "log_bytes": limits.log,
                "http_bytes": limits.http_bytes,
            },
        })
    }
}

/// Prints how two outcomes compare.
pub(super) fn print_comparison(comparison: &Comparison) {
    let colour = colour::on(Stream::Out);
    match comparison {
        Comparison::Same { note: None } => output::line(&Colour::Green.text("same", colour)),
        Comparison::Same { note: Some(note) } => {
            output::line(&format!("{}: {note}", Colour::Green.text("same", colour)));
        }
        Comparison::Differs(differences) => {
            output::line(&Colour::Yellow.text("differs", colour));
            differences.iter().for_each(|difference| output::line(&format!("  {}", sanitize::one_line(difference))));
        }
        Comparison::NotCompared(reason) => output::line(&format!("not compared: {reason}")),
    }
}

fn count(requests: u64) -> String {
    if requests == 1 { "1 request".to_owned() } else { format!("{requests} requests") }
}

fn seconds(time: Duration) -> String {
    format!("{:.3}s", time.as_secs_f64())
}

/// A recorded outcome in words.
pub(super) fn describe_recorded(outcome: Option<&RecordedOutcome>) -> String {
    match outcome {
        None => "not ended".to_owned(),
        Some(RecordedOutcome::Succeeded(values)) => describe_values(values),
        Some(RecordedOutcome::RolledBack) => "rolled back".to_owned(),
        Some(RecordedOutcome::Failed(failure)) => describe_failure(failure),
        Some(RecordedOutcome::Lost) => "lost with its worker".to_owned(),
    }
}

fn describe(completion: &Completion) -> String {
    match completion {
        Completion::Succeeded(values) => describe_values(values),
        Completion::Failed(failure) => describe_failure(failure),
        Completion::Interrupted => "interrupted".to_owned(),
    }
}

fn describe_failure(failure: &Failure) -> String {
    format!("failed ({}): {}", failure.kind, sanitize::one_line(&failure.message))
}

fn describe_values(values: &Values) -> String {
    let value = |(name, value): (&flow::ValueName, &flow::Value)| format!("{name} ({:#})", Size(value.size() as u64));
    match values.is_empty() {
        true => "succeeded".to_owned(),
        false => format!("succeeded with {}", values.iter().map(value).collect::<Vec<_>>().join(", ")),
    }
}

/// A recorded outcome as JSON.
pub(super) fn recorded_json(outcome: &RecordedOutcome) -> Json {
    match outcome {
        RecordedOutcome::Succeeded(values) => values_json(values),
        RecordedOutcome::RolledBack => values_json(&Values::new()),
        RecordedOutcome::Failed(failure) => failure_json(failure),
        RecordedOutcome::Lost => json!({ "outcome": "lost" }),
    }
}

fn completion_json(completion: &Completion) -> Json {
    match completion {
        Completion::Succeeded(values) => values_json(values),
        Completion::Failed(failure) => failure_json(failure),
        Completion::Interrupted => json!({ "outcome": "interrupted" }),
    }
}

fn values_json(values: &Values) -> Json {
    let provides = api::ValuesObject::from(values);
    json!({ "outcome": "succeeded", "provides": provides })
}

fn failure_json(failure: &Failure) -> Json {
    json!({ "outcome": "failed", "failure": api::Failure::from(failure) })
}
