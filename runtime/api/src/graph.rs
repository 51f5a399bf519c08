//! The graph of a run: its tasks, nested flows and links, with their states.

use serde::{Deserialize, Serialize};

use crate::{ElementProgress, LinkOutcome, NodeState, open_enum::open_enum};

/// The graph of a run, as it is now or was at a revision of its flow.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RunGraph {
    /// The run's id.
    pub run: String,
    /// The name of its flow.
    pub flow: String,
    /// The revision of the flow that this is.
    pub revision: u64,
    /// The last revision of the flow. Only the graph of this one has states.
    pub last_revision: u64,
    /// The strategy of the retry controller of the whole flow, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
    /// The tasks and nested flows, in the flow's order. A nested flow comes before what it contains.
    pub nodes: Vec<GraphNode>,
    /// The links. Each connects two nodes that are directly in the same flow.
    pub links: Vec<GraphLink>,
}

/// A task or a nested flow.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct GraphNode {
    /// Its name. No other node of the graph has it.
    pub name: String,
    /// `task`, `for-each`, `wait` or `flow`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub kind: GraphNodeKind,
    /// The nested flow that contains it directly; left out if it is directly in the whole flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// What fires it, for people; each ends the sentence `it fires …`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<String>,
    /// The strategy of the retry controller of a nested flow, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
    /// Whether it handles failures: it runs although its flow is rolled back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_failure_handler: bool,
    /// Whether an edit has removed it after it had run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// The state of a task, or of the retry controller of a nested flow. The graph of an earlier revision has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub state: Option<NodeState>,
    /// The progress of a task over the elements of its list, once the list is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elements: Option<ElementProgress>,
}

open_enum! {
    /// The kind of a node of a graph.
    GraphNodeKind {
        /// A task that is called once.
        Task = "task",
        /// A task that is called for each element of a list.
        ForEach = "for-each",
        /// A task that waits for a notification.
        Wait = "wait",
        /// A nested flow.
        Flow = "flow",
    }
}

/// A link: its target starts after its source.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct GraphLink {
    /// The source.
    pub from: String,
    /// The target.
    pub to: String,
    /// The values that it carries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// The outcomes and conditions that it has besides the order. Mostly there are none, and seldom several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<LinkCondition>,
    /// Whether it is a back edge: it starts the next firing of its target.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
}

/// The outcome that a link waits for, and its condition.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct LinkCondition {
    /// `success`, `failure` or `any`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub on: LinkOutcome,
    /// The condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// Which graph of a run to show.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct GraphQuery {
    /// The revision of the flow; the default is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

impl GraphQuery {
    /// Selects a revision of the flow.
    #[must_use]
    pub fn revision(mut self, revision: u64) -> Self {
        self.revision = Some(revision);
        self
    }
}
