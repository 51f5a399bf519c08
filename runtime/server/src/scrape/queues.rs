//! The messages and consumers of queues. AMQP cannot list queues, so these are the known ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use ::metrics::QueueLength;
use broker::Broker;
use flow::{Namespace, QueueName};
use futures::{StreamExt as _, stream};
use protocol::topology;
use tokio::{
    sync::Mutex,
    time::{timeout, timeout_at},
};

use crate::Dependencies;

/// How long the numbers are used again.
const CACHE_FOR: Duration = Duration::from_secs(10);

/// The time limit of all questions together. A scrape waits for it once in [`CACHE_FOR`], if queues do not answer.
const TIMEOUT: Duration = Duration::from_secs(4);

/// The time limit of the questions about one queue, so that one without a leader delays the others little.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// The number of concurrent questions. A connection allows 16, and those of the engine must not wait for a scrape.
const MAX_CONCURRENT: usize = 4;

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
    /// The queues that a flow or this process has used. They stay while there is space, so that an empty one has a number too.
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
        // Before the answers: a client that leaves without waiting for them must not make the next one ask again.
        known.asked_at = Some(Instant::now());
        let own = dependencies.locations.queues.iter().cloned().chain("default".parse::<QueueName>());
        let used = dependencies.engine.waiting_queues().into_iter().chain(std::mem::take(&mut known.jobs));
        known.jobs = choose(own, used);
        let queues = ask(&*dependencies.broker, names(&known.jobs)).await;
        ::metrics::global().set_queues(queues);
    }
}

/// Chooses at most [`MAX_JOB_QUEUES`] queues: first those of this process, then of each namespace one after the other. So a
/// namespace that uses many queues hides no queue of another one.
fn choose(own: impl IntoIterator<Item = QueueName>, used: impl IntoIterator<Item = QueueName>) -> BTreeSet<QueueName> {
    let mut chosen: BTreeSet<QueueName> = own.into_iter().take(MAX_JOB_QUEUES).collect();
    let (mut seen, mut counts) = (chosen.clone(), BTreeMap::<Option<Namespace>, usize>::new());
    let mut turns = Vec::new();
    for queue in used {
        if seen.insert(queue.clone()) {
            let turn = counts.entry(queue.namespace()).or_default();
            *turn += 1;
            turns.push((*turn, queue));
        }
    }
    turns.sort();
    let left = MAX_JOB_QUEUES - chosen.len();
    chosen.extend(turns.into_iter().take(left).map(|(_, queue)| queue));
    chosen
}

/// The names of the queues at the broker. The quarantine and the shards come first: if many queues do not answer, there is no time
/// for the last ones.
fn names(jobs: &BTreeSet<QueueName>) -> Vec<String> {
    let shards = topology::shards().map(|shard| topology::shard_queue(&shard));
    let jobs = jobs.iter().map(topology::job_queue);
    [topology::QUARANTINE.to_owned()].into_iter().chain(shards).chain(jobs).collect()
}

async fn ask(broker: &dyn Broker, names: Vec<String>) -> Vec<QueueLength> {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    // Collected first: a future that borrows from a closure's argument is not general enough to be sent between threads.
    let questions: Vec<_> = names.into_iter().map(|name| ask_within(broker, name, deadline)).collect();
    let answers = stream::iter(questions).buffered(MAX_CONCURRENT).collect::<Vec<_>>().await;
    answers.into_iter().flatten().collect()
}

async fn ask_within(broker: &dyn Broker, queue: String, deadline: tokio::time::Instant) -> Option<QueueLength> {
    if tokio::time::Instant::now() >= deadline {
        return None;
    }
    timeout_at(deadline, timeout(QUEUE_TIMEOUT, ask_about(broker, queue))).await.ok()?.ok()?
}

async fn ask_about(broker: &dyn Broker, queue: String) -> Option<QueueLength> {
    let messages = broker.waiting(&queue).await.ok()??;
    let consumers = broker.consumers(&queue).await.ok()??;
    Some(QueueLength { queue, messages, consumers })
}

#[cfg(test)]
mod tests {
    use broker::{InProcess, lossy::LossyConnection, topology::declare_shared};

    use super::*;

    #[tokio::test]
    async fn the_quarantine_and_the_queues_that_exist_have_numbers() {
        let broker = InProcess::new();
        declare_shared(&broker).await.unwrap();
        let ovens = BTreeSet::from(["ovens".parse().unwrap(), "missing".parse().unwrap()]);
        broker::topology::declare_jobs(&broker, &"ovens".parse().unwrap()).await.unwrap();
        let _consumer = broker.consume(&topology::job_queue(&"ovens".parse().unwrap()), 1).await.unwrap();
        let of = |queue: &str, consumers| QueueLength { queue: queue.into(), messages: 0, consumers };
        assert_eq!(ask(&broker, names(&ovens)).await, [of("waft.quarantine", 0), of("waft.jobs.ovens", 1)]);
    }
    #[test]
    fn a_namespace_with_many_queues_hides_no_queue_of_another() {
        let queue = |name: String| name.parse::<QueueName>().unwrap();
        let many = (0..10 * MAX_JOB_QUEUES).map(|number| queue(format!("greedy/q{number}")));
        let used = many.chain(["modest/a", "modest/b", "plain"].map(|name| queue(name.into())));
        let chosen = choose([queue("default".into())], used);
        assert_eq!(chosen.len(), MAX_JOB_QUEUES);
        for name in ["default", "modest/a", "modest/b", "plain"] {
            assert!(chosen.contains(&queue(name.into())), "{name} is hidden");
        }
        let again = choose([queue("default".into())], [queue("late".into())].into_iter().chain(chosen));
        assert!(again.contains(&queue("late".into())), "a queue in which calls wait comes before those known for long");
    }

    #[tokio::test(start_paused = true)]
    async fn queues_that_do_not_answer_delay_a_scrape_by_a_bounded_time() {
        let inner = InProcess::new();
        declare_shared(&inner).await.unwrap();
        let broker = LossyConnection::to(&inner);
        let jobs: BTreeSet<QueueName> =
            (0..MAX_JOB_QUEUES).map(|number| format!("q{number}").parse().unwrap()).collect();
        jobs.iter().for_each(|queue| broker.set_unresponsive(&topology::job_queue(queue), true));
        let began_at = tokio::time::Instant::now();
        let quarantine = QueueLength { queue: topology::QUARANTINE.into(), messages: 0, consumers: 0 };
        assert_eq!(ask(&broker, names(&jobs)).await, [quarantine]);
        assert!(began_at.elapsed() < TIMEOUT + QUEUE_TIMEOUT, "{:?}", began_at.elapsed());
    }
}
