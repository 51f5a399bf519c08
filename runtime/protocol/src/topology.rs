//! The names of exchanges and queues, shared by every waft and by other programs that use them.

use flow::{FlowName, NodeName, QueueName, RunId, Shard, State};

use crate::EngineSecret;

/// The exchange that takes jobs; the routing key is the queue's name.
pub const JOBS: &str = "waft.jobs";

/// The exchange that takes notifications; see [`notification_key`].
pub const NOTIFICATIONS: &str = "waft.notifications";

/// The exchange that every worker receives from.
pub const CONTROL: &str = "waft.control";

/// The exchange for lines that guests write while they run; the routing key is the run. It has no bindings while nobody
/// follows a run.
pub const LOGS: &str = "waft.logs";

/// The queue that keeps messages which no worker and no engine could process, for a person.
pub const QUARANTINE: &str = "waft.quarantine";

/// The header of a message in [`QUARANTINE`] that names the queue it came from.
pub const QUARANTINED_FROM: &str = "quarantined-from";

/// The header of a message in [`QUARANTINE`] that says why it is there.
pub const QUARANTINE_REASON: &str = "quarantine-reason";

/// The prefix of the quarantine reason of a job that was redelivered too often.
pub const POISON: &str = "the job came back";

/// The number of shards that hold the runs of engines with a shared broker. Each shard has its own queue, and the engines
/// divide the shards among themselves.
pub const SHARDS: u32 = 8;

/// The maximum number of redeliveries before the broker itself quarantines a job. A worker normally does so sooner and tells
/// the run; this limit is for a job whose workers die before they read it.
pub const QUEUE_DELIVERY_LIMIT: u32 = 2 * flow::MAX_DELIVERY_LIMIT;

/// The prefix of job queue names.
pub const JOBS_PREFIX: &str = "waft.jobs.";

/// The job queue for a queue name.
#[must_use]
pub fn job_queue(queue: &QueueName) -> String {
    format!("{JOBS_PREFIX}{queue}")
}

/// The queue of a shard's signals.
#[must_use]
pub fn shard_queue(shard: &Shard) -> String {
    format!("waft.engine.{shard}")
}

/// The queue of a follower of a run's lines.
#[must_use]
pub fn logs(follower: &str) -> String {
    format!("{LOGS}.{follower}")
}

/// The shards of engines with a shared broker.
pub fn shards() -> impl Iterator<Item = Shard> {
    (0..SHARDS).map(|number| Shard::new(number.to_string()).expect("a number is a valid name"))
}

/// The queue on which an engine receives replies.
#[must_use]
pub fn reply_queue(engine: &str) -> String {
    format!("waft.reply.{engine}")
}

/// The queue for content requests where engines share a broker. Any engine may answer, since their stores have the same
/// content.
pub const SHARED_STORE: &str = "waft.store.shared";

/// The queue for content requests to the store of a shard's engine.
#[must_use]
pub fn store_queue(shard: &Shard) -> String {
    format!("waft.store.{shard}")
}

/// The queue for content that is put into the store behind `store_queue`.
#[must_use]
pub fn store_put_queue(store_queue: &str) -> String {
    format!("{store_queue}.put")
}

/// The exchange of one task's notifications.
#[must_use]
pub fn task_exchange(flow: &FlowName, task: &NodeName) -> String {
    format!("waft.task.{flow}.{task}")
}

/// The queue of a task's permits: the engine that consumes it coordinates them. It holds the fingerprint of the engines'
/// secret, since engines of another logbook can read no message in it, and count permits of their own.
#[must_use]
pub fn permit_queue(secret: &EngineSecret, flow: &FlowName, task: &NodeName) -> String {
    format!("waft.permits.{}.{flow}.{task}", secret.fingerprint())
}

/// The pattern that binds a task's exchange to [`NOTIFICATIONS`].
#[must_use]
pub fn task_pattern(flow: &FlowName, task: &NodeName) -> String {
    format!("{flow}.{task}.#")
}

/// The routing key of a notification: `<flow>.<task>.<run>.<state>`.
#[must_use]
pub fn notification_key(flow: &FlowName, task: &NodeName, run: &RunId, state: State) -> String {
    format!("{flow}.{task}.{run}.{state}")
}
