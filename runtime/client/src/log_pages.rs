//! Reads the pages of the logs of a run, one after another.

use api::{AttemptLog, LogsQuery, RunLogs};

use crate::{Client, ClientError};

/// The pages of the logs of a run.
pub struct LogPages {
    client: Client,
    run: String,
    /// `None` after the last page.
    next: Option<LogsQuery>,
}

impl LogPages {
    pub(crate) fn new(client: Client, run: String, query: LogsQuery) -> Self {
        Self { client, run, next: Some(query) }
    }

    /// Reads the next page, which may be empty; `None` after the last one. Cancel-safe.
    ///
    /// # Errors
    /// As [`Client::logs`].
    pub async fn next(&mut self) -> Result<Option<Vec<AttemptLog>>, ClientError> {
        let Some(query) = &self.next else { return Ok(None) };
        let RunLogs { logs, next, .. } = self.client.logs(&self.run, query).await?;
        self.next = next.map(|next| query.clone().after(next));
        Ok(Some(logs))
    }
}
