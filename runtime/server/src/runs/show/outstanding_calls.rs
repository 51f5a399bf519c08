//! The outstanding calls of a run: the worker of each, or why there is none.

use std::collections::{BTreeMap, BTreeSet};

use client::api::OutstandingCall;
use flow::{CallId, Machine, NodeName, WorkerName};
use protocol::{json::rfc3339, lease, topology};
use tracing::debug;

use crate::Dependencies;

/// The outstanding call of each task; of several, the oldest one.
pub(super) async fn outstanding_calls(parts: &Dependencies, machine: &Machine) -> BTreeMap<NodeName, OutstandingCall> {
    let leased: BTreeMap<CallId, WorkerName> = machine.leased_calls().collect();
    let silences = if leased.is_empty() { Vec::new() } else { parts.engine.silent_leases(machine.run()).await };
    let mut untaken: BTreeMap<flow::QueueName, bool> = BTreeMap::new();
    let mut told = BTreeMap::new();
    let mut known = BTreeSet::new();
    let mut out: Vec<_> =
        machine.outstanding_calls().filter_map(|call| machine.outstanding_since(&call).map(|at| (at, call))).collect();
    out.sort();
    for (at, call) in out {
        let name = call.task.base();
        let Some(task) = machine.task(&call.task).filter(|_| known.insert(name.clone())) else { continue };
        let worker = leased.get(&call).map(ToString::to_string);
        if !untaken.contains_key(&task.queue) {
            let is_untaken = worker.is_none() && has_no_consumer(parts, &task.queue).await;
            untaken.insert(task.queue.clone(), is_untaken);
        }
        let silent = silences.iter().find(|silence| silence.call == call && silence.since >= lease::SILENT_AFTER);
        told.insert(
            name,
            OutstandingCall {
                queue: task.queue.to_string(),
                since: rfc3339(at),
                untaken: worker.is_none() && untaken[&task.queue],
                worker,
                silent_for: silent.map(|silence| silence.since.as_secs_f64()),
            },
        );
    }
    told
}

/// Whether the broker reports that a queue has no consumer.
async fn has_no_consumer(parts: &Dependencies, queue: &flow::QueueName) -> bool {
    match parts.broker.consumers(&topology::job_queue(queue)).await {
        Ok(consumers) => consumers.unwrap_or_default() == 0,
        Err(error) => {
            debug!(%queue, %error, "who takes jobs from a queue is not known");
            false
        }
    }
}
