//! The queues of jobs.

use serde::{Deserialize, Serialize};

use crate::open_enum::open_enum;

/// Which queues to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct QueuesQuery {
    /// Only this queue, also if nothing else names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Only queues in this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The maximum number of queues: 1 to 200; the default is 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only the queues behind those of an earlier page: its `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A page of queues.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct JobQueues {
    /// The queues, in order of name: `default`, those that the settings of the server or an answering worker names, and those in which
    /// calls wait of runs that this server drives. A broker cannot list others.
    pub queues: Vec<JobQueue>,
    /// What to pass as `after` for the next page; left out at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A queue of jobs. A broker does not tell how old its messages are: `GET /v1/runs/{run}` has the time of each outstanding call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct JobQueue {
    /// Its name in flows.
    pub queue: String,
    /// What the broker has answered about it.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: QueueState,
    /// The number of jobs that wait in it. Those that workers have fetched are not counted. Only of a queue that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// The number of its consumers: workers that take jobs from it now. A worker without a free slot is none while its calls are long. Only of
    /// a queue that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumers: Option<u64>,
    /// The number of workers that answered and name it, also those that are drained.
    pub workers: u64,
}

open_enum! {
    /// What a broker has answered about a queue.
    QueueState {
        /// It exists.
        Exists = "exists",
        /// There is none yet: an engine declares it with the first job.
        Missing = "missing",
        /// The broker has not answered in time. The queue may have no leader.
        Unanswered = "unanswered",
        /// The broker has refused the question.
        Refused = "refused",
    }
}
