//! Requests about the webhooks of a server.

use reqwest::Method;

use super::Client;
use crate::{
    ClientError,
    api::{WebhookDelivery, Webhooks},
};

impl Client {
    /// Reads the webhooks of the server, with its last tries to deliver events.
    ///
    /// # Errors
    /// [`ClientError`]; with status 403 the own token is not an admin's.
    pub async fn webhooks(&self) -> Result<Webhooks, ClientError> {
        self.json(self.request(Method::GET, &["v1", "webhooks"])?).await
    }

    /// Sends an event of the kind `test` to a webhook, once.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 there is no such webhook, and with 403 the own token is not an admin's.
    pub async fn test_webhook(&self, webhook: &str) -> Result<WebhookDelivery, ClientError> {
        self.json(self.request(Method::POST, &["v1", "webhooks", webhook, "test"])?).await
    }
}
