//! Finds queues that the broker does not answer for, and queues without consumers.
//!
//! AMQP cannot list queues, so this checks the known ones: the engines' queues, and the queues that open runs, this waft's
//! settings and the responding workers name. It queries each with a passive declare, which creates nothing.

use std::collections::{BTreeMap, BTreeSet};

use ::broker::{Broker, DeclareError};
use api::Check;
use flow::QueueName;
use futures::{StreamExt, stream};
use protocol::{EngineSecret, topology};

use super::{Locations, QUERY_TIMEOUT, count, first_few, runs::OpenRuns, within};
use crate::problem::chain;

/// The number of concurrent queries, and the maximum number of queues to query.
const MAX_CONCURRENT_QUERIES: usize = 8;
const MAX_QUEUES: usize = 200;

/// The queues to query: AMQP cannot list them.
#[derive(Default)]
pub(super) struct KnownQueues {
    /// Job queues.
    jobs: BTreeSet<QueueName>,
    /// Permit queues.
    permits: BTreeSet<String>,
    /// Shard queues that have open runs.
    shards: BTreeSet<String>,
}

/// The state of a queue, as the broker reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum QueueState {
    /// The queue exists.
    Exists {
        /// The number of waiting messages.
        ready: u64,
        /// The number of consumers.
        consumers: u64,
    },
    /// There is no such queue.
    Missing,
    /// The broker did not answer.
    NoAnswer,
    /// The broker refused the query.
    Refused(String),
}

/// The states of all known queues.
#[derive(Default)]
pub(super) struct Queues {
    pub(super) checks: Vec<Check>,
    states: BTreeMap<String, QueueState>,
}

impl KnownQueues {
    /// The queues that the open runs and the settings name.
    pub(super) fn of(locations: &Locations, open: &OpenRuns, secret: Option<&EngineSecret>) -> Self {
        let mut known = Self { jobs: locations.queues.clone(), ..Self::default() };
        known.jobs.extend("default".parse::<QueueName>());
        for run in &open.runs {
            known.shards.insert(topology::shard_queue(&run.summary.info.shard));
            known.jobs.extend(run.facts.queues.iter().cloned());
            if let Some(secret) = secret {
                let permit_queue = |task| topology::permit_queue(secret, &run.summary.info.flow, task);
                known.permits.extend(run.facts.paced.iter().map(permit_queue));
            }
        }
        known
    }

    fn names(&self) -> BTreeSet<String> {
        let stores = [topology::SHARED_STORE.to_owned(), topology::store_put_queue(topology::SHARED_STORE)];
        let shards = topology::shards().map(|shard| topology::shard_queue(&shard));
        let jobs = self.jobs.iter().map(topology::job_queue);
        stores.into_iter().chain(shards).chain(jobs).chain(self.permits.iter().take(MAX_QUEUES).cloned()).collect()
    }
}

impl Queues {
    /// The state of a queue; `None` when it was not queried.
    pub(super) fn of(&self, queue: &str) -> Option<&QueueState> {
        self.states.get(queue)
    }

    /// Whether an engine drives a shard; `None` when this is unknown.
    pub(super) fn drives(&self, queue: &str) -> Option<bool> {
        match self.states.get(queue)? {
            QueueState::Exists { consumers, .. } => Some(*consumers > 0),
            QueueState::Missing => Some(false),
            QueueState::NoAnswer | QueueState::Refused(_) => None,
        }
    }
}

/// Queries all queues.
pub(super) async fn query(broker: Option<&dyn Broker>, known: &KnownQueues, open: &OpenRuns) -> Queues {
    let Some(broker) = broker else {
        return Queues { checks: vec![Check::skipped("queues", "there is no broker")], ..Queues::default() };
    };
    let names: BTreeSet<String> =
        known.names().into_iter().chain(known.shards.iter().take(MAX_QUEUES).cloned()).collect();
    // Collected first: a future that borrows from a closure's argument is not general enough to be sent between threads.
    let queries: Vec<_> = names.into_iter().take(MAX_QUEUES).map(|name| query_one(broker, name)).collect();
    // The queries run concurrently, so one queue without an answer delays only its own slot.
    let states = stream::iter(queries).buffer_unordered(MAX_CONCURRENT_QUERIES).collect::<Vec<_>>().await;
    let states: BTreeMap<String, QueueState> = states.into_iter().collect();
    let checks = report(&states, known, open.of_shared_shards());
    Queues { checks, states }
}

