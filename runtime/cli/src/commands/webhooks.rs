//! `waft webhooks`: shows and tests the webhooks of a server.

use anyhow::anyhow;
use client::api::{Webhook, WebhookDelivery};
use serde::Serialize;

use super::remote;
use crate::{
    arguments::WebhooksCommand,
    exit::{CliError, Exit},
    output,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, command: WebhooksCommand) -> Result<Exit, CliError> {
    let client = remote::client(settings)?;
    match command {
        WebhooksCommand::List { json } => {
            let webhooks = client.webhooks().await.map_err(remote::cli_error)?.webhooks;
            if webhooks.is_empty() && !json {
                output::diagnostic("the server has no webhooks; [[webhook]] in its settings adds one");
            }
            for webhook in webhooks {
                if json { print_json(&webhook)? } else { output::line(&row(&webhook)) }
            }
            Ok(Exit::Success)
        }
        WebhooksCommand::Log { name, json } => {
            let webhooks = client.webhooks().await.map_err(remote::cli_error)?.webhooks;
            let Some(webhook) = webhooks.into_iter().find(|webhook| webhook.name == name) else {
                let error = anyhow!("the server has no webhook {name:?}");
                return Err(CliError::invalid(error).hint("`waft webhooks list` shows them"));
            };
            if webhook.deliveries.is_empty() && !json {
                output::diagnostic("this server has sent nothing to the webhook since it was started");
            }
            for tried in webhook.deliveries.iter().rev() {
                if json { print_json(tried)? } else { output::line(&tried_row(tried)) }
            }
            Ok(Exit::Success)
        }
        WebhooksCommand::Test { name, json } => {
            let tried = client.test_webhook(&name).await.map_err(remote::cli_error)?;
            if json {
                print_json(&tried)?;
            } else {
                output::line(&tried_row(&tried));
            }
            Ok(if tried.failure.is_none() { Exit::Success } else { Exit::Unreachable })
        }
    }
}

fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    output::json(serde_json::to_string(value).map_err(CliError::unreachable)?);
    Ok(())
}

/// A row about a webhook.
fn row(webhook: &Webhook) -> String {
    let Webhook { name, url, waiting, delivered, failed, given_up, dropped, .. } = webhook;
    let waiting = waiting.map_or_else(|| "?".to_owned(), |waiting| waiting.to_string());
    format!(
        "{name}  {url}  {waiting} waiting, {delivered} delivered, {failed} failed tries, {given_up} given up, {dropped} dropped"
    )
}

/// A row about a try.
fn tried_row(tried: &WebhookDelivery) -> String {
    let WebhookDelivery { id, subject, at, took_ms, attempt, status, failure } = tried;
    let outcome = match (failure, status) {
        (Some(failure), _) => failure.clone(),
        (None, Some(status)) => format!("accepted with {status}"),
        (None, None) => "accepted".to_owned(),
    };
    format!("{at}  {id}  {subject}  try {attempt}, {took_ms} ms: {outcome}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_came_of_a_try() {
        let tried = WebhookDelivery {
            id: "evt_1".into(),
            subject: "run bake-1: failure".into(),
            at: "now".into(),
            took_ms: 12,
            attempt: 2,
            status: Some(500),
            failure: Some("the server answered 500 Internal Server Error".into()),
        };
        let expected = "now  evt_1  run bake-1: failure  try 2, 12 ms: the server answered 500 Internal Server Error";
        assert_eq!(tried_row(&tried), expected);
        let accepted = WebhookDelivery { status: Some(204), failure: None, ..tried };
        assert!(tried_row(&accepted).ends_with("try 2, 12 ms: accepted with 204"));
    }
}
