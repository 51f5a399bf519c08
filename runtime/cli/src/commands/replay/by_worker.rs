//! `waft verify --worker`: lets a worker call a recorded attempt again. The call is a run of its own with one task, so it goes through the
//! API, the queue, the limits and the keys as any other call does, and leaves a record. Its task has `memo = "never"`: the guest
//! sees the fixed call of `memo`, and no remembered result is taken, kept or forgotten.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, anyhow};
use client::{
    Client,
    api::{Run, Submission},
    flow::{Draft, LimitOverrides, RetryPolicy},
};
use flow::{Memo, RunState, WorkerName};
use protocol::{Job, RecordedAttempt, RecordedOutcome};
use sandbox::Completion;
use serde_json::json;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use super::{
    attempt::{self, Attempt},
    compare::{Comparison, not_of_guest},
    report::{describe_recorded, print_comparison, recorded_json},
};
use crate::{
    arguments::VerifyFlags,
    commands::{
        remote,
        run_location::{RunLocation, locate_to_read},
    },
    exit::{CliError, Exit},
    output, sanitize,
    settings::Settings,
    signals::StopSignal,
};

/// The task and the last part of the name of the flow.
const NAME: &str = "verify";

/// How long the call waits for a worker: its queue may be long, and nobody may consume it any more.
const WORKER_TIMEOUT: Duration = Duration::from_secs(3_600);

/// A recorded attempt, and the one that verifies it.
struct Verification {
    recorded: RecordedAttempt,
    /// The run of the second call.
    run: String,
    queue: String,
    verified: RecordedAttempt,
    comparison: Comparison,
}

pub(super) async fn verify(settings: &Settings, flags: &VerifyFlags) -> Result<Exit, CliError> {
    let RunLocation::Server(client) = locate_to_read(settings, &flags.run).await? else {
        let error =
            anyhow!("the run {} is in a logbook of this machine, and workers are found through a server", flags.run);
        return Err(
            CliError::invalid(error).hint("name the server with --server or WAFT_SERVER, or leave out --worker")
        );
    };
    let attempt = Attempt::check(attempt::read(settings, &flags.to_replay()).await?).map_err(CliError::unreachable)?;
    let expected = expected_job(&attempt.job, flags)?;
    if let Some(reason) = attempt.recorded.outcome.as_ref().map_or(Some("it has not ended"), unknown) {
        let error = anyhow!("{} cannot be verified: {reason}", expected.call.task);
        return Err(CliError::invalid(error));
    }
    let queue = queue_of(&client, &expected).await?;
    let submission = submission(&expected, &queue)?;
    let submitted = client.submit(&submission).await.map_err(|error| {
        let error = remote::cli_error(error);
        CliError { error: error.error.context("the server has refused the run that calls the task again"), ..error }
    })?;
    output::note!("run {} calls {} again", sanitize::one_line(&submitted.run), expected.call.task);
    let ended = wait(&client, submitted).await?;
    let verified = read_attempt(&client, &ended).await?;
    let comparison = compare(&attempt.recorded, &expected, &verified);
    let recorded = attempt.recorded;
    let verification = Verification { recorded, run: ended.run, queue, verified: verified.recorded, comparison };
    match flags.json {
        true => output::json(verification.json()),
        false => verification.print(),
    }
    Ok(verification.exit())
}

/// The job that the second call should have.
fn expected_job(recorded: &Job, flags: &VerifyFlags) -> Result<Job, CliError> {
    let mut job = recorded.clone();
    super::set_memo(&mut job, flags)?;
    if job.access.memo.is_none() {
        let error = anyhow!(
            "the guest of {} sees its run, which has no memo: a worker would call it in another run",
            job.call.task
        );
        return Err(CliError::invalid(error)
            .hint("add --memo to call it as if it had memo, or leave out --worker to call it here"));
    }
    job.access.memo = Some(Memo::Never);
    Ok(job)
}

/// Why an outcome does not say how the guest ended, if it does not.
fn unknown(outcome: &RecordedOutcome) -> Option<&'static str> {
    match outcome {
        RecordedOutcome::Succeeded(_) | RecordedOutcome::RolledBack => None,
        RecordedOutcome::Failed(failure) => not_of_guest(failure.kind),
        RecordedOutcome::Lost => Some("its worker was lost"),
    }
}

/// The queue of the task.
async fn queue_of(client: &Client, job: &Job) -> Result<String, CliError> {
    let run = client.run(job.call.run.as_str()).await.map_err(remote::cli_error)?;
    let task = job.call.task.base();
    let queue = run.tasks.into_iter().find(|node| node.name == task.as_str()).and_then(|node| node.queue);
    queue.ok_or_else(|| CliError::invalid(anyhow!("the server does not say which queue the jobs of {task} have")))
}

