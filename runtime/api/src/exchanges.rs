//! The recorded HTTP exchanges of attempts.

use serde::{Deserialize, Serialize};

use crate::Action;

/// The recorded HTTP exchanges of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct RunExchanges {
    /// The attempts with a record, in the order in which they ended.
    pub attempts: Vec<AttemptExchanges>,
    /// Whether the run has more of them than an answer may have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
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
