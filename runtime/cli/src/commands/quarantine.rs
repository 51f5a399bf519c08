//! `waft quarantine`: lists, releases or drops messages that no worker or engine could handle.

use std::{collections::BTreeMap, sync::Arc};

use api::QuarantineSelection;
use broker::Broker;
use client::quarantine::{self, QuarantineAction};
use serde_json::json;

use super::{broker_url, connect, process_name, remote, required_broker_url};
use crate::{
    arguments::{BrokerFlag, MessageSelection, QuarantineCommand},
    exit::{CliError, Exit},
    sanitize,
    settings::Settings,
};

/// The maximum number of messages that an error names.
const MAX_NAMED: usize = 10;

/// A message in quarantine.
struct QuarantinedMessage {
    id: String,
    queue: Option<String>,
    reason: Option<String>,
    headers: BTreeMap<String, String>,
    size: u64,
}

/// What a command has read or changed.
struct Affected {
    /// The messages that it lists, or that it has released or dropped.
    messages: Vec<QuarantinedMessage>,
    /// The messages that could not be released.
    without_origin: Vec<QuarantinedMessage>,
    /// The number of messages that were not read.
    unread: u64,
}

pub(super) async fn run(settings: &Settings, command: QuarantineCommand) -> Result<Exit, CliError> {
    match command {
        QuarantineCommand::List { broker, json } => {
            let place = Place::of(settings, broker);
            let Affected { messages, unread, .. } = list(settings, &place).await?;
            if messages.is_empty() && unread == 0 && !json {
                crate::output::note!("the quarantine is empty");
            }
            show(&messages, json);
            if unread > 0 {
                return Err(CliError::new(Exit::Unwell, unread_error(unread)).hint(place.unread_hint()));
            }
        }
        QuarantineCommand::Release { selection, broker, json } => {
            return apply(settings, &selection, broker, QuarantineAction::Release, json).await;
        }
        QuarantineCommand::Drop { selection, broker, json } => {
            return apply(settings, &selection, broker, QuarantineAction::Drop, json).await;
        }
    }
    Ok(Exit::Success)
}

/// Where the quarantine is read.
enum Place {
    /// At a broker, as an operator.
    Broker(BrokerFlag),
    /// By a server, with the token of an admin.
    Server,
}

impl Place {
    /// What a flag names comes first, since messages are deleted there. Otherwise a chosen server is asked only if no broker is
    /// known: whoever asks a broker needs no token.
    fn of(settings: &Settings, flag: BrokerFlag) -> Self {
        let is_named = settings.server_is_named && flag.broker.as_ref().is_none_or(String::is_empty);
        if is_named || (settings.server.is_chosen() && broker_url(settings, &flag).is_none()) {
            Self::Server
        } else {
            Self::Broker(flag)
        }
    }

    /// The way to the messages that were not read.
    const fn unread_hint(&self) -> &'static str {
        match self {
            Self::Broker(_) => {
                "one command reads 1,000 messages, and none after 256 MiB: release or drop the first ones, then repeat the command"
            }
            Self::Server => {
                "one command reads 1,000 messages, and none after 16 MiB by a server: release or drop the first ones, then repeat the \
                 command, or give --broker, with which it reads 256 MiB"
            }
        }
    }
}

async fn list(settings: &Settings, place: &Place) -> Result<Affected, CliError> {
    match place {
        Place::Broker(flag) => {
            let content = with_broker(settings, flag, quarantine::list).await?;
            let messages = content.messages.into_iter().map(Into::into).collect();
            Ok(Affected { messages, without_origin: Vec::new(), unread: content.unread })
        }
        Place::Server => {
            let content = remote::client(settings)?.quarantine().await.map_err(remote::cli_error)?;
            let messages = content.messages.into_iter().map(Into::into).collect();
            Ok(Affected { messages, without_origin: Vec::new(), unread: content.unread })
        }
    }
}

/// Applies an action to messages, at a broker or by a server.
async fn perform(
    settings: &Settings,
    place: &Place,
    id: Option<&str>,
    action: QuarantineAction,
) -> Result<Affected, CliError> {
    match place {
        Place::Broker(flag) => {
            let result =
                with_broker(settings, flag, async |broker| quarantine::apply(broker, id, action).await).await?;
            Ok(Affected {
                messages: result.done.into_iter().map(Into::into).collect(),
                without_origin: result.without_origin.into_iter().map(Into::into).collect(),
                unread: result.unread,
            })
        }
        Place::Server => {
            let client = remote::client(settings)?;
            let selection = id.map_or_else(QuarantineSelection::all, QuarantineSelection::id);
            let result = if action == QuarantineAction::Release {
                client.release_quarantined(&selection).await
            } else {
                client.drop_quarantined(&selection).await
            };
            let result = result.map_err(remote::cli_error)?;
            Ok(Affected {
                messages: result.done.into_iter().map(Into::into).collect(),
                without_origin: result.without_origin.into_iter().map(Into::into).collect(),
                unread: result.unread,
            })
        }
    }
}

async fn apply(
    settings: &Settings,
    selection: &MessageSelection,
    broker: BrokerFlag,
    action: QuarantineAction,
    as_json: bool,
) -> Result<Exit, CliError> {
    let place = Place::of(settings, broker);
    let Affected { messages: done, without_origin, unread } =
        perform(settings, &place, selection.id.as_deref(), action).await?;
    show(&done, as_json);
    if !without_origin.is_empty() {
        let error = anyhow::anyhow!("there is no queue to release {} to", named(&without_origin));
        return Err(CliError::invalid(error).hint("they stay in quarantine; `waft quarantine drop` deletes them"));
    }
    // Whoever names a message has it, and needs no others.
    let is_complete = selection.id.is_some() && !done.is_empty();
    if unread > 0 && !is_complete {
        return Err(CliError::new(Exit::Unwell, unread_error(unread)).hint(place.unread_hint()));
    }
    if done.is_empty() {
        let error = anyhow::anyhow!("there is no such message in quarantine");
        return Err(CliError::invalid(error).hint("`waft quarantine list` shows the messages"));
    }
    Ok(Exit::Success)
}

/// The ids of the first messages, and the number of the others. Anyone who may publish at the broker can have written the ids.
fn named(messages: &[QuarantinedMessage]) -> String {
    let ids: Vec<String> = messages.iter().take(MAX_NAMED).map(|message| sanitize::one_line(&message.id)).collect();
    match messages.len().saturating_sub(MAX_NAMED) {
        0 => ids.join(", "),
        others => format!("{} and {others} more", ids.join(", ")),
    }
}

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

impl From<quarantine::QuarantinedMessage> for QuarantinedMessage {
    fn from(message: quarantine::QuarantinedMessage) -> Self {
        let quarantine::QuarantinedMessage { id, queue, reason, headers, size, .. } = message;
        Self { id, queue, reason, headers, size: size as u64 }
    }
}

impl From<api::QuarantinedMessage> for QuarantinedMessage {
    fn from(message: api::QuarantinedMessage) -> Self {
        let api::QuarantinedMessage { id, queue, reason, headers, size, more_headers: _ } = message;
        Self { id, queue, reason, headers, size }
    }
}

fn show(messages: &[QuarantinedMessage], as_json: bool) {
    for QuarantinedMessage { id, queue, reason, headers, size } in messages {
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