async fn query_one(broker: &dyn Broker, name: String) -> (String, QueueState) {
    let query = async {
        let Some(ready) = broker.waiting(&name).await? else { return Ok(QueueState::Missing) };
        let consumers = broker.consumers(&name).await?.unwrap_or_default();
        Ok::<_, DeclareError>(QueueState::Exists { ready, consumers })
    };
    let state = match within(QUERY_TIMEOUT, query).await {
        Some(Ok(state)) => state,
        Some(Err(DeclareError::TimedOut { .. })) | None => QueueState::NoAnswer,
        Some(Err(error)) => QueueState::Refused(chain(&error)),
    };
    (name, state)
}

/// The problems of the queues, or one line that there are none.
fn report(states: &BTreeMap<String, QueueState>, known: &KnownQueues, shared_runs: u64) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, state) in states {
        match state {
            QueueState::NoAnswer => checks.push(silent(name)),
            QueueState::Refused(reason) => {
                let advice = "give the user the right to read waft's queues; see broker-permissions";
                checks.push(Check::warn("queues", format!("{name} cannot be queried: {reason}"), advice));
            }
            QueueState::Exists { .. } | QueueState::Missing => {}
        }
    }
    checks.extend(engines(states, shared_runs));
    for queue in &known.jobs {
        checks.extend(jobs(queue, states.get(&topology::job_queue(queue))));
    }
    let unserved = known.permits.iter().filter(|name| has_no_consumer(states.get(*name)));
    checks.extend(unserved.map(|name| {
        let detail = format!("no engine grants permits on {name}, which open runs need");
        Check::fail("queues", detail, "start an engine (`waft serve`): it grants permits when it drives such a run")
    }));
    if checks.is_empty() {
        let existing = states.values().filter(|state| matches!(state, QueueState::Exists { .. })).count() as u64;
        let detail = match existing {
            0 => "there are none yet: a waft declares them when it first uses this broker".to_owned(),
            existing => format!("{} checked, each has a leader and a consumer", count(existing, "queue")),
        };
        checks.push(Check::ok("queues", detail));
    }
    checks
}

fn silent(name: &str) -> Check {
    let detail = format!(
        "the broker has not answered about {name} for {} seconds: it may have no leader",
        QUERY_TIMEOUT.as_secs()
    );
    let advice = format!(
        "see whether it has one: rabbitmqctl list_queues name leader; if not, `rabbitmqctl delete_queue {name}` deletes it with \
         its messages, and waft declares it again"
    );
    Check::fail("queues", detail, advice)
}

fn has_no_consumer(state: Option<&QueueState>) -> bool {
    matches!(state, Some(QueueState::Exists { consumers: 0, .. } | QueueState::Missing))
}

/// The problems of the queues of engines that share runs.
fn engines(states: &BTreeMap<String, QueueState>, shared_runs: u64) -> Option<Check> {
    let mut unconsumed = Vec::new();
    let mut waiting = 0;
    for shard in topology::shards() {
        let name = topology::shard_queue(&shard);
        if let Some(QueueState::Exists { ready, consumers: 0 }) = states.get(&name) {
            waiting += ready;
            unconsumed.push(name);
        }
    }
    let stores = [topology::SHARED_STORE.to_owned(), topology::store_put_queue(topology::SHARED_STORE)];
    let unserved =
        stores.iter().find(|name| matches!(states.get(*name), Some(QueueState::Exists { consumers: 0, .. })));
    if let Some(store) = unserved.filter(|_| unconsumed.is_empty()) {
        let detail = format!("there are engines, and none consumes {store}: workers get no modules");
        return Some(Check::fail("queues", detail, "look at the logs of the engines, and restart them"));
    }
    if unconsumed.is_empty() {
        return None;
    }
    let detail = format!("no engine consumes {}", first_few(&unconsumed));
    if waiting == 0 && shared_runs == 0 {
        return Some(Check::warn(
            "queues",
            detail,
            "start an engine when runs are to be submitted: waft serve --broker URL",
        ));
    }
    let detail = format!("{detail}; {} and {} wait", count(waiting, "message"), count(shared_runs, "open run"));
    Some(Check::fail("queues", detail, "start an engine: waft serve --broker URL, with the logbook of these runs"))
}

fn jobs(queue: &QueueName, state: Option<&QueueState>) -> Option<Check> {
    let Some(QueueState::Exists { ready, consumers: 0 }) = state else { return None };
    let name = topology::job_queue(queue);
    let advice = format!("start a worker: waft worker --broker URL --queues {queue}");
    Some(match ready {
        0 => Check::warn("queues", format!("no worker takes jobs from {name}; no job waits there"), advice),
        waiting => {
            let wait = if *waiting == 1 { "1 job waits".to_owned() } else { format!("{waiting} jobs wait") };
            Check::fail("queues", format!("no worker takes jobs from {name}, where {wait}"), advice)
        }
    })
}

#[cfg(test)]
mod tests;
