//! `waft permits`: lists the tasks of a server whose calls hold permits or wait for them.

use api::{PermitCall, Permits, PermitsQuery, TaskPermits};

use super::remote;
use crate::{
    exit::{CliError, Exit},
    output, sanitize,
    settings::Settings,
};

/// What the list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// One JSON object per task.
    Json,
    /// A table of the tasks.
    Tasks,
    /// The same, with some calls of each task.
    Calls,
}

impl Shown {
    /// A table, with calls or without.
    pub(super) const fn table(with_calls: bool) -> Self {
        if with_calls { Self::Calls } else { Self::Tasks }
    }
}

pub(super) async fn run(
    settings: &Settings,
    flow: Option<String>,
    namespace: Option<String>,
    shown: Shown,
) -> Result<Exit, CliError> {
    let client = remote::client(settings)?;
    let (mut query, mut is_first) = (PermitsQuery { flow, namespace, limit: None, after: None }, true);
    loop {
        let Permits { tasks, unanswered, next } = client.permits(&query).await.map_err(remote::cli_error)?;
        for task in &tasks {
            if shown == Shown::Json {
                output::json(serde_json::to_string(task).map_err(CliError::unreachable)?);
                continue;
            }
            if std::mem::take(&mut is_first) {
                crate::output::say!("{:>7}  {:>7}  {:>7}  {:10}  TASK", "GIVEN", "MAX", "WAITING", "RATE");
            }
            print_task(task, shown);
        }
        if !unanswered.is_empty() {
            let shards = sanitize::one_line(&unanswered.join(", "));
            crate::output::note!("no engine has answered for the shards {shards}: the calls of their runs are missing");
        }
        let Some(next) = next else { break };
        query.after = Some(next);
    }
    if is_first && shown != Shown::Json {
        crate::output::note!("no call holds a permit or waits for one");
    }
    Ok(Exit::Success)
}

fn print_task(permits: &TaskPermits, shown: Shown) {
    let TaskPermits { flow, task, max_running, rate, given, waiting, holders, next } = permits;
    let max = max_running.map_or_else(|| "-".to_owned(), |max| max.to_string());
    let rate = rate.as_deref().unwrap_or("-");
    let line = format!("{given:>7}  {max:>7}  {waiting:>7}  {rate:10}  {flow} {task}");
    output::line(&sanitize::one_line(&line));
    if shown == Shown::Calls {
        holders.iter().for_each(|call| print_call("has a permit", call));
        next.iter().for_each(|call| print_call("waits", call));
    }
}

fn print_call(what: &str, PermitCall { run, task, firing, attempt, call }: &PermitCall) {
    let line = format!("  {what}: {call} {run} {task}, firing {firing}, attempt {attempt}");
    output::line(&sanitize::one_line(&line));
}