/// The run that makes the same call.
fn submission(job: &Job, queue: &str) -> Result<Submission, CliError> {
    let function = job.export.as_ref().map_or(String::new(), |export| format!("#{export}"));
    let name = job.flow.namespace().map_or(NAME.to_owned(), |namespace| format!("{namespace}/{NAME}"));
    let draft = Draft::builder(name).map_err(CliError::invalid)?.module("module", job.module.to_string());
    // A value may have the same name as an input and as an output, so all get names of their own.
    let inputs = job.inputs.iter().enumerate();
    let draft = inputs.fold(draft, |draft, (number, (_, value))| draft.input(input_name(number), value.clone()));
    let draft = draft.task(NAME, format!("module{function}"), |task| {
        let task = task.requires_same([""; 0]).provides_same([""; 0]);
        let names = job.inputs.keys().enumerate();
        let task = names.fold(task, |task, (number, name)| task.requires(name, input_name(number)));
        let names = job.required_outputs.iter().enumerate();
        let task = names.fold(task, |task, (number, name)| task.provides(name, format!("verify_output_{number}")));
        task.allow(job.access.clone())
            .limits(LimitOverrides::from(job.limits))
            .queue(queue)
            .expires(WORKER_TIMEOUT)
            .retry(RetryPolicy { attempts: 1, ..RetryPolicy::default() })
            .rollback(false)
    });
    let submission = Submission::of(&draft.build()).context("the call cannot be written as a flow");
    let submission = submission.map_err(CliError::invalid)?;
    let run = format!("{NAME}-{}", submission.run.as_deref().unwrap_or_default());
    Ok(submission.run(run))
}

fn input_name(number: usize) -> String {
    format!("verify_input_{number}")
}

/// Waits until the run has ended, and says once each what it waits for. It continues without this process.
async fn wait(client: &Client, run: Run) -> Result<Run, CliError> {
    let stop = StopSignal::listen().map_err(CliError::unreachable)?;
    let mut wait_check = tokio::time::interval(remote::WAIT_HINT_AFTER);
    wait_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = BTreeSet::new();
    let ended = client.wait(&run.run);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            ended = &mut ended => return ended.map_err(remote::cli_error),
            _ = wait_check.tick() => {
                // If the server cannot answer now, it is asked again; the run continues anyway.
                let reasons = client.run(&run.run).await.map(|run| remote::waiting_reasons(&run)).unwrap_or_default();
                let new = reasons.into_iter().filter(|reason| shown.insert(reason.clone()));
                new.for_each(|reason| output::note!("{reason}"));
            }
            () = stop.requested.cancelled() => {
                let run = &run.run;
                return Err(CliError::new(Exit::Interrupted, anyhow!("stopped waiting; run {run} continues"))
                    .hint(format!("`waft show {run}` shows its result, `waft cancel {run}` stops it")));
            }
        }
    }
}

async fn read_attempt(client: &Client, run: &Run) -> Result<Attempt, CliError> {
    let state = remote::state(run)?;
    if !matches!(state, RunState::Success | RunState::RolledBack | RunState::Failure) {
        return Err(CliError::invalid(anyhow!("run {} is {state}, and calls nothing until it is resumed", run.run)));
    }
    let bytes = client.attempt(&run.run, NAME, &[("call", "apply".to_owned())]).await.map_err(remote::cli_error)?;
    let recorded = RecordedAttempt::decode(&bytes).map_err(CliError::unreachable)?;
    Attempt::check(recorded).map_err(CliError::unreachable)
}

/// Compares what the second call returned with what was recorded, if it was the same call, and a guest was called.
fn compare(recorded: &RecordedAttempt, expected: &Job, verified: &Attempt) -> Comparison {
    if !is_same_call(expected, &verified.job) {
        return Comparison::NotCompared("the server has made another call of it".to_owned());
    }
    let not_made = |reason: &str| Comparison::NotCompared(format!("it was not called again to its end: {reason}"));
    let completion = match &verified.recorded.outcome {
        None => return not_made("the run has ended before"),
        Some(outcome) if let Some(reason) = unknown(outcome) => return not_made(reason),
        // Only a worker knows how a guest ends. The engine fails a call that no worker took in time.
        Some(_) if verified.recorded.worker.is_none() => return not_made("no worker has answered"),
        Some(RecordedOutcome::Succeeded(values)) => Completion::Succeeded(values.clone()),
        Some(RecordedOutcome::Failed(failure)) => Completion::Failed(failure.clone()),
        Some(RecordedOutcome::RolledBack | RecordedOutcome::Lost) => return not_made("it was no apply"),
    };
    Comparison::of(recorded.outcome.as_ref(), expected, &completion)
}

