//! Webhooks of a server: the addresses that it tells of the events of all runs.

use serde::{Deserialize, Serialize};

/// The webhooks of a server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Webhooks {
    /// The webhooks, in the order of their names.
    pub webhooks: Vec<Webhook>,
}

/// A webhook, as this server knows it since it was started. Another server may be the one that sends its events now.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Webhook {
    /// Its name.
    pub name: String,
    /// The scheme, host and port of its address: the rest may be secret.
    pub url: String,
    /// The number of events that wait in its queue, besides those that are being sent; `null` if the broker or the logbook does not answer.
    pub waiting: Option<u64>,
    /// The number of events that this server has delivered.
    pub delivered: u64,
    /// The number of failed tries.
    pub failed: u64,
    /// The number of events that this server has given up, since they were too old.
    pub given_up: u64,
    /// The number of events that were dropped since the queue was full, as far as this server knows.
    pub dropped: u64,
    /// Its last tries, the newest first: at most 100.
    pub deliveries: Vec<WebhookDelivery>,
}

/// One try to deliver an event.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct WebhookDelivery {
    /// The id of the event, as in the header `webhook-id`.
    pub id: String,
    /// What the event is about, for people.
    pub subject: String,
    /// When the try began, as an RFC 3339 time.
    pub at: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The number of the try, from 1. It begins again when another server takes over.
    pub attempt: u32,
    /// The status of the answer, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why the event was not delivered; `null` if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}
