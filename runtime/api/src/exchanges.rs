//! The recorded HTTP exchanges of attempts.

use serde::{Deserialize, Serialize};

use crate::Action;

/// Which recorded HTTP exchanges of a run to read. All given conditions must hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct ExchangesQuery {
    /// Only attempts of this task; of a task with `for_each`, also those of its elements. It may be an element: `fetch[3]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Only attempts in this firing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firing: Option<u64>,
    /// Only attempts with this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Only attempts to `apply`, or to `rollback`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The value of `next` on the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl ExchangesQuery {
    /// Selects attempts of a task, and of its elements.
    #[must_use]
    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }

    /// Selects attempts in a firing.
    #[must_use]
    pub fn firing(mut self, firing: u64) -> Self {
        self.firing = Some(firing);
        self
    }

    /// Selects attempts with a number.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = Some(attempt);
        self
    }

    /// Selects attempts to apply, or to roll back.
    #[must_use]
    pub fn call(mut self, call: Action) -> Self {
        self.call = Some(call.as_str().into());
        self
    }

    /// Continues after a page, given its [`RunExchanges::next`].
    #[must_use]
    pub fn after(mut self, next: impl Into<String>) -> Self {
        self.after = Some(next.into());
        self
    }
}

/// A page of the recorded HTTP exchanges of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RunExchanges {
    /// The attempts with a record, the one that ended last first.
    pub attempts: Vec<AttemptExchanges>,
    /// The cursor for the next page; left out on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The recorded HTTP exchanges of one attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct AttemptExchanges {
    /// The task.
    pub task: String,
    /// The attempt.
    pub attempt: u32,
    /// The firing.
    pub firing: u64,
    /// `apply` or `rollback`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub call: Action,
    /// The worker that executed it, where known.
    pub worker: Option<String>,
    /// When it ended.
    pub at: String,
    /// The exchanges, in the order of the requests.
    pub exchanges: Vec<Exchange>,
    /// Whether the attempt had more exchanges than are recorded of one attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Why the record of the attempt cannot be read, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// One request, and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Exchange {
    /// The method.
    pub method: String,
    /// The address, with its query.
    pub url: String,
    /// The headers of the request. A secret is in them as `{{secret:NAME}}`.
    pub headers: Vec<Header>,
    /// The body of the request.
    pub body: Body,
    /// The response; left out if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<ExchangeResponse>,
    /// Why there was no response; left out if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The seconds from the request to its end.
    pub seconds: f64,
}

/// A response.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct ExchangeResponse {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Body,
}

/// A header. Bytes of a value that are no text are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Header {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// A body: its text, or its bytes in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Body {
    /// The number of bytes.
    pub bytes: u64,
    /// The text, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The bytes in base64, if they are no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}
