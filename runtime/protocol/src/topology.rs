//! The names of exchanges and queues, as every waft and every program beside it knows them.

use flow::{FlowName, NodeName, QueueName, RunId, Shard, State};

/// The exchange that takes jobs; the routing key is the queue's name.
pub const JOBS: &str = "waft.jobs";

/// The exchange that takes notifications; see [`notification_key`].
pub const NOTIFICATIONS: &str = "waft.notifications";

/// The exchange that everyone hears.
pub const CONTROL: &str = "waft.control";

/// The exchange that takes the lines that guests write while they run; the routing key is the run. Nothing is bound to it
/// unless somebody follows.
pub const LOGS: &str = "waft.logs";

/// The queue that keeps what no worker and no engine could take, for a person.
pub const QUARANTINE: &str = "waft.quarantine";

/// The header of a message in [`QUARANTINE`] that names the queue it was taken from.
pub const QUARANTINED_FROM: &str = "quarantined-from";

/// The header of a message in [`QUARANTINE`] that says why it is there.
pub const QUARANTINE_REASON: &str = "quarantine-reason";

/// What the reason of a job in [`QUARANTINE`] begins with that came back too often.
pub const POISON: &str = "the job came back";

/// How many shards the runs of engines that share a broker are spread over: each has a queue of its own, and the engines
/// divide them among themselves.
pub const SHARDS: u32 = 8;

/// How often a job may come back before the broker itself puts it into quarantine. A worker does that sooner, and tells the
/// run: this is for a job whose workers die before they read it.
pub const QUEUE_DELIVERY_LIMIT: u32 = 2 * flow::MAX_DELIVERY_LIMIT;

/// What the names of the queues of jobs begin with.
pub const JOBS_PREFIX: &str = "waft.jobs.";

/// The queue of the jobs of a name.
#[must_use]
pub fn job_queue(queue: &QueueName) -> String {
    format!("{JOBS_PREFIX}{queue}")
}

/// The queue of a shard's signals.
#[must_use]
pub fn shard_queue(shard: &Shard) -> String {
    format!("waft.engine.{shard}")
}

/// The queue of one who follows the lines of a run.
#[must_use]
pub fn logs(follower: &str) -> String {
    format!("{LOGS}.{follower}")
}

/// The shards of engines that share a broker.
pub fn shards() -> impl Iterator<Item = Shard> {
    (0..SHARDS).map(|number| Shard::new(number.to_string()).expect("a number is a lawful name"))
}

/// The queue on which an engine takes answers.
#[must_use]
pub fn reply_queue(engine: &str) -> String {
    format!("waft.reply.{engine}")
}

/// The queue that answers requests for content where engines share a broker: any of them answers, since their stores have
/// the same content.
pub const SHARED_STORE: &str = "waft.store.shared";

/// The queue that answers requests for content.
#[must_use]
pub fn store_queue(shard: &Shard) -> String {
    format!("waft.store.{shard}")
}

/// The queue that takes content for the store that answers on a queue.
#[must_use]
pub fn store_put_queue(store_queue: &str) -> String {
    format!("{store_queue}.put")
}

/// The exchange of one task's notifications.
#[must_use]
pub fn task_exchange(flow: &FlowName, task: &NodeName) -> String {
    format!("waft.task.{flow}.{task}")
}

/// The queue of a task's permits: whoever consumes it keeps them.
#[must_use]
pub fn permit_queue(flow: &FlowName, task: &NodeName) -> String {
    format!("waft.permits.{flow}.{task}")
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
