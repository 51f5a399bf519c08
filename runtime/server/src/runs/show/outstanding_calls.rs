//! The outstanding calls of a run: the worker of each, or why there is none.

use std::collections::{BTreeMap, BTreeSet};

use api::OutstandingCall;
use flow::{CallId, NodeName, WorkerName};
use machine::Machine;
use protocol::{events::rfc3339, lease, topology};
use tracing::debug;

use crate::Dependencies;

/// The outstanding call of each task; of several, the oldest one.
pub(super) async fn outstanding_calls(
    dependencies: &Dependencies,
    machine: &Machine,
) -> BTreeMap<NodeName, OutstandingCall> {
    let leased: BTreeMap<CallId, WorkerName> = machine.leased_calls().collect();
    let silences = if leased.is_empty() { Vec::new() } else { dependencies.engine.silent_leases(machine.run()).await };
    let mut unserved: BTreeMap<flow::QueueName, bool> = BTreeMap::new();
    let mut calls = BTreeMap::new();
    let mut known = BTreeSet::new();
    let mut outstanding: Vec<_> =
        machine.outstanding_calls().filter_map(|call| machine.outstanding_since(&call).map(|at| (at, call))).collect();
    outstanding.sort();
    for (at, call) in outstanding {
        let name = call.task.base();
        let Some(task) = machine.task(&call.task).filter(|_| known.insert(name.clone())) else { continue };
        let worker = leased.get(&call).map(ToString::to_string);
        if !unserved.contains_key(&task.queue) {
            let is_unserved = worker.is_none() && has_no_consumer(dependencies, &task.queue).await;
            unserved.insert(task.queue.clone(), is_unserved);
        }
        let silent = silences.iter().find(|silence| silence.call == call && silence.since >= lease::SILENT_AFTER);
        calls.insert(
            name,
            OutstandingCall {
                queue: task.queue.to_string(),
                since: rfc3339(at),
                unserved: worker.is_none() && unserved[&task.queue],
                worker,
                silent_for: silent.map(|silence| silence.since.as_secs_f64()),
            },
        );
    }
    calls
}

/// Whether the broker reports that a queue has no consumer.
async fn has_no_consumer(dependencies: &Dependencies, queue: &flow::QueueName) -> bool {
    match dependencies.broker.consumers(&topology::job_queue(queue)).await {
        Ok(consumers) => consumers.unwrap_or_default() == 0,
        Err(error) => {
            debug!(%queue, %error, "it is unknown whether a queue has a consumer");
            false
        }
    }
}
