//! Workers that answered a ping, their calls, and whether they take jobs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Action, open_enum::open_enum};

/// The workers that answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Workers {
    /// The workers, in order of name.
    pub workers: Vec<Worker>,
}

/// A worker. For a token that is limited to a namespace, it has only the queues and the calls of the namespace.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// The machine it runs on. Left out for a token that is limited to a namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its process id on that machine. Left out for a token that is limited to a namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
    /// The maximum number of calls that compute at once.
    pub slots: u32,
    /// Those of the slots that a queue has of its own. At most 100 queues.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub own_slots: BTreeMap<String, u32>,
    /// The number of calls in progress. Some may wait without a slot, so it may be more than `slots`.
    pub busy: u32,
    /// The queues that it consumes.
    pub queues: Vec<String>,
    /// Its version of waft.
    pub version: String,
    /// Whether it takes jobs. Left out for a worker that has not said so, like one of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub state: Option<WorkerState>,
    /// The calls that it makes: at most 100, those that have run longest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<WorkerCall>,
    /// The number of calls beyond those in `calls`.
    #[serde(default)]
    pub more_calls: u32,
    /// The number of calls of other namespaces. For a token that is not limited to a namespace, it is 0.
    #[serde(default)]
    pub other_calls: u32,
}

open_enum! {
    /// Whether a worker takes jobs.
    WorkerState {
        /// It takes jobs.
        Active = "active",
        /// It takes no new jobs, and ends its calls.
        Draining = "draining",
        /// It takes no new jobs, and exits once its calls have ended.
        Exiting = "exiting",
    }
}

/// A call that a worker makes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct WorkerCall {
    /// The flow.
    pub flow: String,
    /// The run.
    pub run: String,
    /// The task.
    pub task: String,
    /// The firing of the task.
    pub firing: u64,
    /// The attempt.
    pub attempt: u32,
    /// Whether it executes the task or rolls it back.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub call: Action,
    /// The seconds for which the worker has had the call.
    pub seconds: f64,
}

/// How a worker is drained.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct DrainOptions {
    /// Whether the worker exits once its calls have ended. Without it, the worker stays until it is told to take jobs again, or ends.
    #[serde(default)]
    pub exit: bool,
}

impl DrainOptions {
    /// The worker exits once its calls have ended.
    #[must_use]
    pub fn exit(mut self) -> Self {
        self.exit = true;
        self
    }
}

/// Whether a worker takes jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct WorkerStateResponse {
    /// The worker.
    pub worker: String,
    /// Its state.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: WorkerState,
    /// The number of calls in progress.
    pub busy: u32,
}
