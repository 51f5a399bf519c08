//! Workers that answered a ping.

#[cfg(feature = "amqp")]
use protocol::WorkerStatus;
use serde::{Deserialize, Serialize};

/// The workers that answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub struct Workers {
    /// The workers, in order of name.
    pub workers: Vec<Worker>,
}

/// A worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// The machine it runs on.
    pub host: String,
    /// Its process id on that machine.
    pub process: u32,
    /// The maximum number of concurrent calls.
    pub slots: u32,
    /// The number of calls in progress.
    pub busy: u32,
    /// The queues that it consumes.
    pub queues: Vec<String>,
    /// Its version of waft.
    pub version: String,
}

#[cfg(feature = "amqp")]
impl From<&WorkerStatus> for Worker {
    fn from(status: &WorkerStatus) -> Self {
        let WorkerStatus { name, host, process, slots, busy, queues, version, instance: _ } = status;
        Self {
            name: name.to_string(),
            host: host.clone(),
            process: *process,
            slots: *slots,
            busy: *busy,
            queues: queues.iter().map(ToString::to_string).collect(),
            version: version.clone(),
        }
    }
}
