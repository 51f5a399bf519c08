//! Follows the output of a run's guests, line by line, across broken connections.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Client, ClientError, Watch,
    api::{Action, LogLevel, RunState},
};

/// An event of a followed log. In JSON, `event` names its variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event")]
#[non_exhaustive]
pub enum LogEvent {
    /// A line that a guest wrote.
    #[serde(rename = "log")]
    Line {
        /// The attempt that wrote it.
        #[serde(flatten)]
        attempt: LogAttempt,
        /// Its number, from 1, among the lines of its source: the attempt's log, its standard output, or its standard
        /// error.
        number: u32,
        /// The name of the level; `stdout` or `stderr` for printed lines.
        level: LogLevel,
        /// The line.
        text: String,
    },
    /// Some lines of a running attempt are not known. They follow when it ends, or sooner.
    #[serde(rename = "log-missing")]
    Missing {
        /// The attempt that wrote them.
        #[serde(flatten)]
        attempt: LogAttempt,
        /// The number of missing lines.
        lines: usize,
    },
    /// An attempt wrote more than is stored.
    #[serde(rename = "log-cut")]
    Cut(LogAttempt),
    /// An attempt has ended, and all of its stored lines were received.
    #[serde(rename = "log-end")]
    End(LogAttempt),
    /// The run has ended.
    #[serde(rename = "run")]
    Run {
        /// The run's id.
        run: String,
        /// Its state.
        state: RunState,
    },
    /// An event of a newer server that this client does not know.
    #[serde(other)]
    Unknown,
}

/// The attempt that wrote a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub struct LogAttempt {
    /// The task.
    pub task: String,
    /// Apply or rollback.
    pub call: Action,
    /// The firing.
    pub firing: u64,
    /// The attempt's number.
    pub attempt: u32,
    /// The worker that executed it, where known.
    pub worker: Option<String>,
}

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
        Self { watch: Watch::of_logs(client.clone(), run), client, shown: BTreeMap::new() }
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
            LogEvent::Missing { .. } | LogEvent::Cut(_) | LogEvent::Run { .. } | LogEvent::Unknown => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_flat_objects_and_come_back() {
        let attempt =
            LogAttempt { task: "t".into(), call: Action::Apply, firing: 1, attempt: 2, worker: Some("w".into()) };
        let line = LogEvent::Line { attempt: attempt.clone(), number: 3, level: LogLevel::Info, text: "hi".into() };
        let json = "{\"event\":\"log\",\"task\":\"t\",\"call\":\"apply\",\"firing\":1,\"attempt\":2,\"worker\":\"w\",\
                    \"number\":3,\"level\":\"info\",\"text\":\"hi\"}";
        assert_eq!(serde_json::to_string(&line).unwrap(), json);
        let missing = LogEvent::Missing { attempt: attempt.clone(), lines: 7 };
        for event in [line, missing, LogEvent::Cut(attempt.clone()), LogEvent::End(attempt)] {
            assert_eq!(serde_json::from_str::<LogEvent>(&serde_json::to_string(&event).unwrap()).unwrap(), event);
        }
        assert_eq!(serde_json::from_str::<LogEvent>("{\"event\":\"weather\"}").unwrap(), LogEvent::Unknown);
    }
}