/// Whether two calls are the same for their guests, given that both see the fixed call of `memo`.
fn is_same_call(expected: &Job, made: &Job) -> bool {
    let parts = |job: &Job| {
        let Job { module, export, inputs, required_outputs, limits, access, .. } = job.clone();
        (job.flow.namespace(), module, export, inputs, required_outputs, limits, access)
    };
    parts(expected) == parts(made)
}

impl Verification {
    fn is_function(&self) -> Option<bool> {
        match self.comparison {
            Comparison::Same { .. } => Some(true),
            Comparison::Differs(_) => Some(false),
            Comparison::NotCompared(_) => None,
        }
    }

    /// Whether another worker made the second call; `None` if one of them is not known.
    fn is_by_another_worker(&self) -> Option<bool> {
        Some(self.recorded.worker.as_ref()? != self.verified.worker.as_ref()?)
    }

    fn exit(&self) -> Exit {
        match self.comparison {
            Comparison::Same { .. } => Exit::Success,
            Comparison::Differs(_) => Exit::Differs,
            Comparison::NotCompared(_) => Exit::Invalid,
        }
    }

    fn verdict(&self) -> String {
        let task = &self.recorded.job.call.task;
        let worker = self.verified.worker.as_ref().map_or("a worker", WorkerName::as_str);
        let worker = sanitize::one_line(worker);
        let by = match self.is_by_another_worker() {
            Some(false) => format!("{worker}, which made the recorded call too"),
            Some(true) | None => worker.clone(),
        };
        match &self.comparison {
            Comparison::Same { .. } => format!("{task} gave the same result on {by}"),
            Comparison::Differs(_) => format!(
                "{task} is not a function of its inputs: the same call gave another result on {by}. Or one of the workers reported \
                 what the guest did not return"
            ),
            Comparison::NotCompared(reason) => format!("{task} cannot be verified: {reason}"),
        }
    }

    fn print(&self) {
        let (call, first) = (&self.recorded.job.call, worker_name(&self.recorded));
        let (attempt, firing) = (call.attempt, call.firing);
        output::line(&format!(
            "{}  apply of {}, attempt {attempt} of firing {firing}, on {first}",
            call.run, call.task
        ));
        output::line(&format!(
            "{}  the same call in the queue {}, on {}",
            self.run,
            self.queue,
            worker_name(&self.verified)
        ));
        output::line(&format!("recorded: {}", describe_recorded(self.recorded.outcome.as_ref())));
        output::line(&format!("now:      {}", describe_recorded(self.verified.outcome.as_ref())));
        print_comparison(&self.comparison);
        if self.is_function() == Some(false) {
            let (run, task, verified_by) = (&call.run, &call.task, &self.run);
            let (worker, other_worker) = (first, worker_name(&self.verified));
            warn!(%run, %task, worker, verified_by, other_worker, "the same call has given two results");
        }
        output::line(&self.verdict());
    }

    fn json(&self) -> serde_json::Value {
        let (job, call) = (&self.recorded.job, &self.recorded.job.call);
        let (differences, reason) = self.comparison.parts();
        let worker = |attempt: &RecordedAttempt| attempt.worker.as_ref().map(ToString::to_string);
        json!({
            "run": call.run.as_str(),
            "flow": job.flow.as_str(),
            "task": call.task.as_str(),
            "firing": call.firing.get(),
            "attempt": call.attempt.get(),
            "call": call.action.as_str(),
            "module": job.module.to_string(),
            "worker": worker(&self.recorded),
            "verified_by": { "run": self.run, "queue": self.queue, "worker": worker(&self.verified) },
            "another_worker": self.is_by_another_worker(),
            "comparison": self.comparison.word(),
            "differences": differences,
            "reason": reason,
            "recorded": self.recorded.outcome.as_ref().map(recorded_json),
            "replayed": self.verified.outcome.as_ref().map(recorded_json),
            "is_function_of_inputs": self.is_function(),
        })
    }
}

/// The name of the worker of an attempt, for a line.
fn worker_name(attempt: &RecordedAttempt) -> String {
    attempt
        .worker
        .as_ref()
        .map_or("a worker that is not known".to_owned(), |worker| sanitize::one_line(worker.as_str()))
}
