//! The messages and consumers of queues. AMQP cannot list queues, so these are the known ones.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ::metrics::QueueLength;
use broker::Broker;
use flow::QueueName;
use futures::{StreamExt as _, stream};
use protocol::topology;
use tokio::{sync::Mutex, time::timeout_at};

use crate::Dependencies;

/// How long the numbers are used again.
const CACHE_FOR: Duration = Duration::from_secs(10);

/// The time limit of all questions together. A scrape waits for it once in [`CACHE_FOR`], if a queue does not answer.
const TIMEOUT: Duration = Duration::from_secs(4);

/// The number of concurrent questions.
const MAX_CONCURRENT: usize = 8;

/// The maximum number of queues of jobs. Their names come from flows.
const MAX_JOB_QUEUES: usize = 200;

/// What is known of queues.
#[derive(Debug, Default)]
pub(crate) struct QueueLengths {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    asked_at: Option<Instant>,
    /// The queues that a flow or this process has used. They stay, so that an empty one has a number too.
    jobs: BTreeSet<QueueName>,
}

impl QueueLengths {
    /// Asks the broker about the queues that are known here, unless it was asked a short time ago, and sets the metrics. A queue
    /// that does not exist, or about which the broker does not answer, has no number.
    pub(crate) async fn refresh(&self, dependencies: &Dependencies) {
        let mut known = self.known.lock().await;
        if known.asked_at.is_some_and(|at| at.elapsed() < CACHE_FOR) {
            return;
        }
        let waiting = dependencies.engine.waiting_queues();
        let used = dependencies.locations.queues.iter().cloned().chain("default".parse::<QueueName>()).chain(waiting);
        for queue in used {
            if known.jobs.len() < MAX_JOB_QUEUES {
                known.jobs.insert(queue);
            }
        }
        let queues = ask(&*dependencies.broker, names(&known.jobs)).await;
        ::metrics::global().set_queues(queues);
        known.asked_at = Some(Instant::now());
    }
}

/// The names of the queues at the broker: of jobs, of shards, and the quarantine.
fn names(jobs: &BTreeSet<QueueName>) -> Vec<String> {
    let jobs = jobs.iter().map(topology::job_queue);
    let shards = topology::shards().map(|shard| topology::shard_queue(&shard));
    jobs.chain(shards).chain([topology::QUARANTINE.to_owned()]).collect()
}

async fn ask(broker: &dyn Broker, names: Vec<String>) -> Vec<QueueLength> {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    // Collected first: a future that borrows from a closure's argument is not general enough to be sent between threads.
    let questions: Vec<_> = names.into_iter().map(|name| timeout_at(deadline, ask_about(broker, name))).collect();
    let answers = stream::iter(questions).buffered(MAX_CONCURRENT).collect::<Vec<_>>().await;
    answers.into_iter().filter_map(Result::ok).flatten().collect()
}

async fn ask_about(broker: &dyn Broker, queue: String) -> Option<QueueLength> {
    let messages = broker.waiting(&queue).await.ok()??;
    let consumers = broker.consumers(&queue).await.ok()??;
    Some(QueueLength { queue, messages, consumers })
}

#[cfg(test)]
mod tests {
    use broker::{InProcess, topology::declare_shared};

    use super::*;

    #[tokio::test]
    async fn the_quarantine_and_the_queues_that_exist_have_numbers() {
        let broker = InProcess::new();
        declare_shared(&broker).await.unwrap();
        let ovens = BTreeSet::from(["ovens".parse().unwrap(), "missing".parse().unwrap()]);
        broker::topology::declare_jobs(&broker, &"ovens".parse().unwrap()).await.unwrap();
        let _consumer = broker.consume(&topology::job_queue(&"ovens".parse().unwrap()), 1).await.unwrap();
        let of = |queue: &str, consumers| QueueLength { queue: queue.into(), messages: 0, consumers };
        assert_eq!(ask(&broker, names(&ovens)).await, [of("waft.jobs.ovens", 1), of("waft.quarantine", 0)]);
    }
}
