//! Many runs at once: how many there are by flow and state, and commands to all that a filter selects.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// A filter for runs. All given conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams, utoipa::ToSchema), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RunFilter {
    /// Only runs of this flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// Only runs of flows in this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only runs with this label: `team=shop`, or `team` for any value. Several may be given, and all must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub label: Vec<String>,
    /// Only runs whose id begins with this text, or that have it as the value of a label or as an input: a string, a number or a
    /// boolean of at most 128 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Only runs in one of these states, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Only runs that started at or after this time, in RFC 3339 format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only runs that started before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl RunFilter {
    /// Selects runs of a flow.
    #[must_use]
    pub fn flow(mut self, flow: impl Into<String>) -> Self {
        self.flow = Some(flow.into());
        self
    }

    /// Selects runs with a label: `team=shop`, or `team` for any value. With several calls, runs with all of them match.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label.push(label.into());
        self
    }

    /// Selects runs in some states, separated by commas.
    #[must_use]
    pub fn state(mut self, states: impl Into<String>) -> Self {
        self.state = Some(states.into());
        self
    }

    /// Selects runs whose id begins with a text, or that have it as the value of a label or as a short input.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// The filter as names and values of a query: a name may occur several times.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let Self { flow, namespace, label, text, state, since, until } = self;
        let labels = label.iter().map(|label| ("label", Some(label)));
        let others = [("text", text), ("state", state), ("since", since), ("until", until)];
        let all = [("flow", flow.as_ref()), ("namespace", namespace.as_ref())].into_iter().chain(labels);
        let all = all.chain(others.map(|(name, value)| (name, value.as_ref())));
        all.filter_map(|(name, value)| Some((name, value?.clone()))).collect()
    }

    /// Whether it selects all runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How many runs there are, by flow and state.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RunCounts {
    /// The flows with their runs, by name: at most 1,000.
    pub flows: Vec<FlowCounts>,
    /// The number of all runs, of at most 1,000,000 that are counted.
    pub total: u64,
    /// Whether there are more flows, or more runs than are counted.
    #[serde(default)]
    pub more: bool,
}

/// How many runs a flow has, by state.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct FlowCounts {
    /// The name of the flow.
    pub flow: String,
    /// The number of its runs in each state that some of them have.
    pub states: BTreeMap<String, u64>,
}

/// A command to many runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum BulkAction {
    /// Stop the runs and roll them back: those that have not ended.
    Cancel,
    /// Suspend the runs: those that are pending or running.
    Suspend,
    /// Resume the runs: those that are suspending or suspended.
    Resume,
    /// Retry failed rollbacks, or start again: the runs that have failed or were rolled back.
    Retry,
}

impl fmt::Display for BulkAction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Cancel => "cancel",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Retry => "retry",
        })
    }
}

/// A command to all runs that a filter selects and that are in a state for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct BulkRequest {
    /// The command.
    pub action: BulkAction,
    /// The filter. Without any condition it is refused, unless `all` is true.
    #[serde(rename = "where", default)]
    pub filter: RunFilter,
    /// Whether a filter without conditions may select all runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Whether to only answer how many runs it selects, and the first of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Refuse the request if it does not select this number of runs. Not together with `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<u64>,
    /// The maximum number of runs: 1 to 1000, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The value of `next` in the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl BulkRequest {
    /// A command to the runs of a filter.
    #[must_use]
    pub fn new(action: BulkAction, filter: RunFilter) -> Self {
        Self { action, filter, all: false, dry_run: false, expect: None, limit: None, after: None }
    }

    /// Allows a filter without conditions to select all runs.
    #[must_use]
    pub fn all(mut self) -> Self {
        self.all = true;
        self
    }

    /// Only asks how many runs it selects.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Refuses the request if it does not select this number of runs.
    #[must_use]
    pub fn expect(mut self, runs: u64) -> Self {
        self.expect = Some(runs);
        self
    }

    /// Continues after an answer, given its [`BulkResult::next`].
    #[must_use]
    pub fn after(mut self, next: impl Into<String>) -> Self {
        self.after = Some(next.into());
        self
    }
}

/// What a command to many runs did, or would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct BulkResult {
    /// The command.
    pub action: BulkAction,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// The number of runs that the filter selected at the beginning, of at most 1,000,000 that are counted. An answer to a
    /// request with `after`, or to a token without the scope `read`, does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<u64>,
    /// In the answer to a dry run, the ids of the first runs: at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<String>,
    /// The number of runs whose command was recorded.
    pub done: u64,
    /// The number of runs whose command was refused, or failed.
    pub refused: u64,
    /// The first of them, with the reasons: at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<BulkRefusal>,
    /// The value for `after` in the request for the runs that are left; `null` if none are.
    pub next: Option<String>,
}

/// A run whose command was refused, or failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct BulkRefusal {
    /// The run.
    pub run: String,
    /// The status that the command to this run alone would have been answered with.
    pub status: u16,
    /// Why.
    pub reason: String,
}
