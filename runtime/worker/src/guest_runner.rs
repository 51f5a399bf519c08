//! Runs guests for a worker: in the sandbox, or in a simulation.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use flow::{Digest, GrantedPart, Values};
use protocol::{CallLog, CallUsage, GrantsQuestion, Job, Key, MAX_LOG_BYTES, MemoIdentity};
use sandbox::{Action, Call, CallSlot, Observer};
use tokio_util::sync::CancellationToken;

use crate::{
    ContentSource,
    http_recorder::HttpCounts,
    outside::CallOutside,
    redaction::{RedactingObserver, redacted},
    spans,
};

/// The result of a call, and the guest's log.
#[derive(Debug)]
pub struct GuestResult {
    /// The completion.
    pub answer: sandbox::Completion,
    /// The log of the guest.
    pub log: CallLog,
    /// The keys of the values and the record of the result that are in the store.
    pub stored: BTreeMap<Digest, Key>,
}

impl GuestResult {
    /// The result of a call that stored no value.
    #[must_use]
    pub fn new(answer: sandbox::Completion, log: CallLog) -> Self {
        Self { answer, log, stored: BTreeMap::new() }
    }
}

/// Calls guests.
#[async_trait]
pub trait GuestRunner: Send + Sync + 'static {
    /// Makes one call, until it ends or its token is cancelled. It may lend its slot while it waits.
    async fn call(
        &self,
        job: &Job,
        interrupt: CancellationToken,
        observer: Arc<dyn Observer>,
        slot: Arc<dyn CallSlot>,
    ) -> GuestResult;

    /// Stops all calls.
    fn interrupt_all(&self);

    /// How much it would grant to each task of a flow, part by part. Without grants, it is nothing. It blocks while it compares
    /// them with all its grants.
    fn granted_parts(&self, question: &GrantsQuestion) -> Vec<Vec<GrantedPart>> {
        question.tasks.iter().map(|task| vec![GrantedPart::None; task.access.count_parts()]).collect()
    }
}

#[async_trait]
impl GuestRunner for ContentSource {
    async fn call(
        &self,
        job: &Job,
        interrupt: CancellationToken,
        observer: Arc<dyn Observer>,
        slot: Arc<dyn CallSlot>,
    ) -> GuestResult {
        let stop = interrupt.clone();
        // Boxed, since loading holds much on its stack.
        let load = Box::pin(async {
            let Some(module) = self.find(job).await? else { return Ok(None) };
            let job = self.with_loaded_values(job).await?;
            // The module may have been denied while it was fetched, compiled, or waited for its values.
            self.check_admission(&job).await?;
            let outside = self.outside_of(&job).await?;
            Ok(Some((module, job, outside)))
        });
        let (module, job, outside) = match stop.run_until_cancelled(load).await {
            Some(Ok(Some(loaded))) => loaded,
            Some(Err(failure)) => {
                return GuestResult::new(sandbox::Completion::Failed(failure), CallLog::default());
            }
            Some(Ok(None)) | None => {
                return GuestResult::new(sandbox::Completion::Interrupted, CallLog::default());
            }
        };
        let CallOutside { granted, recorder, unrecorded, used } = outside;
        let observer = Arc::new(RedactingObserver::new(observer, used.clone()));
        let mut span = spans::call(&job);
        let report = self.sandbox().call(&module, sandbox_call(&job, granted, interrupt, slot), observer).await;
        match &report.completion {
            sandbox::Completion::Succeeded(_) => {}
            sandbox::Completion::Failed(failure) => span.fail(failure.kind.as_str()),
            sandbox::Completion::Interrupted => span.fail("interrupted"),
        }
        span.describe(|span| span.set("waft.guest.memory", report.stats.memory));
        drop(span);
        let (counts, exchanges) = recorder.take();
        let (report, exchanges) = redacted(report, exchanges, &used, &job.limits).await;
        let mut log = log(&report);
        let mut stored = BTreeMap::new();
        // A call without a duration never reached its guest.
        if report.stats.duration > Duration::ZERO {
            metrics::global().observe_guest_memory(report.stats.memory);
            log.usage = Some(usage(&job, &report, counts));
            log.unrecorded = unrecorded;
            if let Some(exchanges) = exchanges {
                log.http = self.keep_exchanges(&exchanges, &job, &mut stored).await;
                log.unrecorded.http = log.http.is_none();
            }
        }
        match report.completion {
            sandbox::Completion::Succeeded(values) => {
                let (values, keys) = self.put_large(values, &job).await;
                stored.extend(keys);
                GuestResult { answer: sandbox::Completion::Succeeded(values), log, stored }
            }
            answer @ (sandbox::Completion::Failed(_) | sandbox::Completion::Interrupted) => {
                GuestResult { answer, log, stored }
            }
        }
    }

    fn interrupt_all(&self) {
        self.sandbox().interrupt_all();
    }

    fn granted_parts(&self, question: &GrantsQuestion) -> Vec<Vec<GrantedPart>> {
        self.outside().granted_parts(question)
    }
}

