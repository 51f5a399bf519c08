//! `waft quarantine`: lists, releases or drops messages that no worker or engine could handle.

use std::sync::Arc;

use broker::Broker;
use client::quarantine::{self, QuarantineAction, QuarantineContent, QuarantineResult, QuarantinedMessage};
use serde_json::json;

use super::{connect, process_name, required_broker_url};
use crate::{
    arguments::{BrokerFlag, MessageSelection, QuarantineCommand},
    exit::{CliError, Exit},
    sanitize,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, command: QuarantineCommand) -> Result<Exit, CliError> {
    match command {
        QuarantineCommand::List { broker, json } => {
            let QuarantineContent { messages, unread, .. } = with_broker(settings, &broker, quarantine::list).await?;
            if messages.is_empty() && unread == 0 && !json {
                crate::output::note!("the quarantine is empty");
            }
            show(&messages, json);
            if unread > 0 {
                return Err(CliError::new(Exit::Unwell, unread_error(unread)).hint(UNREAD_HINT));
            }
        }
        QuarantineCommand::Release { selection, broker, json } => {
            return apply(settings, &selection, &broker, QuarantineAction::Release, json).await;
        }
        QuarantineCommand::Drop { selection, broker, json } => {
            return apply(settings, &selection, &broker, QuarantineAction::Drop, json).await;
        }
    }
    Ok(Exit::Success)
}

async fn apply(
    settings: &Settings,
    selection: &MessageSelection,
    broker: &BrokerFlag,
    action: QuarantineAction,
    as_json: bool,
) -> Result<Exit, CliError> {
    let id = selection.id.clone();
    let QuarantineResult { done, without_origin, unread, .. } =
        with_broker(settings, broker, async |broker| quarantine::apply(broker, id.as_deref(), action).await).await?;
    show(&done, as_json);
    if !without_origin.is_empty() {
        let ids: Vec<&str> = without_origin.iter().map(|message| message.id.as_str()).collect();
        let error = anyhow::anyhow!("there is no queue to release {} to", ids.join(", "));
        return Err(CliError::invalid(error).hint("they stay in quarantine; `waft quarantine drop` deletes them"));
    }
    // Whoever names a message has it, and needs no others.
    let is_complete = selection.id.is_some() && !done.is_empty();
    if unread > 0 && !is_complete {
        return Err(CliError::new(Exit::Unwell, unread_error(unread)).hint(UNREAD_HINT));
    }
    if done.is_empty() {
        let error = anyhow::anyhow!("there is no such message in quarantine");
        return Err(CliError::invalid(error).hint("`waft quarantine list` shows the messages"));
    }
    Ok(Exit::Success)
}

/// The way to the messages that were not read.
const UNREAD_HINT: &str = "one command reads 1,000 messages, and none after 256 MiB: release or drop the first ones, then repeat the \
    command";

fn unread_error(unread: u64) -> anyhow::Error {
    anyhow::anyhow!(
        "{unread} more in quarantine could not be read: there are too many messages before them, or too large ones"
    )
}

async fn with_broker<T>(
    settings: &Settings,
    flag: &BrokerFlag,
    operation: impl AsyncFnOnce(Arc<dyn Broker>) -> Result<T, quarantine::QuarantineError>,
) -> Result<T, CliError> {
    let url = required_broker_url(settings, flag)?;
    let broker = connect(url, flag.tls_ca.clone(), &format!("waft quarantine {}", process_name())).await?;
    let result = operation(broker.clone()).await;
    broker.close().await;
    result.map_err(CliError::unreachable)
}

fn show(messages: &[QuarantinedMessage], as_json: bool) {
    for QuarantinedMessage { id, queue, reason, headers, size, .. } in messages {
        if as_json {
            crate::output::json(json!({"id": id, "queue": queue, "reason": reason, "headers": headers, "size": size}));
        } else {
            let (queue, reason) = (queue.as_deref().unwrap_or("-"), reason.as_deref().unwrap_or("-"));
            // Anyone who may publish at the broker can have written these texts.
            let line = sanitize::one_line(&format!("{id}  {queue}  {reason}  {size} bytes"));
            crate::output::line(&line);
        }
    }
}
