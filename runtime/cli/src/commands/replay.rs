//! `waft replay` and `waft verify`: run a recorded attempt again, and compare its outcome.

mod attempt;
mod by_worker;
mod compare;
mod report;

use std::path::Path;

use ::worker::{ReplayResult, replay};
use anyhow::{Context as _, anyhow};
use flow::{Digest, Memo};
use protocol::{Job, RecordedAttempt};

use self::{attempt::Attempt, compare::Comparison, report::Report};
use crate::{
    arguments::{ReplayFlags, VerifyFlags},
    exit::{CliError, Exit},
    modules::{self, ModuleLibrary},
    output,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, flags: ReplayFlags) -> Result<Exit, CliError> {
    let recorded = attempt::read(settings, &flags).await?;
    if let Some(path) = &flags.bundle {
        attempt::write(&recorded, path)?;
        return Ok(Exit::Success);
    }
    let attempt = check(settings, recorded)?;
    let library = modules::open_to_replay(settings).await?;
    let (digest, replayed) = call(&library, &attempt, flags.module.as_deref()).await?;
    let comparison = Comparison::of(attempt.recorded.outcome.as_ref(), &attempt.job, &replayed.completion);
    let report = Report { attempt: &attempt, digest, replayed: &replayed, comparison: &comparison };
    match flags.json {
        true => output::json(report.json()),
        false => report.print(),
    }
    Ok(match comparison {
        // A fixed module is expected to end in another way.
        Comparison::Differs(_) if flags.module.is_none() => Exit::Differs,
        Comparison::Differs(_) | Comparison::Same { .. } | Comparison::NotCompared(_) => Exit::Success,
    })
}

/// Calls the recorded module again, as in a replay. An outcome that differs shows that the task is not a function of its inputs, or
/// that its worker has not reported what the guest returned.
pub(super) async fn verify(settings: &Settings, flags: VerifyFlags) -> Result<Exit, CliError> {
    if flags.worker {
        return by_worker::verify(settings, &flags).await;
    }
    let mut attempt = check(settings, attempt::read(settings, &flags.to_replay()).await?)?;
    set_memo(&mut attempt.job, &flags)?;
    let library = modules::open_to_replay(settings).await?;
    let (digest, replayed) = call(&library, &attempt, None).await?;
    let comparison = Comparison::of(attempt.recorded.outcome.as_ref(), &attempt.job, &replayed.completion);
    let report = Report { attempt: &attempt, digest, replayed: &replayed, comparison: &comparison };
    let task = &attempt.job.call.task;
    let (is_function, verdict, exit) = match &comparison {
        Comparison::Same { .. } => (Some(true), format!("{task} gave the same result"), Exit::Success),
        Comparison::Differs(_) => {
            let verdict = format!(
                "{task} is not a function of its inputs: the same call gave another result. Or its worker reported what the \
                 guest did not return"
            );
            (Some(false), verdict, Exit::Differs)
        }
        Comparison::NotCompared(reason) => (None, format!("{task} cannot be verified: {reason}"), Exit::Invalid),
    };
    if flags.json {
        let mut json = report.json();
        json["is_function_of_inputs"] = is_function.into();
        output::json(json);
    } else {
        report.print();
        output::line(&verdict);
    }
    Ok(exit)
}

/// With `--memo`, lets the guest of a job see what that of a task with `memo` sees.
fn set_memo(job: &mut Job, flags: &VerifyFlags) -> Result<(), CliError> {
    if !flags.memo {
        return Ok(());
    }
    if job.access.needs_grants() {
        let error = anyhow!("task {} may reach what is outside its sandbox, so it cannot have memo", flags.task);
        return Err(CliError::invalid(error).hint("verify it without --memo"));
    }
    job.access.memo.get_or_insert(Memo::Unlimited);
    Ok(())
}

/// Checks the contents of an attempt, and that this machine may run it.
fn check(settings: &Settings, recorded: RecordedAttempt) -> Result<Attempt, CliError> {
    let attempt = Attempt::check(recorded).map_err(|error| {
        CliError::invalid(error)
            .hint("nothing in the file is trusted: ask its author for another one, or name the run and a server")
    })?;
    // The sandbox would refuse it too, as the outcome of a call.
    if let Some(exceeded) = attempt.job.limits.exceeding(&settings.max_limits).into_iter().next() {
        let error = anyhow!("the attempt cannot be replayed on this machine: {exceeded}");
        return Err(CliError::invalid(error).hint("raise it under [limits] in the settings of this machine"));
    }
    Ok(attempt)
}

/// Calls the recorded module, or another one, and returns its digest too.
async fn call(
    library: &ModuleLibrary,
    attempt: &Attempt,
    module: Option<&Path>,
) -> Result<(Digest, ReplayResult), CliError> {
    let (digest, bytes) = match module {
        None => (attempt.job.module, attempt.module.clone()),
        Some(path) => {
            let component = modules::component(library, path).await.map_err(CliError::invalid)?;
            (component.digest, component.bytes)
        }
    };
    library.check_size(bytes.len() as u64).map_err(CliError::invalid)?;
    library.admit(&digest, None, &[]).await.map_err(|error| {
        let error = match error {
            ::server::LibraryError::NotAdmitted(refusal) => anyhow!(refusal),
            error => anyhow!(error),
        };
        let advice = modules::advice(&error);
        let error = CliError::invalid(error.context("the module may not run on this machine"));
        advice.into_iter().fold(error, CliError::hint)
    })?;
    let compiled = match library.sandbox.cached(&digest).await {
        Some(compiled) => compiled,
        None => library
            .sandbox
            .compile(digest, bytes)
            .await
            .context("the module cannot be called")
            .map_err(CliError::invalid)?,
    };
    Ok((digest, replay(&library.sandbox, &compiled, &attempt.job, attempt.http.clone()).await))
}
