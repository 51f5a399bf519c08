//! Webhooks: the events of all runs, as requests to the addresses that an operator names, each signed and sent until it is accepted.
//!
//! The events wait in a queue of the broker, one for each webhook (`webhooks/sender.rs`), so neither a restart nor a server of the webhook that
//! is down loses any, as long as the queue has room. `webhooks/config.rs` has what an operator may say.

pub(crate) mod config;
mod journal;
mod post;
mod sender;
mod signature;
mod tries;

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use broker::Broker;
use credentials::ClientTls;
use flow::WebhookName;
use futures::future::join_all;
use gateway::Gateway;
use logbook::Logbook;
use protocol::topology;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use self::{
    config::Webhook,
    journal::{Entries, Journal},
    post::{Attempt, Outgoing, post},
    sender::Sender,
    tries::Acceptances,
};
use crate::{extract::Named, problem::Problem, recent_events::labels::LabelCache, state::Shared};

/// The webhooks of a server.
pub(crate) struct Webhooks {
    webhooks: BTreeMap<WebhookName, ServedWebhook>,
    broker: Arc<dyn Broker>,
    logbook: Arc<dyn Logbook>,
}

struct ServedWebhook {
    webhook: Webhook,
    journal: Arc<Journal>,
    /// Its own, so that a host that no resolver finds in time takes no lookups from other webhooks.
    gateway: Arc<Gateway>,
}

impl Webhooks {
    /// Sends the events of each webhook until the server stops.
    pub(crate) fn start(
        webhooks: Vec<Webhook>,
        broker: &Arc<dyn Broker>,
        logbook: &Arc<dyn Logbook>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        if !webhooks.is_empty() && !broker.is_durable() {
            warn!("without a broker, events that no webhook has accepted are lost when this server ends");
        }
        let serve = |webhook: Webhook| {
            let (journal, gateway) = (Arc::new(Journal::default()), Arc::new(Gateway::new(ClientTls::default())));
            let sender = Sender {
                webhook: webhook.clone(),
                journal: journal.clone(),
                gateway: gateway.clone(),
                broker: broker.clone(),
                logbook: logbook.clone(),
                labels: LabelCache::default(),
                requests: sender::requests(),
                retry_requests: sender::retry_requests(),
                places: sender::places(),
                acceptances: Acceptances::default(),
                stop: stop.clone(),
            };
            tasks.spawn(sender.run());
            (webhook.name().clone(), ServedWebhook { webhook, journal, gateway })
        };
        let webhooks = webhooks.into_iter().map(serve).collect();
        Self { webhooks, broker: broker.clone(), logbook: logbook.clone() }
    }

    async fn shown(&self, served: &ServedWebhook) -> api::Webhook {
        let ServedWebhook { webhook, journal, .. } = served;
        let Entries { delivered, failed, given_up, dropped, tries } = journal.entries();
        // Many services have their secret in the path.
        let url = webhook.target.url().origin().ascii_serialization();
        let waiting = match self.logbook.secret().await {
            Ok(secret) => self.broker.waiting(&topology::webhook_queue(&secret, &webhook.name)).await.ok().flatten(),
            Err(_) => None,
        };
        api::Webhook {
            name: webhook.name.to_string(),
            url,
            waiting,
            delivered,
            failed,
            given_up,
            dropped,
            deliveries: tries.into(),
        }
    }

    fn get(&self, name: &str) -> Result<&ServedWebhook, Problem> {
        self.webhooks.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.webhooks.keys().map(WebhookName::as_str).collect();
            Problem::missing_webhook(name, &names)
        })
    }
}

/// Lists the webhooks.
///
/// The numbers and the tries are those of this server since it was started.
#[utoipa::path(get, operation_id = "list_webhooks", path = "/v1/webhooks", tag = "webhooks", responses(
    (status = 200, description = "The webhooks", body = api::Webhooks),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(State(state): Shared) -> Json<api::Webhooks> {
    // Together: the broker may take long to answer about each queue.
    let shown = state.webhooks.webhooks.values().map(|served| state.webhooks.shown(served));
    Json(api::Webhooks { webhooks: join_all(shown).await })
}

/// Sends an event of the kind `test` to a webhook, once.
#[utoipa::path(post, operation_id = "test_webhook", path = "/v1/webhooks/{webhook}/test", tag = "webhooks", params(
    ("webhook" = String, Path, description = "The name of the webhook")), responses(
        (status = 200, description = "What came of it", body = api::WebhookDelivery),
        (status = 404, description = "There is no such webhook", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn test(State(state): Shared, Named(name): Named) -> Result<Json<api::WebhookDelivery>, Problem> {
    let ServedWebhook { webhook, journal, gateway } = state.webhooks.get(&name)?;
    let tried = post(gateway, webhook, &Outgoing::test(&webhook.name), Attempt::new(1)).await;
    journal.note(tried.clone());
    Ok(Json(tried))
}

#[cfg(test)]
mod tests;
