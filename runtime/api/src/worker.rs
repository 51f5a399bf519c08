//! Workers that answered a ping.

use serde::{Deserialize, Serialize};

/// The workers that answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Workers {
    /// The workers, in order of name.
    pub workers: Vec<Worker>,
}

/// A worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// The machine it runs on.
    pub host: String,
    /// Its process id on that machine.
    pub process: u32,
    /// The maximum number of calls that compute at once.
    pub slots: u32,
    /// The number of calls in progress. Some may wait without a slot, so it may be more than `slots`.
    pub busy: u32,
    /// The queues that it consumes.
    pub queues: Vec<String>,
    /// Its version of waft.
    pub version: String,
}
