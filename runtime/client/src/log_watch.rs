//! Follows the output of a run's guests, line by line, across broken connections.

use std::collections::BTreeMap;

use api::{LogAttempt, LogEvent, LogLevel};

use crate::{Client, ClientError, Watch, watch::Events};

/// Identifies a line within an attempt: its source, and its number there.
type LineKey = (&'static str, u32);

/// Follows the logs of a run, until it has ended.
pub struct LogWatch {
    watch: Watch,
    client: Client,
    /// The received lines of attempts that have not ended: after a reconnect they come again.
    shown: BTreeMap<LogAttempt, BTreeMap<LineKey, String>>,
}

impl LogWatch {
    pub(crate) fn new(client: Client, run: String) -> Self {
        Self { watch: Watch::new(client.clone(), Events::Logs(run), None), client, shown: BTreeMap::new() }
    }

    /// Waits for the next event; returns `None` once the run has ended. When the connection breaks, it reconnects and
    /// continues, and each line comes once. Poll it to its end.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub async fn next(&mut self) -> Result<Option<LogEvent>, ClientError> {
        while let Some(event) = self.watch.next().await? {
            let event: LogEvent =
                serde_json::from_str(&event.line).map_err(|error| self.client.unexpected(error.to_string()))?;
            if self.is_new(&event) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn is_new(&mut self, event: &LogEvent) -> bool {
        match event {
            LogEvent::Line { attempt, number, level, text } => {
                let source = match level {
                    LogLevel::Stdout => "stdout",
                    LogLevel::Stderr => "stderr",
                    _ => "log",
                };
                // Another worker may take over an attempt after its first one was lost.
                let key = LogAttempt { worker: None, ..attempt.clone() };
                let known = self.shown.entry(key).or_default().insert((source, *number), text.clone());
                known.is_none_or(|known| known != *text)
            }
            LogEvent::End(attempt) => {
                self.shown.remove(&LogAttempt { worker: None, ..attempt.clone() });
                true
            }
            _ => true,
        }
    }
}
