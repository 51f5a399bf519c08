//! Lists the workers that respond, and the waft version of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ::broker::{Broker, PublishError};
use client::{AskedWorkers, WorkersError, api::Check};
use flow::QueueName;
use protocol::WorkerStatus;

use super::{LOOK, count, few, within};
use crate::problem::chain;

/// How long workers have to answer. Workers answer at once unless they are starved.
const PATIENCE: Duration = Duration::from_secs(1);

/// The version of this waft.
const OURS: &str = env!("CARGO_PKG_VERSION");

/// The answers of the workers.
#[derive(Default)]
pub(super) struct Workers {
    pub(super) checks: Vec<Check>,
    answered: Vec<WorkerStatus>,
}

impl Workers {
    /// The number of responding workers that take jobs from a queue, and the number of calls they are executing.
    pub(super) fn of(&self, queue: &QueueName) -> (u64, u64) {
        let takers = self.answered.iter().filter(|worker| worker.queues.contains(queue));
        takers.fold((0, 0), |(workers, busy), worker| (workers + 1, busy + u64::from(worker.busy)))
    }
}

/// Pings all workers.
pub(super) async fn ask(broker: Option<Arc<dyn Broker>>) -> Workers {
    let Some(broker) = broker else {
        return Workers { checks: vec![Check::skipped("workers", "there is no broker to ask")], ..Workers::default() };
    };
    let start = "start one: waft worker --broker URL --queues NAMES";
    let failed = |check| Workers { checks: vec![check], ..Workers::default() };
    match within(LOOK, client::ask_workers(broker, PATIENCE)).await {
        Some(Ok(asked)) => {
            let check = judge(&asked, start);
            Workers { checks: vec![check], answered: asked.workers }
        }
        // The broker has no exchange for the ping.
        Some(Err(WorkersError::Ping(PublishError::Refused { reason, .. }))) if reason.contains("NOT_FOUND") => {
            failed(Check::warn("workers", "no waft has used this broker yet", start))
        }
        Some(Err(error)) => {
            let advice = "see broker-permissions for what the user needs";
            failed(Check::warn("workers", format!("they cannot be asked: {}", chain(&error)), advice))
        }
        None => {
            let detail = format!("the broker has not let them be asked for {} seconds", LOOK.as_secs());
            failed(Check::warn("workers", detail, "see the other lines about the broker"))
        }
    }
}

fn judge(asked: &AskedWorkers, start: &str) -> Check {
    if asked.workers.is_empty() && asked.unreadable == 0 {
        return Check::warn("workers", format!("none answered within {} s", PATIENCE.as_secs()), start);
    }
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for worker in &asked.workers {
        versions.entry(&worker.version).or_default().insert(worker.name.as_str());
    }
    let answered = format!("{} answered", count(asked.workers.len() as u64, "worker"));
    let others: Vec<String> = versions
        .iter()
        .filter(|(version, _)| **version != OURS)
        .flat_map(|(version, names)| names.iter().map(move |name| format!("{name} ({version})")))
        .collect();
    if others.is_empty() && asked.unreadable == 0 {
        return Check::ok("workers", format!("{answered}, all of waft {OURS}"));
    }
    let mut detail = format!("{answered}; this is waft {OURS}");
    if !others.is_empty() {
        detail.push_str(&format!(", of another version are {}", few(&others)));
    }
    if asked.unreadable > 0 {
        let unreadable = count(asked.unreadable as u64, "answer");
        detail.push_str(&format!("; {unreadable} could not be read, from workers of a newer version"));
    }
    let advice = "upgrade the older ones: what one of them cannot read is kept in quarantine";
    Check::warn("workers", detail, advice)
}

#[cfg(test)]
mod tests {
    use client::api::Outcome;

    use super::*;

    fn worker(name: &str, version: &str) -> WorkerStatus {
        WorkerStatus {
            name: name.parse().unwrap(),
            instance: name.into(),
            host: "h".into(),
            process: 1,
            slots: 1,
            busy: 2,
            queues: vec!["default".parse().unwrap()],
            version: version.into(),
        }
    }

    #[test]
    fn workers_of_another_version_are_named() {
        let asked = |workers, unreadable| judge(&AskedWorkers { workers, unreadable }, "start");
        assert_eq!(asked(vec![worker("a", OURS)], 0).outcome, Outcome::Ok);
        assert_eq!(asked(Vec::new(), 0).outcome, Outcome::Warn);
        let check = asked(vec![worker("a", OURS), worker("b", "0.0.1")], 1);
        assert_eq!(check.outcome, Outcome::Warn);
        assert!(check.detail.contains("b (0.0.1)") && !check.detail.contains("a ("), "{check:?}");
        assert!(check.detail.contains("1 answer could not be read"), "{check:?}");
    }

    #[test]
    fn the_calls_in_hand_are_those_of_the_workers_of_a_queue() {
        let workers = Workers { checks: Vec::new(), answered: vec![worker("a", OURS), worker("b", OURS)] };
        assert_eq!(workers.of(&"default".parse().unwrap()), (2, 4));
        assert_eq!(workers.of(&"ovens".parse().unwrap()), (0, 0));
    }
}
