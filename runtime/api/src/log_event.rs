//! The events of a followed log.

use serde::{Deserialize, Serialize};

use crate::{Action, LogLevel, RunState};

/// An event of a followed log. In JSON, `event` names its variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
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
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
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
    #[cfg_attr(feature = "openapi", schema(title = "LogEventRun"))]
    Run {
        /// The run's id.
        run: String,
        /// Its state.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        state: RunState,
    },
    /// An event of a newer server that this client does not know.
    #[serde(other)]
    Unknown,
}

/// The attempt that wrote a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct LogAttempt {
    /// The task.
    pub task: String,
    /// Apply or rollback.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub call: Action,
    /// The firing.
    pub firing: u64,
    /// The attempt's number.
    pub attempt: u32,
    /// The worker that executed it, where known.
    pub worker: Option<String>,
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
