//! The events of a run: the lines of `waft run --json`, the data of a server's event stream, and the notifications that
//! engines publish. Each is one JSON object; `event` names its kind.

use std::collections::BTreeMap;

use flow::Labels;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[cfg(feature = "openapi")]
use crate::schema;
use crate::{Failure, NodeKind, NodeState, RunState, ValuesObject};

/// An event of a run. Later versions may add kinds.
// serde reads the variants of a tagged enum from a tree, which cannot hold the original text of a value. So only writing is
// derived, and `parse` reads the kind first.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub enum EventPayload {
    /// The run started or continues, is suspended, or has ended.
    #[serde(rename = "run")]
    Run(Box<RunEvent>),
    /// A task or a retry controller changed its state.
    #[serde(rename = "state")]
    Node(Box<NodeEvent>),
    /// A firing started or ended, in a run that fires more than once.
    #[serde(rename = "firing")]
    Firing(FiringEvent),
    /// The oldest records of a long-lived run were deleted, so their changes are not sent.
    #[serde(rename = "trimmed")]
    Trimmed(TrimmedEvent),
}

/// The run started or continues, is suspended, or has ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RunEvent {
    /// The run's state.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: RunState,
    /// The run's id.
    pub run: String,
    /// The name of its flow; only in the event of a run that started or continues, and in notifications that an engine publishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// The labels of the run; only in the event of a run that started or continues, if it has some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When the run started or continued, as an RFC 3339 time; in notifications, when it entered its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The values that the run started with; in the event of a run that was suspended or has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<schema::Values>))]
    pub inputs: Option<ValuesObject>,
    /// The values that its tasks provided and that were not rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<schema::Values>))]
    pub provides: Option<ValuesObject>,
    /// The nodes that failed in the last firing, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<BTreeMap<String, Failure>>,
}

/// A task or a retry controller changed its state.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct NodeEvent {
    /// The run's id; only in notifications that an engine publishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The name of the run's flow; only in notifications that an engine publishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// `task` or `retry`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub kind: NodeKind,
    /// The name of the task or retry controller. An element of a list is named `task[number]`.
    pub name: String,
    /// Its state.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: NodeState,
    /// The firing, from 1.
    pub firing: u64,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When it entered its state, as an RFC 3339 time.
    pub at: String,
    /// The values that it provided, by the flow's names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<schema::Values>))]
    pub provides: Option<ValuesObject>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The seconds until its next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in: Option<f64>,
    /// The worker that called it, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// On a success without a call: the call that computed the remembered result. No worker was called, and a rollback calls
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed_by: Option<ComputedBy>,
    /// Its module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// The call that computed a remembered result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct ComputedBy {
    /// The run, which may be deleted by now.
    pub run: String,
    /// The task, or the element of its list.
    pub task: String,
    /// The firing, from 1.
    pub firing: u64,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// A firing started or ended, in a run that fires more than once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct FiringEvent {
    /// Its number, from 1.
    pub firing: u64,
    /// Its state, with the words for the states of runs.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: RunState,
    /// When it entered its state, as an RFC 3339 time.
    pub at: String,
}

/// The oldest records of a long-lived run were deleted, so their changes are not sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct TrimmedEvent {
    /// The number of records that were deleted.
    pub records: u64,
}

impl EventPayload {
    /// Reads an event; `None` if a newer server sends something that this version does not know.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Kind {
            event: String,
        }
        fn read<Event: DeserializeOwned>(line: &str) -> Option<Event> {
            serde_json::from_str(line).ok()
        }
        let Kind { event } = read(line)?;
        match event.as_str() {
            "run" => read(line).map(Self::Run),
            "state" => read(line).map(Self::Node),
            "firing" => read(line).map(Self::Firing),
            "trimmed" => read(line).map(Self::Trimmed),
            _ => None,
        }
    }

    /// Adds the labels of the run to the event of a run that started or continues.
    #[must_use]
    pub fn with_labels(mut self, labels: &Labels) -> Self {
        if let Self::Run(event) = &mut self
            && event.flow.is_some()
        {
            event.labels = labels.to_map();
        }
        self
    }

    /// The event as one line of JSON.
    #[must_use]
    pub fn to_line(&self) -> String {
        let text = serde_json::to_string(self).expect("words, numbers and checked JSON serialize");
        // A value has the text of its guest, perhaps over several lines. In a string, JSON has no line breaks.
        if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_although_a_value_has_several() {
        let line = r#"{"event":"run","state":"success","run":"r","inputs":{"x":[1,
            {"a":2}],"text":"a\nb"}}"#;
        let event = EventPayload::parse(&line.replace('\n', "\r\n")).unwrap();
        let written = event.to_line();
        assert!(!written.contains(['\n', '\r']), "{written}");
        let Some(EventPayload::Run(read)) = EventPayload::parse(&written) else { panic!("{written}") };
        let inputs = read.inputs.unwrap();
        assert_eq!(inputs.json("text"), Some(r#""a\nb""#));
        let list: serde_json::Value = serde_json::from_str(inputs.json("x").unwrap()).unwrap();
        assert_eq!(list, serde_json::json!([1, {"a": 2}]));
    }
}
