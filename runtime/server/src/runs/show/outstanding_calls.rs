//! The outstanding calls of a run: the worker of each, or why there is none.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use api::OutstandingCall;
use engine::SilentLease;
use flow::{CallId, NodeName, QueueName, RunId, Timestamp, WorkerName};
use machine::Machine;
use protocol::{events::rfc3339, lease, topology};
use tracing::debug;

use crate::Dependencies;

/// The longest time to ask the engine and the broker about the calls of one run, which is in memory meanwhile. What they have not answered
/// by then is not shown.
const MAX_ASKING: Duration = Duration::from_secs(2);

/// The outstanding call of a task; of several, the oldest one.
pub(super) struct OldestCall {
    call: CallId,
    since: Timestamp,
    queue: QueueName,
    /// The worker that holds a lease on it.
    worker: Option<WorkerName>,
}

/// The oldest outstanding call of each task.
pub(super) fn oldest_calls(machine: &Machine) -> BTreeMap<NodeName, OldestCall> {
    let mut oldest: BTreeMap<NodeName, (Timestamp, CallId)> = BTreeMap::new();
    // A task may have a call for each of a million elements.
    for (call, since) in machine.outstanding_calls_since() {
        let Some(since) = since else { continue };
        let task = call.task.base();
        let call = (since, call);
        match oldest.get_mut(&task) {
            Some(known) if *known <= call => {}
            Some(known) => *known = call,
            None => drop(oldest.insert(task, call)),
        }
    }
    let mut leased: BTreeMap<CallId, WorkerName> = machine.leased_calls().collect();
    let of_task = |(name, (since, call)): (NodeName, (Timestamp, CallId))| {
        let queue = machine.task(&call.task)?.queue.clone();
        let worker = leased.remove(&call);
        Some((name, OldestCall { call, since, queue, worker }))
    };
    oldest.into_iter().filter_map(of_task).collect()
}

/// Asks the engine and the broker about the calls of a run.
pub(super) async fn outstanding_calls(
    dependencies: &Dependencies,
    run: &RunId,
    calls: BTreeMap<NodeName, OldestCall>,
) -> BTreeMap<NodeName, OutstandingCall> {
    let (mut silences, mut unserved) = (BTreeMap::new(), BTreeSet::new());
    let ask = async {
        if calls.values().any(|call| call.worker.is_some()) {
            let silent = dependencies.engine.silent_leases(run).await;
            silences.extend(silent.into_iter().map(|SilentLease { call, since, .. }| (call, since)));
        }
        let waiting = calls.values().filter(|call| call.worker.is_none());
        for queue in waiting.map(|call| &call.queue).collect::<BTreeSet<_>>() {
            if has_no_consumer(dependencies, queue).await {
                unserved.insert(queue.clone());
            }
        }
    };
    if tokio::time::timeout(MAX_ASKING, ask).await.is_err() {
        debug!(%run, "not all that was asked about the calls of a run was answered in time");
    }
    let shown = |OldestCall { call, since, queue, worker }: OldestCall| OutstandingCall {
        since: rfc3339(since),
        unserved: worker.is_none() && unserved.contains(&queue),
        queue: queue.to_string(),
        worker: worker.map(|worker| worker.to_string()),
        silent_for: silences.get(&call).filter(|silence| **silence >= lease::SILENT_AFTER).map(Duration::as_secs_f64),
    };
    calls.into_iter().map(|(name, call)| (name, shown(call))).collect()
}

/// Whether the broker reports that a queue has no consumer.
async fn has_no_consumer(dependencies: &Dependencies, queue: &QueueName) -> bool {
    match dependencies.broker.consumers(&topology::job_queue(queue)).await {
        Ok(consumers) => consumers.unwrap_or_default() == 0,
        Err(error) => {
            debug!(%queue, %error, "it is unknown whether a queue has a consumer");
            false
        }
    }
}
