//! `waft queues`: lists the known queues of jobs of a server.

use api::{JobQueue, JobQueues, QueueState, QueuesQuery};

use super::remote;
use crate::{
    exit::{CliError, Exit},
    output, sanitize,
    settings::Settings,
};

pub(super) async fn run(
    settings: &Settings,
    queue: Option<String>,
    namespace: Option<String>,
    as_json: bool,
) -> Result<Exit, CliError> {
    let client = remote::client(settings)?;
    let (mut query, mut is_first) = (QueuesQuery { queue, namespace, limit: None, after: None }, true);
    loop {
        let JobQueues { queues, next } = client.queues(&query).await.map_err(remote::cli_error)?;
        for queue in &queues {
            if as_json {
                output::json(serde_json::to_string(queue).map_err(CliError::unreachable)?);
                continue;
            }
            if std::mem::take(&mut is_first) {
                crate::output::say!("{:>8}  {:>9}  {:>7}  QUEUE", "MESSAGES", "CONSUMERS", "WORKERS");
            }
            output::line(&sanitize::one_line(&line(queue)));
        }
        let Some(next) = next else { return Ok(Exit::Success) };
        query.after = Some(next);
    }
}

fn line(JobQueue { queue, state, messages, consumers, workers }: &JobQueue) -> String {
    let number = |number: &Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let (messages, consumers) = (number(messages), number(consumers));
    let state = if *state == QueueState::Exists { String::new() } else { format!(" ({state})") };
    format!("{messages:>8}  {consumers:>9}  {workers:>7}  {queue}{state}")
}
