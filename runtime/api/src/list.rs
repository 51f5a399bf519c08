//! Lists of runs, page by page.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{RunFilter, RunState};

/// A run in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Summary {
    /// The run's id.
    pub run: String,
    /// The name of its flow.
    pub flow: String,
    /// Its state: `pending running success failure rolled-back suspending suspended`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: RunState,
    /// Its labels, which never change.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it started, as an RFC 3339 time.
    pub started_at: String,
    /// When it last changed.
    pub changed_at: String,
}

/// A page of the list of runs, the youngest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Runs {
    /// The runs.
    pub runs: Vec<Summary>,
    /// The value for `after` in the request for the next page; `null` on the last page.
    pub next: Option<String>,
}

/// A filter for a list of runs. All given conditions must hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct ListQuery {
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
    /// The maximum number of runs: 1 to 1000; the default is 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The value of `next` on the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl ListQuery {
    /// Selects runs of a flow.
    #[must_use]
    pub fn flow(mut self, flow: impl Into<String>) -> Self {
        self.flow = Some(flow.into());
        self
    }

    /// Selects runs of flows in a namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Selects runs with a label: `team=shop`, or `team` for any value. With several calls, runs with all of them match.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label.push(label.into());
        self
    }

    /// Selects runs whose id begins with a text, or that have it as the value of a label or as a short input.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Selects runs in a state. With several calls, runs in any of the states match.
    #[must_use]
    pub fn state(mut self, state: impl Into<RunState>) -> Self {
        let state = state.into();
        self.state = Some(match self.state {
            Some(states) => format!("{states},{state}"),
            None => state.to_string(),
        });
        self
    }

    /// Selects runs that started at or after a time, in RFC 3339 format.
    #[must_use]
    pub fn since(mut self, time: impl Into<String>) -> Self {
        self.since = Some(time.into());
        self
    }

    /// Selects runs that started before a time, in RFC 3339 format.
    #[must_use]
    pub fn until(mut self, time: impl Into<String>) -> Self {
        self.until = Some(time.into());
        self
    }

    /// Sets the maximum number of runs on a page, from 1 to 1000.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Continues after a page, given its [`Runs::next`].
    #[must_use]
    pub fn after(mut self, next: impl Into<String>) -> Self {
        self.after = Some(next.into());
        self
    }

    /// The query as names and values: a name may occur several times.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let Self { flow, namespace, label, text, state, since, until, limit, after } = self.clone();
        let filter = RunFilter { flow, namespace, label, text, state, since, until };
        let mut pairs = filter.pairs();
        pairs.extend(limit.map(|limit| ("limit", limit.to_string())));
        pairs.extend(after.map(|after| ("after", after)));
        pairs
    }
}

#[cfg(test)]
mod tests {
    use crate::*;

    #[test]
    fn several_states_are_separated_by_commas() {
        let query = ListQuery::default().flow("f").state(RunState::Running).state(RunState::Success).limit(2);
        assert_eq!((query.flow.as_deref(), query.limit), (Some("f"), Some(2)));
        assert_eq!(query.state.as_deref(), Some("running,success"));
        let query = ListQuery::default().since("2026-01-31T08:00:00Z").until("2026-02-01T08:00:00Z").after("1.r");
        assert_eq!(
            serde_json::to_string(&query).unwrap(),
            r#"{"since":"2026-01-31T08:00:00Z","until":"2026-02-01T08:00:00Z","after":"1.r"}"#
        );
    }

    #[test]
    fn a_query_has_each_label_as_a_pair() {
        let query = ListQuery::default().label("team=shop").label("order").text("50%").limit(2);
        let pairs = [("label", "team=shop"), ("label", "order"), ("text", "50%"), ("limit", "2")];
        assert_eq!(query.pairs(), pairs.map(|(name, value)| (name, value.to_owned())));
    }
}
