//! `waft cancel`, `suspend`, `resume` and `retry`, for one run or for all that a filter selects on a server.

use std::io::{self, BufRead as _, IsTerminal as _};

use anyhow::anyhow;
use client::{
    Client, ClientError,
    api::{BulkAction, BulkRequest, BulkResult, RunFilter},
};

use super::{
    control::{self, ControlCommand},
    list::run_filter,
    remote,
};
use crate::{
    arguments::RunsFlags,
    exit::{CliError, Exit},
    output,
    sanitize::one_line,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, action: BulkAction, flags: RunsFlags) -> Result<Exit, CliError> {
    let RunsFlags { run, filter, all, dry_run, yes, json } = flags;
    let filter = run_filter(filter);
    if let Some(run) = run {
        if !filter.is_empty() || all || dry_run {
            let error = anyhow!("{run} names one run, and the other flags select several");
            return Err(CliError::invalid(error).hint("leave out the id, or the flags"));
        }
        return Box::pin(control::run(settings, &run, one(action), json)).await;
    }
    if filter.is_empty() && !all {
        let error = anyhow!("nothing says which runs to {action}");
        let hint = "name a run, or select runs on a server with --flow, --label, --text, --state, --since or --all";
        return Err(CliError::invalid(error).hint(hint));
    }
    if settings.logbook_is_named() {
        let error = anyhow!("a filter selects runs on a server, and --logbook names a logbook");
        let hint = "a run of `waft run` is named by its id; --server names a server";
        return Err(CliError::invalid(error).hint(hint));
    }
    let selection = Selection { client: remote::client(settings)?, action, filter, all, as_json: json };
    if dry_run {
        let found = selection.dry_run().await?;
        selection.print_dry_run(&found)?;
        return Ok(Exit::Success);
    }
    let expected = if yes { None } else { Some(selection.confirm().await?) };
    if expected == Some(0) {
        return Ok(Exit::Success);
    }
    selection.send(expected).await
}

/// The command for one run.
fn one(action: BulkAction) -> ControlCommand {
    match action {
        BulkAction::Cancel => ControlCommand::Cancel,
        BulkAction::Suspend => ControlCommand::Suspend,
        BulkAction::Resume => ControlCommand::Resume,
        BulkAction::Retry => ControlCommand::Retry,
    }
}

/// Runs on a server, and the command for them.
struct Selection {
    client: Client,
    action: BulkAction,
    filter: RunFilter,
    all: bool,
    as_json: bool,
}

impl Selection {
    fn request(&self) -> BulkRequest {
        let request = BulkRequest::new(self.action, self.filter.clone());
        if self.all { request.all() } else { request }
    }

    async fn dry_run(&self) -> Result<BulkResult, CliError> {
        self.client.bulk(&self.request().dry_run()).await.map_err(|error| {
            let is_unreachable = matches!(error, ClientError::Unreachable { .. });
            let failed = remote::cli_error(error);
            if is_unreachable {
                with_hint(failed, "a filter selects runs on a server; a run of `waft run` is named by its id")
            } else {
                failed
            }
        })
    }

    fn print_dry_run(&self, found: &BulkResult) -> Result<(), CliError> {
        if self.as_json {
            output::json(serde_json::to_string(found).map_err(CliError::unreachable)?);
            return Ok(());
        }
        for run in &found.first {
            output::line(run);
        }
        let count = found.matched.unwrap_or_default();
        let others = if count > found.first.len() as u64 { ", the first of them above" } else { "" };
        output::note!("{} would be asked to {}{others}", runs(count), self.action);
        Ok(())
    }

    /// Asks whether to send the command to the runs that are there now. Returns their number.
    async fn confirm(&self) -> Result<u64, CliError> {
        let found = self.dry_run().await?;
        let count = found.matched.unwrap_or_default();
        let counted = runs(count);
        if count == 0 {
            output::note!("no run fits that can be asked to {}", self.action);
            return Ok(0);
        }
        if !io::stdin().is_terminal() {
            let error = anyhow!("this would {} {counted}, and there is no terminal to ask at", self.action);
            return Err(CliError::invalid(error).hint("give --yes; --dry-run shows the runs"));
        }
        let first: Vec<String> = found.first.iter().take(3).map(|run| one_line(run)).collect();
        let others = if count > first.len() as u64 { ", …" } else { "" };
        output::note!("{counted}: {}{others}\n{} them? [y/N]", first.join(", "), self.action);
        // The thread ends with the process, also if nobody answers.
        let answer = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line).map(|_| line)
        });
        let answer = answer.await.map_err(CliError::unreachable)?.map_err(CliError::unreachable)?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(count);
        }
        Err(CliError::invalid(anyhow!("nothing was done")))
    }

    /// Sends the command until no run is left.
    async fn send(&self, expected: Option<u64>) -> Result<Exit, CliError> {
        let (mut done, mut refused, mut not_shown, mut matched) = (0, 0, 0, None);
        let mut request = BulkRequest { expect: expected, ..self.request() };
        loop {
            let result = self.client.bulk(&request).await.map_err(|error| self.stopped(error, done, refused))?;
            done += result.done;
            refused += result.refused;
            not_shown += result.refused.saturating_sub(result.refusals.len() as u64);
            matched = matched.or(result.matched);
            if self.as_json {
                output::json(serde_json::to_string(&result).map_err(CliError::unreachable)?);
            } else {
                for refusal in &result.refusals {
                    let line = format!("{}: {}", refusal.run, refusal.reason);
                    output::note!("{}", one_line(&line));
                }
                if result.next.is_some() {
                    // A token without the scope `read` does not get their number.
                    let all = matched.map(|matched| format!(" of {matched}")).unwrap_or_default();
                    output::note!("{}{all} so far", done + refused);
                }
            }
            match result.next {
                Some(next) => request = BulkRequest { after: Some(next), expect: None, ..request },
                None => break,
            }
        }
        if !self.as_json {
            if not_shown > 0 {
                output::note!("{not_shown} more were refused");
            }
            output::say!("{}: {} done, {refused} refused", self.action, runs(done));
        }
        Ok(if refused == 0 { Exit::Success } else { Exit::Invalid })
    }

    /// The error of a request, and how far the requests before it came.
    fn stopped(&self, error: ClientError, done: u64, refused: u64) -> CliError {
        let failed = remote::cli_error(error);
        if done + refused == 0 {
            return failed;
        }
        output::note!("{}: {} done, {refused} refused, and more are left", self.action, runs(done));
        with_hint(failed, "the same command again goes on with the runs that are left")
    }
}

/// An error with one more hint.
fn with_hint(failed: CliError, hint: &str) -> CliError {
    let hint = failed.hint.as_ref().map_or_else(|| hint.to_owned(), |known| format!("{known}; {hint}"));
    failed.hint(hint)
}

fn runs(count: u64) -> String {
    if count == 1 { "1 run".to_owned() } else { format!("{count} runs") }
}
