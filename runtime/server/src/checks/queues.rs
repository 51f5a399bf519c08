//! Finds queues that the broker does not answer for, and queues without consumers.
//!
//! AMQP cannot list queues, so this checks the known ones: the engines' queues, and the queues that open runs, this waft's
//! settings and the responding workers name. It queries each with a passive declare, which creates nothing.

use std::collections::{BTreeMap, BTreeSet};

use ::broker::{Broker, DeclareError};
use client::api::Check;
use flow::QueueName;
use futures::{StreamExt, stream};
use protocol::topology;

use super::{LOOK, Places, count, few, runs::Loaded, within};
use crate::problem::chain;

/// The number of concurrent queries, and the maximum number of queues to query.
const AT_ONCE: usize = 8;
const MOST: usize = 200;

/// The queues to query.
#[derive(Default)]
pub(super) struct Wanted {
    /// Job queues.
    jobs: BTreeSet<QueueName>,
    /// Permit queues.
    permits: BTreeSet<String>,
    /// Shard queues that have open runs.
    shards: BTreeSet<String>,
}

/// The broker's answer about one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// The queue exists.
    There {
        /// The number of waiting messages.
        ready: u64,
        /// The number of consumers.
        consumers: u64,
    },
    /// There is no such queue.
    Missing,
    /// The broker did not answer.
    Silent,
    /// The broker refused the query.
    Refused(String),
}

/// The broker's answers about all queues.
#[derive(Default)]
pub(super) struct Queues {
    pub(super) checks: Vec<Check>,
    asked: BTreeMap<String, Asked>,
}

impl Wanted {
    /// The queues that the open runs and the settings name.
    pub(super) fn of(places: &Places, open: &Loaded) -> Self {
        let mut wanted = Self { jobs: places.queues.clone(), ..Self::default() };
        wanted.jobs.extend("default".parse::<QueueName>());
        for run in &open.runs {
            wanted.shards.insert(topology::shard_queue(&run.summary.standing.shard));
            let flow = run.machine.flow();
            for (_, name, task) in flow.tasks() {
                wanted.jobs.insert(task.queue.clone());
                if !task.pace.is_unlimited() {
                    wanted.permits.insert(topology::permit_queue(&flow.name, name));
                }
            }
        }
        wanted
    }

    fn names(&self) -> BTreeSet<String> {
        let stores = [topology::SHARED_STORE.to_owned(), topology::store_put_queue(topology::SHARED_STORE)];
        let shards = topology::shards().map(|shard| topology::shard_queue(&shard));
        let jobs = self.jobs.iter().map(topology::job_queue);
        stores.into_iter().chain(shards).chain(jobs).chain(self.permits.iter().take(MOST).cloned()).collect()
    }
}

impl Queues {
    /// The broker's answer about a queue; `None` when it was not queried.
    pub(super) fn of(&self, queue: &str) -> Option<&Asked> {
        self.asked.get(queue)
    }

    /// Whether an engine drives a shard; `None` when this is unknown.
    pub(super) fn drives(&self, queue: &str) -> Option<bool> {
        match self.asked.get(queue)? {
            Asked::There { consumers, .. } => Some(*consumers > 0),
            Asked::Missing => Some(false),
            Asked::Silent | Asked::Refused(_) => None,
        }
    }
}

/// Queries all queues.
pub(super) async fn ask(broker: Option<&dyn Broker>, wanted: &Wanted, open: &Loaded) -> Queues {
    let Some(broker) = broker else {
        return Queues { checks: vec![Check::skipped("queues", "there is no broker to ask")], ..Queues::default() };
    };
    let names: BTreeSet<String> = wanted.names().into_iter().chain(wanted.shards.iter().take(MOST).cloned()).collect();
    // Collected first: a future that borrows from a closure's argument is not general enough to be sent between threads.
    let asking: Vec<_> = names.into_iter().take(MOST).map(|name| ask_one(broker, name)).collect();
    // The queries run concurrently, so one queue without an answer delays only its own slot.
    let asked = stream::iter(asking).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    let asked: BTreeMap<String, Asked> = asked.into_iter().collect();
    let checks = judge(&asked, wanted, open.of_shared_shards());
    Queues { checks, asked }
}

