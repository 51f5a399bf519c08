//! The names of exchanges and queues, shared by every waft and by other programs that use them.
//!
//! No message takes the default exchange, since a broker cannot limit who reaches which queue through it. Each exchange has
//! the messages of one kind of sender instead, so the permissions of a broker's user decide which messages it may send, and
//! a receiver knows from the exchange of a message who may have sent it. On a direct exchange the routing key is the name of
//! the queue, except on [`JOBS`].

use flow::{FlowName, NodeName, QueueName, RunId, RunState, Shard, State, WebhookName, WorkerName};

use crate::EngineSecret;

/// The direct exchange for jobs, from engines. The routing key is the name without the prefix of the job queue.
pub const JOBS: &str = "waft.jobs";

/// The topic exchange for notifications about tasks, from engines; see [`notification_key`].
pub const NOTIFICATIONS: &str = "waft.notifications";

/// The topic exchange for notifications about runs, from engines; see [`run_notification_key`]. It is not that of tasks: a listener
/// of all tasks of a flow binds its queue there with a pattern that would also match these keys.
pub const RUNS: &str = "waft.runs";

/// The fanout exchange that every worker receives from: engines and operators send to it.
pub const CONTROL: &str = "waft.control";

/// The topic exchange for lines that guests write while they run, from workers; the routing key is the run. It has no
/// bindings while nobody follows a run.
pub const LOGS: &str = "waft.logs";

/// The direct exchange for reports of workers, to the queues of shards.
pub const REPORTS: &str = "waft.reports";

/// The direct exchange for messages between engines, to the queues of shards and of permits.
pub const ENGINES: &str = "waft.engines";

/// The direct exchange for requests to fetch or to store content, from workers and operators to the queues of stores.
pub const CONTENT: &str = "waft.content";

/// The direct exchange for replies of engines, to the queue that a request names.
pub const REPLIES: &str = "waft.replies";

/// The direct exchange for the statuses with which workers answer a ping, to the queue that the ping names.
pub const STATUS: &str = "waft.status";

/// The direct exchange for messages that an operator releases from the quarantine, to the queue that they came from.
pub const RELEASED: &str = "waft.released";

/// The fanout exchange to the quarantine, from workers and engines, and from the broker itself for dead letters.
pub const DEAD_LETTERS: &str = "waft.dead-letters";

/// The queue that keeps messages which no worker and no engine could process, for a person.
pub const QUARANTINE: &str = "waft.quarantine";

/// The direct exchange for messages that the queue of a webhook dropped because it was full, from the broker itself.
pub const DROPPED: &str = "waft.dropped";

/// Whether the messages of an exchange each go to one queue, whose reader declares and binds it. If no queue takes such a
/// message, its reader no longer exists.
#[must_use]
pub fn has_one_reader(exchange: &str) -> bool {
    [REPORTS, ENGINES, CONTENT, REPLIES, STATUS].contains(&exchange)
}

/// Whether others than engines can bind queues of their own to an exchange on which engines publish. Such a queue may reject messages, and
/// only its owner needs them.
#[must_use]
pub fn has_foreign_readers(exchange: &str) -> bool {
    [NOTIFICATIONS, RUNS, CONTROL, REPLIES].contains(&exchange)
}

/// The header of a message in [`QUARANTINE`] that names the queue it came from.
pub const QUARANTINED_FROM: &str = "quarantined-from";

/// The header of a message in [`QUARANTINE`] that says why it is there.
pub const QUARANTINE_REASON: &str = "quarantine-reason";

/// The header of a message without some of its headers: they were too large for a copy of the message, as in [`QUARANTINE`]. It says
/// how many are left out.
pub const HEADERS_CUT: &str = "headers-cut";

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

/// The queue that a message goes to through a direct exchange, from its routing key.
#[must_use]
pub fn queue_of(exchange: &str, key: &str) -> String {
    if exchange == JOBS { format!("{JOBS_PREFIX}{key}") } else { key.to_owned() }
}

/// The prefix of the names of the workers' control queues.
pub const CONTROL_PREFIX: &str = "waft.control.";

/// The queue for the control messages of a worker, and for the replies of engines to its questions.
#[must_use]
pub fn control_queue(worker: &WorkerName) -> String {
    format!("{CONTROL_PREFIX}{worker}")
}

/// The prefix of the names of the queues that reserve the names of workers.
pub const WORKER_LOCK_PREFIX: &str = "waft.worker.";

/// The queue that reserves a worker's name while the worker is connected. It receives no messages, since no user may bind it who is only a
/// worker.
#[must_use]
pub fn worker_lock(worker: &WorkerName) -> String {
    format!("{WORKER_LOCK_PREFIX}{worker}")
}

