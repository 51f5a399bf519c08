//! Engines, and the shards that they drive.

use serde::{Deserialize, Serialize};

/// The engines that share the runs of a logbook.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Engines {
    /// The engines that were found: those that drive shards, in order of their names, and then the others.
    pub engines: Vec<Engine>,
    /// The shards about which no engine has answered within two seconds. An engine may just take one over.
    pub unanswered: Vec<String>,
}

/// An engine. It is found if it drives a shard, or if an engine that does has received a message from it within five seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Engine {
    /// Its name, which is new after each start.
    pub engine: String,
    /// The machine that it runs on. Left out for an engine that drives no shard, since only its name is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its process id on that machine. Left out as `host` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
    /// Its version of waft. Left out as `host` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The shards that it drives.
    pub shards: Vec<DrivenShard>,
}

/// A shard that an engine drives.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct DrivenShard {
    /// The shard.
    pub shard: String,
    /// Since when the engine has driven it, by the clock of the server that answers.
    pub since: String,
    /// The number of its runs that the engine has in memory.
    pub runs: u64,
}