async fn ask_one(broker: &dyn Broker, name: String) -> (String, Asked) {
    let asking = async {
        let Some(ready) = broker.waiting(&name).await? else { return Ok(Asked::Missing) };
        let consumers = broker.consumers(&name).await?.unwrap_or_default();
        Ok::<_, DeclareError>(Asked::There { ready, consumers })
    };
    let asked = match within(LOOK, asking).await {
        Some(Ok(asked)) => asked,
        Some(Err(DeclareError::TimedOut { .. })) | None => Asked::Silent,
        Some(Err(error)) => Asked::Refused(chain(&error)),
    };
    (name, asked)
}

/// The problems of the queues, or one line that there are none.
fn judge(asked: &BTreeMap<String, Asked>, wanted: &Wanted, shared_runs: u64) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, answer) in asked {
        match answer {
            Asked::Silent => checks.push(silent(name)),
            Asked::Refused(reason) => {
                let advice = "give the user the right to read waft's queues; see broker-permissions";
                checks.push(Check::warn("queues", format!("{name} cannot be asked about: {reason}"), advice));
            }
            Asked::There { .. } | Asked::Missing => {}
        }
    }
    checks.extend(engines(asked, shared_runs));
    for queue in &wanted.jobs {
        checks.extend(jobs(queue, asked.get(&topology::job_queue(queue))));
    }
    let unserved = wanted.permits.iter().filter(|name| has_no_consumer(asked.get(*name)));
    checks.extend(unserved.map(|name| {
        let detail = format!("nobody gives permits on {name}, which open runs need");
        Check::fail("queues", detail, "start an engine (`waft serve`): it gives permits when it drives such a run")
    }));
    if checks.is_empty() {
        let there = asked.values().filter(|answer| matches!(answer, Asked::There { .. })).count() as u64;
        let detail = match there {
            0 => "there are none yet: a waft makes them when it first uses this broker".to_owned(),
            there => format!("{} asked about, each has a leader and a consumer", count(there, "queue")),
        };
        checks.push(Check::ok("queues", detail));
    }
    checks
}

fn silent(name: &str) -> Check {
    let detail = format!("the broker has said nothing of {name} for {} seconds: it may have no leader", LOOK.as_secs());
    let advice = format!(
        "see whether it has one: rabbitmqctl list_queues name leader; if not, `rabbitmqctl delete_queue {name}` deletes it with \
         what is in it, and it is made anew"
    );
    Check::fail("queues", detail, advice)
}

fn has_no_consumer(asked: Option<&Asked>) -> bool {
    matches!(asked, Some(Asked::There { consumers: 0, .. } | Asked::Missing))
}

/// The problems of the queues of engines that share runs.
fn engines(asked: &BTreeMap<String, Asked>, shared_runs: u64) -> Option<Check> {
    let mut idle = Vec::new();
    let mut waiting = 0;
    for shard in topology::shards() {
        let name = topology::shard_queue(&shard);
        if let Some(Asked::There { ready, consumers: 0 }) = asked.get(&name) {
            waiting += ready;
            idle.push(name);
        }
    }
    let stores = [topology::SHARED_STORE.to_owned(), topology::store_put_queue(topology::SHARED_STORE)];
    let unserved = stores.iter().find(|name| matches!(asked.get(*name), Some(Asked::There { consumers: 0, .. })));
    if let Some(store) = unserved.filter(|_| idle.is_empty()) {
        let detail = format!("engines are there, and none answers on {store}: workers get no modules");
        return Some(Check::fail("queues", detail, "look at the logs of the engines, and start them anew"));
    }
    if idle.is_empty() {
        return None;
    }
    let detail = format!("no engine consumes {}", few(&idle));
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

fn jobs(queue: &QueueName, asked: Option<&Asked>) -> Option<Check> {
    let Some(Asked::There { ready, consumers: 0 }) = asked else { return None };
    let name = topology::job_queue(queue);
    let advice = format!("start a worker: waft worker --broker URL --queues {queue}");
    Some(match ready {
        0 => Check::warn("queues", format!("no worker takes jobs from {name}; none waits there"), advice),
        waiting => {
            let wait = if *waiting == 1 { "1 job waits".to_owned() } else { format!("{waiting} jobs wait") };
            Check::fail("queues", format!("no worker takes jobs from {name}, where {wait}"), advice)
        }
    })
}

#[cfg(test)]
mod tests;