/// The prefix of the names of listeners' queues.
pub const LISTENER_PREFIX: &str = "listen.";

/// The queue of a program that receives notifications.
#[must_use]
pub fn listener_queue(listener: &QueueName) -> String {
    format!("{LISTENER_PREFIX}{listener}")
}

/// The pattern that binds a listener's queue to [`NOTIFICATIONS`]: for one task of a flow, or for all.
#[must_use]
pub fn listener_pattern(flow: &FlowName, task: Option<&NodeName>) -> String {
    task.map_or_else(|| format!("{flow}.#"), |task| task_pattern(flow, task))
}

/// The queue of the notifications that a webhook has to be told of. It holds the fingerprint of the engines' secret: a server of another
/// logbook may have a webhook of the same name, and would take the events from this one.
#[must_use]
pub fn webhook_queue(secret: &EngineSecret, webhook: &WebhookName) -> String {
    format!("waft.webhook.{}.{webhook}", secret.fingerprint())
}

/// The queue, and the key on [`DROPPED`], of what the queue of a webhook dropped.
#[must_use]
pub fn webhook_dropped_queue(secret: &EngineSecret, webhook: &WebhookName) -> String {
    format!("{}.dropped", webhook_queue(secret, webhook))
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

/// The prefix of the names of reply queues. The rest cannot be guessed, so no other user of the broker can bind a queue of
/// its own to receive the same replies.
pub const REPLY_PREFIX: &str = "waft.reply.";

/// The queue on which an engine or another program receives replies; `receiver` is unique.
#[must_use]
pub fn reply_queue(receiver: &str) -> String {
    format!("{REPLY_PREFIX}{receiver}")
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

/// The prefix of the names of the tasks' exchanges.
pub const TASK_PREFIX: &str = "waft.task.";

/// The exchange of one task's notifications.
#[must_use]
pub fn task_exchange(flow: &FlowName, task: &NodeName) -> String {
    format!("{TASK_PREFIX}{flow}.{task}")
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

/// The routing key of a notification about a run: `<flow>.<run>.<state>`.
#[must_use]
pub fn run_notification_key(flow: &FlowName, run: &RunId, state: RunState) -> String {
    format!("{flow}.{run}.{state}")
}

/// The run that a notification is about, from its exchange and its routing key; `None` for another message. Names contain no dots.
#[must_use]
pub fn run_of_notification(exchange: &str, key: &str) -> Option<RunId> {
    let position = match exchange {
        NOTIFICATIONS => 2,
        RUNS => 1,
        _ => return None,
    };
    RunId::new(key.split('.').nth(position)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routing_key_has_its_run() {
        let (flow, run) = (FlowName::new("shop/f").unwrap(), RunId::new("r-1").unwrap());
        for task in ["t", "t[7]"] {
            let key = notification_key(&flow, &task.parse().unwrap(), &run, State::RolledBack);
            assert_eq!(run_of_notification(NOTIFICATIONS, &key), Some(run.clone()));
        }
        let key = run_notification_key(&flow, &run, RunState::RolledBack);
        assert_eq!(run_of_notification(RUNS, &key), Some(run));
        assert_eq!(run_of_notification(NOTIFICATIONS, "shop/f.t"), None);
        assert_eq!(run_of_notification(JOBS, &key), None, "a job is no notification");
    }

    #[test]
    fn the_longest_names_make_names_and_keys_that_amqp_carries() {
        let long = "x".repeat(100);
        let (flow, task): (FlowName, NodeName) = (long.parse().unwrap(), long.parse().unwrap());
        let (queue, worker, shard): (QueueName, WorkerName, Shard) =
            (long.parse().unwrap(), long.parse().unwrap(), long.parse().unwrap());
        let secret = EngineSecret::new([7; 32]);
        let names = [
            job_queue(&queue),
            listener_queue(&queue),
            control_queue(&worker),
            worker_lock(&worker),
            webhook_dropped_queue(&secret, &WebhookName::new(&long).unwrap()),
            shard_queue(&shard),
            store_put_queue(&store_queue(&shard)),
            reply_queue(shard.as_str()),
            task_exchange(&flow, &task),
            task_pattern(&flow, &task),
            permit_queue(&secret, &flow, &task),
        ];
        let run = RunId::new(&long).unwrap();
        let of_run = RunState::ALL.iter().map(|state| run_notification_key(&flow, &run, *state));
        for name in names.into_iter().chain(of_run) {
            assert!(name.len() <= 255, "{name}");
        }
    }
}
