//! Lists the workers that respond, the waft version of each, and those that are drained.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ::broker::{Broker, PublishError};
use client::{AskedWorkers, WorkersError, api::Check};
use flow::QueueName;
use protocol::{WorkerDetails, WorkerState, WorkerStatus};

use super::{QUERY_TIMEOUT, count, first_few, within};
use crate::problem::chain;

/// How long workers have to answer. Workers answer at once unless they are starved.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// The version of this waft.
const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The answers of the workers.
#[derive(Default)]
pub(super) struct Workers {
    pub(super) checks: Vec<Check>,
    responding: Vec<WorkerStatus>,
}

impl Workers {
    /// The number of responding workers that consume a queue, and the number of calls they are executing.
    pub(super) fn of(&self, queue: &QueueName) -> (u64, u64) {
        let consumers = self.responding.iter().filter(|worker| worker.queues.contains(queue));
        consumers.fold((0, 0), |(workers, busy), worker| (workers + 1, busy + u64::from(worker.busy)))
    }
}

/// Pings all workers.
pub(super) async fn ping(broker: Option<Arc<dyn Broker>>) -> Workers {
    let Some(broker) = broker else {
        return Workers { checks: vec![Check::skipped("workers", "there is no broker")], ..Workers::default() };
    };
    let start = "start one: waft worker --broker URL --queues NAMES";
    let only = |check| Workers { checks: vec![check], ..Workers::default() };
    let asking = async {
        let details = client::ask_details(broker.clone(), None, REPLY_TIMEOUT);
        tokio::try_join!(client::ask_workers(broker.clone(), REPLY_TIMEOUT), details)
    };
    match within(QUERY_TIMEOUT, asking).await {
        Some(Ok((result, details))) => {
            let check = report(&result, &details, start);
            Workers { checks: vec![check], responding: result.workers }
        }
        // The broker has no exchange for the ping.
        Some(Err(WorkersError::Ping(PublishError::Refused { reason, .. }))) if reason.contains("NOT_FOUND") => {
            only(Check::warn("workers", "no waft has used this broker yet", start))
        }
        Some(Err(error)) => {
            let advice = "see broker-permissions for what the user needs";
            only(Check::warn("workers", format!("they cannot be pinged: {}", chain(&error)), advice))
        }
        None => {
            let detail = format!("the broker has not sent the ping within {} seconds", QUERY_TIMEOUT.as_secs());
            only(Check::warn("workers", detail, "see the other lines about the broker"))
        }
    }
}

fn report(result: &AskedWorkers, details: &[WorkerDetails], start: &str) -> Check {
    if result.workers.is_empty() && result.unreadable == 0 {
        return Check::warn("workers", format!("none answered within {} s", REPLY_TIMEOUT.as_secs()), start);
    }
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for worker in &result.workers {
        versions.entry(&worker.version).or_default().insert(worker.name.as_str());
    }
    let responding = format!("{} answered", count(result.workers.len() as u64, "worker"));
    let others: Vec<String> = versions
        .iter()
        .filter(|(version, _)| **version != OWN_VERSION)
        .flat_map(|(version, names)| names.iter().map(move |name| format!("{name} ({version})")))
        .collect();
    let drained = details.iter().filter(|details| details.state != WorkerState::Active);
    let drained: BTreeSet<String> = drained.map(|details| details.name.to_string()).collect();
    let drained: Vec<String> = drained.into_iter().collect();
    if others.is_empty() && result.unreadable == 0 {
        let detail = format!("{responding}, all of waft {OWN_VERSION}");
        if drained.is_empty() {
            return Check::ok("workers", detail);
        }
        let detail = format!("{detail}; drained, and so without new jobs, are {}", first_few(&drained));
        return Check::warn("workers", detail, "let them take jobs again when they may: waft workers resume NAME");
    }
    let mut detail = format!("{responding}; this is waft {OWN_VERSION}");
    if !others.is_empty() {
        detail.push_str(&format!(", of another version are {}", first_few(&others)));
    }
    if result.unreadable > 0 {
        let unreadable = count(result.unreadable as u64, "answer");
        detail.push_str(&format!("; {unreadable} could not be read, from workers of a newer version"));
    }
    if !drained.is_empty() {
        detail.push_str(&format!("; drained, and so without new jobs, are {}", first_few(&drained)));
    }
    let advice = "upgrade the older ones: messages that they cannot read go to quarantine";
    Check::warn("workers", detail, advice)
}

#[cfg(test)]
mod tests {
    use api::Outcome;

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
        let result = |workers, unreadable| {
            let mut asked = AskedWorkers::default();
            (asked.workers, asked.unreadable) = (workers, unreadable);
            report(&asked, &[], "start")
        };
        assert_eq!(result(vec![worker("a", OWN_VERSION)], 0).outcome, Outcome::Ok);
        assert_eq!(result(Vec::new(), 0).outcome, Outcome::Warn);
        let check = result(vec![worker("a", OWN_VERSION), worker("b", "0.0.1")], 1);
        assert_eq!(check.outcome, Outcome::Warn);
        assert!(check.detail.contains("b (0.0.1)") && !check.detail.contains("a ("), "{check:?}");
        assert!(check.detail.contains("1 answer could not be read"), "{check:?}");
    }

    #[test]
    fn drained_workers_are_named() {
        let details = |name: &str, state| WorkerDetails {
            name: name.parse().unwrap(),
            instance: name.into(),
            state,
            own_slots: BTreeMap::new(),
            calls: protocol::WorkerCalls::default(),
        };
        let details = [
            details("a", WorkerState::Active),
            details("b", WorkerState::Draining),
            details("c", WorkerState::Exiting),
        ];
        let result = |version: &str| {
            let mut asked = AskedWorkers::default();
            (asked.workers, asked.unreadable) = (["a", "b", "c"].map(|name| worker(name, version)).to_vec(), 0);
            report(&asked, &details, "start")
        };
        let check = result(OWN_VERSION);
        assert_eq!(check.outcome, Outcome::Warn);
        assert!(check.detail.ends_with("drained, and so without new jobs, are b, c"), "{check:?}");
        assert!(result("0.0.1").detail.ends_with("drained, and so without new jobs, are b, c"));
    }

    #[test]
    fn the_calls_of_the_workers_of_a_queue_are_counted() {
        let workers =
            Workers { checks: Vec::new(), responding: vec![worker("a", OWN_VERSION), worker("b", OWN_VERSION)] };
        assert_eq!(workers.of(&"default".parse().unwrap()), (2, 4));
        assert_eq!(workers.of(&"ovens".parse().unwrap()), (0, 0));
    }
}
