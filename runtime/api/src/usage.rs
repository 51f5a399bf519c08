//! What an attempt used.

use serde::{Deserialize, Serialize};

use crate::Action;

/// What one attempt used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Usage {
    /// The seconds from its start to its end.
    pub wall_seconds: f64,
    /// The seconds of CPU time of the threads that ran the guest, while they ran it. It includes what the worker does on these
    /// threads for the guest.
    pub cpu_seconds: f64,
    /// The most bytes of all linear memories of the guest together.
    pub memory_bytes: u64,
    /// The bytes of its inputs; of a rollback, also of the values that the apply had provided.
    pub input_bytes: u64,
    /// The bytes of the values that it returned.
    pub output_bytes: u64,
    /// The number of HTTP requests that it tried, denied ones included.
    #[serde(default)]
    pub http_requests: u64,
    /// The bytes of its HTTP requests: addresses, headers and bodies.
    #[serde(default)]
    pub http_request_bytes: u64,
    /// The bytes of the HTTP responses: headers and bodies.
    #[serde(default)]
    pub http_response_bytes: u64,
}

/// What the last call of a task used.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct LastUsage {
    /// The firing.
    pub firing: u64,
    /// The attempt.
    pub attempt: u32,
    /// `apply` or `rollback`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub call: Action,
    /// What it used.
    pub usage: Usage,
}
