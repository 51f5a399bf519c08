//! `waft logs`: prints what guests wrote during a run, or follows it.

use std::time::Duration;

use ::server::LogFollow;
use anyhow::anyhow;
use client::{
    LogPages, LogWatch,
    api::{AttemptLog, ExchangesQuery, LogEvent, LogsQuery, RunExchanges},
};

use super::{
    remote,
    run_location::{LocalRun, RunLocation, locate_to_read},
    source::Source,
};
use crate::{
    arguments::ExchangesFlags,
    display::{self, log::Title},
    exit::{CliError, Exit},
    modules, output, sanitize,
    settings::Settings,
    signals::StopSignal,
};

pub(super) async fn run(settings: &Settings, run: &str, task: Option<&str>, as_json: bool) -> Result<Exit, CliError> {
    let query = LogsQuery::default();
    let query = if let Some(task) = task { query.task(task) } else { query };
    let mut pages = match locate_to_read(settings, run).await? {
        RunLocation::Server(client) => Pages::Server(Box::new(client.log_pages(run, query))),
        RunLocation::Local(local) => Pages::Local(local, Some(query)),
    };
    let mut is_empty = true;
    // The logs of a run may be larger than the memory.
    while let Some(logs) = pages.next().await? {
        // The query also selects the elements of the task.
        for log in logs.iter().filter(|log| task.is_none_or(|task| log.task == task)) {
            is_empty = false;
            if as_json {
                output::json(serde_json::to_string(log).map_err(CliError::unreachable)?);
            } else {
                display::log::lines(log).iter().for_each(|line| output::line(line));
            }
        }
    }
    if is_empty && !as_json {
        crate::output::note!("no guest has written anything");
    }
    Ok(Exit::Success)
}

/// The pages of the logs of a run.
enum Pages {
    Server(Box<LogPages>),
    /// The logbook of this machine, and the query for the next page.
    Local(LocalRun, Option<LogsQuery>),
}

impl Pages {
    async fn next(&mut self) -> Result<Option<Vec<AttemptLog>>, CliError> {
        match self {
            Self::Server(pages) => pages.next().await.map_err(remote::cli_error),
            Self::Local(LocalRun { logbook, run }, next) => {
                let Some(query) = next.take() else { return Ok(None) };
                let page = ::server::logs(&**logbook, run, query.clone()).await;
                let page = page.map_err(|problem| remote::local_refusal(problem.into_document()))?;
                *next = page.next.map(|after| query.after(after));
                Ok(Some(page.logs))
            }
        }
    }
}

/// Prints a page of the recorded HTTP exchanges of a run, in the order in which the attempts ended.
pub(super) async fn http(
    settings: &Settings,
    run: &str,
    task: Option<String>,
    ExchangesFlags { firing, attempt, rollback, before }: ExchangesFlags,
    as_json: bool,
) -> Result<Exit, CliError> {
    let mut query = ExchangesQuery::default();
    (query.firing, query.attempt, query.after) = (firing, attempt, before);
    query.call = rollback.then(|| flow::Action::Rollback.as_str().to_owned());
    query.task.clone_from(&task);
    let location = locate_to_read(settings, run).await?;
    let RunExchanges { attempts, next } = loop {
        let page = match &location {
            RunLocation::Server(client) => client.exchanges(run, &query).await.map_err(remote::cli_error)?,
            RunLocation::Local(LocalRun { logbook, run }) => {
                let store = modules::open_store_to_read(settings).await?;
                ::server::exchanges(&**logbook, &*store, run, query.clone())
                    .await
                    .map_err(|problem| remote::local_refusal(problem.into_document()))?
            }
        };
        match page {
            // Among many attempts of other tasks, a page ends before it has found one.
            RunExchanges { attempts, next: Some(next) } if attempts.is_empty() => query.after = Some(next),
            page => break page,
        }
    };
    if attempts.is_empty() && !as_json {
        match &task {
            Some(task) => {
                crate::output::note!("no HTTP exchange of {} was recorded in this run", sanitize::one_line(task))
            }
            None => crate::output::note!("no HTTP exchange of this run was recorded"),
        }
    }
    for attempt in attempts.iter().rev() {
        if as_json {
            output::json(serde_json::to_string(attempt).map_err(CliError::unreachable)?);
        } else {
            display::exchanges::lines(attempt).iter().for_each(|line| output::line(line));
        }
    }
    if let Some(next) = next {
        crate::output::note!("earlier attempts have exchanges too: add --before {}", sanitize::one_line(&next));
    }
    Ok(Exit::Success)
}

/// The interval at which it checks whether a process drives a run of `waft run`.
const DRIVER_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Prints lines as they are written, until the run has ended.
pub(super) async fn follow(
    settings: &Settings,
    run: &str,
    task: Option<&str>,
    as_json: bool,
) -> Result<Exit, CliError> {
    let stop = StopSignal::listen().map_err(CliError::unreachable)?;
    let source = stop.until_stop_requested(Source::of(settings, run)).await?;
    let logs = match &source {
        Source::Server(client) => Logs::Server(Box::new(client.follow_logs(run))),
        Source::Local(LocalRun { logbook, run }, _) => {
            Logs::Local(Box::new(LogFollow::new(run.clone(), logbook.clone())))
        }
    };
    // The run continues without this follower.
    tokio::select! {
        shown = show(&source, logs, task, as_json) => shown.map(|()| Exit::Success),
        () = stop.requested.cancelled() => {
            Err(CliError::new(Exit::Interrupted, anyhow!("stopped following; run {run} continues")))
        }
    }
}

/// The source of the lines.
enum Logs {
    Server(Box<LogWatch>),
    /// The logbook holds the lines of an attempt once it has ended.
    Local(Box<LogFollow>),
}

impl Logs {
    async fn next(&mut self) -> Result<Option<LogEvent>, CliError> {
        match self {
            Self::Server(watch) => watch.next().await.map_err(remote::cli_error),
            Self::Local(follow) => Ok(follow.next().await.map_err(CliError::unreachable)?.map(|(_, event)| event)),
        }
    }
}

async fn show(source: &Source, mut logs: Logs, task: Option<&str>, as_json: bool) -> Result<(), CliError> {
    let mut driver_check = tokio::time::interval(DRIVER_CHECK_INTERVAL);
    driver_check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        driver_check.reset();
        let event = {
            let next = logs.next();
            tokio::pin!(next);
            loop {
                tokio::select! {
                    event = &mut next => break event?,
                    _ = driver_check.tick() => source.check_driver().await?,
                }
            }
        };
        let Some(event) = event else { return Ok(()) };
        let attempt = match &event {
            LogEvent::Line { attempt, .. } | LogEvent::Missing { attempt, .. } | LogEvent::Cut(attempt) => attempt,
            LogEvent::End(_) | LogEvent::Run { .. } | LogEvent::Unknown => continue,
        };
        if task.is_some_and(|task| task != attempt.task) {
            continue;
        }
        if as_json {
            output::json(serde_json::to_string(&event).map_err(CliError::unreachable)?);
            continue;
        }
        let title = Title::of_followed(attempt);
        match &event {
            LogEvent::Line { level, text, .. } => output::line(&title.line(level.as_str(), text)),
            LogEvent::Cut(_) => output::line(&title.cut()),
            LogEvent::Missing { lines, .. } => output::diagnostic(&title.missing(*lines)),
            LogEvent::End(_) | LogEvent::Run { .. } | LogEvent::Unknown => {}
        }
    }
}
