//! The events of all runs: their states and those of their tasks, without values.

use serde::{Deserialize, Serialize};

use crate::{FailureKind, NodeKind, NodeState, RunState};

/// The maximum length of the message of a failure in an event of all runs, in characters.
pub const MAX_EVENT_MESSAGE: usize = 1_000;

/// An event of all runs. In JSON, `event` names its variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub enum RunsEvent {
    /// A run is in a new state.
    #[serde(rename = "run")]
    Run(RunStateEvent),
    /// A task or a retry controller of a run is in a new state.
    #[serde(rename = "state")]
    Node(Box<NodeStateEvent>),
    /// Events were lost here. Read the list of runs again, and then go on with the events that follow.
    #[serde(rename = "lost")]
    Lost(LostEvents),
    /// An event of a newer server that this client does not know.
    #[serde(other)]
    Unknown,
}

/// A run is in a new state. The same event may come twice: two events are the same if `run`, `state` and `at` are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RunStateEvent {
    /// The run's id.
    pub run: String,
    /// The name of its flow.
    pub flow: String,
    /// Its state.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: RunState,
    /// When it entered the state, as an RFC 3339 time.
    pub at: String,
}

/// A task or a retry controller of a run is in a new state. The same event may come twice: two events are the same if `run`, `name`,
/// `firing`, `attempt` and `state` are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct NodeStateEvent {
    /// The run's id.
    pub run: String,
    /// The name of the run's flow.
    pub flow: String,
    /// `task` or `retry`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub kind: NodeKind,
    /// The name of the task or retry controller. An element of a list is named `task[number]`.
    pub name: String,
    /// Its state, with the words of notifications.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: NodeState,
    /// The firing, from 1.
    pub firing: u64,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When it entered its state, as an RFC 3339 time.
    pub at: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<EventFailure>,
    /// The seconds until its next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in: Option<f64>,
    /// The worker that called it, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}

/// Why a node failed, without the details that its guest added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct EventFailure {
    /// The kind, as in the state of the run.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub kind: FailureKind,
    /// The message for people, cut after 1,000 characters.
    pub message: String,
}

/// Events were lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct LostEvents {
    /// Why, and what to do, for people.
    pub message: String,
}

/// Which events of all runs to read. All given conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct EventsQuery {
    /// Only events of runs of this flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// Only events of runs of flows in this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only events of runs with this label: `team=shop`, or `team` for any value. Several may be given, and all must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub label: Vec<String>,
    /// Only events about these: some of `run`, `task` and `retry`, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only events with one of these states, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl EventsQuery {
    /// Selects events of runs of a flow.
    #[must_use]
    pub fn flow(mut self, flow: impl Into<String>) -> Self {
        self.flow = Some(flow.into());
        self
    }

    /// Selects events of runs of flows in a namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Selects events of runs with a label: `team=shop`, or `team` for any value. With several calls, runs with all of them match.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label.push(label.into());
        self
    }

    /// Selects events about some of `run`, `task` and `retry`, separated by commas.
    #[must_use]
    pub fn kind(mut self, kinds: impl Into<String>) -> Self {
        self.kind = Some(kinds.into());
        self
    }

    /// Selects events with some states, separated by commas.
    #[must_use]
    pub fn state(mut self, states: impl Into<String>) -> Self {
        self.state = Some(states.into());
        self
    }

    /// The query as names and values: a name may occur several times.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let Self { flow, namespace, label, kind, state } = self;
        let one = [("flow", flow), ("namespace", namespace), ("kind", kind), ("state", state)];
        let one = one.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        one.chain(label.iter().map(|label| ("label", label.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_flat_objects_and_come_back() {
        let run = RunsEvent::Run(RunStateEvent {
            run: "bake-1".into(),
            flow: "shop/bake".into(),
            state: RunState::RolledBack,
            at: "2026-11-28T14:27:27.922074Z".into(),
        });
        let json = "{\"event\":\"run\",\"run\":\"bake-1\",\"flow\":\"shop/bake\",\"state\":\"rolled-back\",\
                    \"at\":\"2026-11-28T14:27:27.922074Z\"}";
        assert_eq!(serde_json::to_string(&run).unwrap(), json);
        let failure = Some(EventFailure { kind: FailureKind::Timeout, message: "too late".into() });
        let node = RunsEvent::Node(Box::new(NodeStateEvent {
            run: "bake-1".into(),
            flow: "bake".into(),
            kind: NodeKind::Task,
            name: "pan[3]".into(),
            state: NodeState::Failure,
            firing: u64::MAX,
            attempt: 2,
            at: "2026-11-28T14:27:27.922074Z".into(),
            failure,
            retry_in: Some(0.5),
            worker: None,
        }));
        let lost = RunsEvent::Lost(LostEvents { message: "read the list again".into() });
        for event in [run, node, lost] {
            assert_eq!(serde_json::from_str::<RunsEvent>(&serde_json::to_string(&event).unwrap()).unwrap(), event);
        }
        assert_eq!(serde_json::from_str::<RunsEvent>("{\"event\":\"weather\"}").unwrap(), RunsEvent::Unknown);
    }

    #[test]
    fn a_query_has_each_label_as_a_pair() {
        let query = EventsQuery::default().flow("f").label("team=shop").label("order").kind("run").state("failure");
        let pairs = [("flow", "f"), ("kind", "run"), ("state", "failure"), ("label", "team=shop"), ("label", "order")];
        assert_eq!(query.pairs(), pairs.map(|(name, value)| (name, value.to_owned())));
    }
}
