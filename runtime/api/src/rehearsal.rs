//! What `waft rehearse --json` prints and the API answers: what would happen to the run of a flow if one of its nodes failed.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::{Action, Failure, NodeKind, NodeState, RunState, open_enum::open_enum};

/// The rehearsal of a flow: its runs without a guest, each with another failure.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Rehearsal {
    /// The name of the flow.
    pub flow: String,
    /// The recorded run from whose state each case continues; left out if each case is a new run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The values that stood for the results of tasks.
    pub stubs: Vec<StubbedValue>,
    /// The cases. The first one is the run without a failure; then come the cases of each node, in the order of the flow.
    pub cases: Vec<RehearsedCase>,
    /// The number of cases that were left out, because the cases before had as many steps as a rehearsal may have, or because too many
    /// other failures lead to them. Others may be left out that only these cases lead to.
    pub omitted: u64,
}

/// A value that stood for a result of a task, since no guest was called.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct StubbedValue {
    /// The task.
    pub task: String,
    /// The value, by the flow's name. Of a task with `for_each`, it is the value of each element.
    pub name: String,
    /// The origin of the value.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub from: StubOrigin,
    /// The value. Left out in a link if its text has more than 256 bytes: the `stubs` of the rehearsal have it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub value: Option<Box<RawValue>>,
}

/// A value that is there: it may be `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

open_enum! {
    /// The origin of a stubbed value.
    StubOrigin {
        /// The file of `--results` has it.
        Results = "results",
        /// It is a small value that fits the JSON schema of a module.
        Schema = "schema",
        /// Nothing is known of it: it is `null`, or a list of two `null` if it is the list of a `for_each`.
        Nothing = "none",
        /// It is the failure that the case lets happen, as a condition reads it.
        Failure = "failure",
    }
}

/// A run of the flow with a failure, or without one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RehearsedCase {
    /// The calls that fail, the one of interest last. Another one comes before it if it leads to the call of interest, as the
    /// failure of a task leads to the call of its failure handler, and to the rollback of the tasks before it. Empty in
    /// the run without a failure.
    pub failing: Vec<FailingCall>,
    /// Whether the call of interest was made. If not, the node was never called: the other fields are of a run without its
    /// failure.
    pub reached: bool,
    /// The state of the run at the end. A run of a persistent flow stays `running`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: RunState,
    /// Why the rehearsal stopped before the run ended, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// The tasks and retry controllers with their states at the end, in the order of the flow.
    pub nodes: Vec<RehearsedNode>,
    /// The calls that were repeated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retried: Vec<RetriedCall>,
    /// The flows that a retry controller ran again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retried_flows: Vec<RetriedFlow>,
    /// The tasks whose effects are rolled back at the end, in the order in which their rollbacks ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rolled_back: Vec<String>,
    /// The tasks that succeeded and went through the rollback of the run without a rollback of their own: their effects stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_rollback: Vec<String>,
    /// The tasks of a run that did not succeed whose effects are not rolled back, although the rest was: those before a
    /// rollback that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub still_applied: Vec<String>,
    /// The failure handlers that ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handlers: Vec<String>,
    /// The tasks whose rollback failed. A person has to act: `waft retry`, or `waft skip` for each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stuck: Vec<String>,
    /// The tasks that waited for a notification, and got one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notified: Vec<String>,
    /// The nodes that a link kept from starting.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedNode>,
    /// The firings, in a flow that fires more than once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firings: Vec<RehearsedFiring>,
    /// The nodes that failed although the case does not let them fail, at most 20, and why. Mostly a condition cannot be evaluated with a
    /// stubbed value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unexpected: BTreeMap<String, Failure>,
}

/// A call that fails in a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct FailingCall {
    /// The task. Of a task with `for_each`, its last element fails.
    pub node: String,
    /// Apply or rollback.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub action: Action,
    /// How often it fails.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub fails: FailingTries,
}

open_enum! {
    /// How often a call fails in a case.
    FailingTries {
        /// Each attempt fails, also when a retry controller runs its flow again.
        Always = "always",
        /// Each attempt fails until the retries of the task are used up. When a retry controller then runs its flow again, it
        /// succeeds.
        FirstTry = "first-try",
    }
}

/// A task or retry controller at the end of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RehearsedNode {
    /// Its name.
    pub name: String,
    /// Task or retry controller.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub kind: NodeKind,
    /// Its state.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: NodeState,
}

/// A call that was made more than once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RetriedCall {
    /// The task, or the element of its list.
    pub node: String,
    /// Apply or rollback.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub action: Action,
    /// The number of attempts, over all runs of its flow by retry controllers.
    pub attempts: u32,
    /// The pauses before attempts, in seconds and in order. The first attempt after a retry controller has run its flow again
    /// has no pause.
    pub pauses: Vec<f64>,
    /// Whether the pauses of a run are drawn at random: then those here are an example.
    pub jitter: bool,
}

/// A flow that its retry controller ran again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RetriedFlow {
    /// The flow.
    pub flow: String,
    /// The number of times it was run, the first one included.
    pub runs: u32,
    /// The tasks that are rolled back before the second run, in order.
    pub rolled_back: Vec<String>,
}

/// A node that a link kept from starting.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct SkippedNode {
    /// The node. A nested flow has the name of its flow.
    pub node: String,
    /// The links to the node that have a condition or listen to a failure.
    pub links: Vec<SkippedLink>,
}

/// A link to a node that did not start.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct SkippedLink {
    /// The source of the link.
    pub from: String,
    /// The condition, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Whether it listens to a failure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_failure: bool,
    /// The stubbed values that its condition reads, at most 20. With other values the node may start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stubs: Vec<StubbedValue>,
}

/// A firing of a flow that fires more than once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RehearsedFiring {
    /// The trigger, for people: `the start`, `a notification of t`, `a schedule of t`, `the link from t`.
    pub by: String,
    /// Its state at the end.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: RunState,
}

/// What is rehearsed of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RehearsalQuery {
    /// Only the cases of this task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether each case is a new run of the flow, with the inputs of this one. Without it, each case goes on from the recorded state.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_start: bool,
}

impl RehearsalQuery {
    /// Selects the cases of a task.
    #[must_use]
    pub fn node(mut self, task: impl Into<String>) -> Self {
        self.node = Some(task.into());
        self
    }

    /// Rehearses new runs of the flow.
    #[must_use]
    pub fn from_start(mut self) -> Self {
        self.from_start = true;
        self
    }
}
