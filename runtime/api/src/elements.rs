//! The elements of a task's list.

use serde::{Deserialize, Serialize};

use crate::{Failure, NodeState};

/// A page of the elements of a task, in their order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Elements {
    /// The run's id.
    pub run: String,
    /// The task.
    pub task: String,
    /// The firing.
    pub firing: u64,
    /// The number of elements.
    pub count: u64,
    /// The elements.
    pub elements: Vec<Element>,
    /// The value for `after` in the request for the next page; `null` on the last page.
    pub next: Option<u32>,
}

/// An element of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Element {
    /// Its number, from 0.
    pub number: u32,
    /// Its state.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: NodeState,
    /// Its last attempt; left out before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Why it failed last, if it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Which elements to show.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct ElementsQuery {
    /// The firing; the default is the last one that has the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firing: Option<u64>,
    /// Only elements in one of these states, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Only elements with a higher number: the value of `next` on the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u32>,
    /// The maximum number of elements: 1 to 1000; the default is 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl ElementsQuery {
    /// Selects a firing.
    #[must_use]
    pub fn firing(mut self, firing: u64) -> Self {
        self.firing = Some(firing);
        self
    }

    /// Selects elements in a state. With several calls, elements in any of the states match.
    #[must_use]
    pub fn state(mut self, state: impl Into<NodeState>) -> Self {
        let state = state.into();
        self.state = Some(match self.state {
            Some(states) => format!("{states},{state}"),
            None => state.to_string(),
        });
        self
    }

    /// Continues after a page, given its [`Elements::next`].
    #[must_use]
    pub fn after(mut self, next: u32) -> Self {
        self.after = Some(next);
        self
    }

    /// Sets the maximum number of elements on a page, from 1 to 1000.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }
}