/// What a call has used.
pub(crate) fn usage(job: &Job, report: &sandbox::CallReport, http: HttpCounts) -> CallUsage {
    let sum = |values: &Values| values.values().map(|value| value.size() as u64).sum::<u64>();
    let provided = job.rollback.as_ref().and_then(|(outcome, _)| outcome.provided());
    let output_bytes = match &report.completion {
        sandbox::Completion::Succeeded(values) => sum(values),
        sandbox::Completion::Failed(_) | sandbox::Completion::Interrupted => 0,
    };
    CallUsage {
        wall: report.stats.duration,
        cpu: report.stats.cpu,
        memory: report.stats.memory,
        input_bytes: sum(&job.inputs) + provided.map_or(0, sum),
        output_bytes,
        http_requests: http.requests,
        http_request_bytes: http.request_bytes,
        http_response_bytes: http.response_bytes,
    }
}

pub(crate) fn sandbox_call(
    job: &Job,
    outside: sandbox::Outside,
    interrupt: CancellationToken,
    slot: Arc<dyn CallSlot>,
) -> Call {
    let action = match &job.rollback {
        Some((outcome, failures)) => Action::Rollback { outcome: outcome.clone(), failures: failures.clone() },
        None => Action::Apply,
    };
    // Its result may depend on nothing that differs between two calls with the same inputs.
    let MemoIdentity { run, flow, task, firing, attempt, idempotency_key, time } = MemoIdentity::of_job(job)
        .unwrap_or_else(|| MemoIdentity {
            run: job.call.run.clone(),
            flow: job.flow.clone(),
            task: job.call.task.clone(),
            firing: job.call.firing,
            attempt: job.call.attempt,
            idempotency_key: job.call.idempotency_key(),
            time: job.at,
        });
    Call {
        run,
        flow,
        task,
        export: job.export.clone(),
        firing: firing.get(),
        attempt: attempt.get(),
        idempotency_key,
        job_time: time,
        inputs: job.inputs.clone(),
        action,
        limits: job.limits,
        required_outputs: job.required_outputs.clone(),
        outside,
        interrupt,
        slot,
    }
}

/// Builds the guest's log, up to the size limit. A guest may have written millions of lines: those beyond the limit are not read.
pub(crate) fn log(report: &sandbox::CallReport) -> CallLog {
    let [stdout, stderr] = [&report.stdout, &report.stderr].map(|stream| readable(stream));
    let logged = report.log.iter().map(|line| {
        let end = line.message.floor_char_boundary(MAX_LOG_BYTES);
        (line.level.as_str(), &line.message[..end])
    });
    let stdout = stdout.lines().map(|line| ("stdout", line));
    let stderr = stderr.lines().map(|line| ("stderr", line));
    let mut log = CallLog::default();
    log.extend(logged.chain(stdout).chain(stderr));
    log
}

/// The part of a stream that fits a log, as text. If there is more, so is the text: a log that has it is cut. The last character, which may
/// not be whole, is beyond the limit.
fn readable(stream: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&stream[..stream.len().min(MAX_LOG_BYTES + 4)])
}

#[cfg(test)]
mod tests {
    use sandbox::{CallReport, Completion, Level, LogLine, Stats};

    use super::*;

    fn report(logged: &[&str], stdout: &[u8], stderr: &[u8]) -> CallReport {
        let line = |text: &&str| LogLine { level: Level::Info, message: (*text).to_owned() };
        CallReport {
            completion: Completion::Interrupted,
            log: logged.iter().map(line).collect(),
            stdout: stdout.to_vec().into(),
            stderr: stderr.to_vec().into(),
            stats: Stats::default(),
            backtrace: Vec::new(),
        }
    }

    #[test]
    fn a_log_has_the_logged_lines_and_then_the_printed_ones() {
        let log = log(&report(&["one"], b"two\nthree", b"\xff\n"));
        let lines: Vec<_> = log.lines.iter().map(|line| (line.level.as_str(), line.text.as_str())).collect();
        assert_eq!(lines, [("info", "one"), ("stdout", "two"), ("stdout", "three"), ("stderr", "\u{fffd}")]);
        assert!(!log.cut);
    }

    #[test]
    fn of_a_long_stream_only_what_fits_a_log_is_read() {
        let text = "ä\n".repeat(10 << 20);
        assert!(readable(text.as_bytes()).len() <= MAX_LOG_BYTES + 8);
        let printed = log(&report(&[], text.as_bytes(), b"lost"));
        let (last, whole) = printed.lines.split_last().unwrap();
        assert!(printed.cut && whole.iter().all(|line| line.text == "ä"));
        assert!("ä".starts_with(&last.text), "{:?}", last.text);
        let endless = "ä".repeat(10 << 20);
        let [printed, logged] = [report(&[], endless.as_bytes(), b""), report(&[endless.as_str(), "lost"], b"", b"")];
        for log in [log(&printed), log(&logged)] {
            let [line] = &log.lines[..] else { panic!("{} lines", log.lines.len()) };
            assert!(log.cut && line.text.chars().all(|letter| letter == 'ä'), "no letter is cut");
            assert!(line.text.len() > MAX_LOG_BYTES - 64, "{}", line.text.len());
        }
    }
}
