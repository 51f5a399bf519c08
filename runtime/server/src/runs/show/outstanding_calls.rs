//! The outstanding calls of a run: the worker of each, or why there is none.
//!
//! Engine and broker are asked in turn, and requests for the same run share the answers. A question to the broker takes one of the few
//! operations that a connection has at the same time, and those of the engine must not wait for requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use api::OutstandingCall;
use broker::Broker;
use engine::{Engine, SilentLease};
use flow::{CallId, NodeName, QueueName, RunId, Timestamp, WorkerName};
use machine::Machine;
use protocol::{events::rfc3339, lease, topology};
use sandbox::Owner;
use tokio::time::timeout;
use tracing::debug;

use crate::{shared_answers::SharedAnswers, state::State};

/// The longest time that a request waits for what the engine and the broker answer about its calls. What is not there by then is not shown.
const MAX_WAITING: Duration = Duration::from_secs(2);

/// The longest time to ask the engine and the broker about the calls of one run.
const MAX_ASKING: Duration = Duration::from_millis(1_500);

/// The maximum number of queues of a run that the broker is asked about: those of the calls that wait for longest.
const MAX_QUEUES: usize = 16;

/// Number of runs about whose calls the engine and the broker are asked at the same time, each with one question after the other. It is half
/// of the operations that a connection to the broker has at the same time.
pub(crate) const MAX_RUNS_AT_ONCE: usize = 8;

/// What the engine and the broker have answered about the calls of runs.
pub(crate) type CallAnswers = SharedAnswers<AskedCalls, Arc<Answers>>;

/// What is asked about the calls of a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AskedCalls {
    run: RunId,
    /// Whether the engine is asked: a worker has a lease.
    has_leases: bool,
    /// The queues that the broker is asked about.
    queues: Vec<QueueName>,
}

/// What the engine and the broker have answered about the calls of a run.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// How long the workers that hold a lease have been silent.
    silences: BTreeMap<CallId, Duration>,
    /// The queues without a consumer.
    unserved: BTreeSet<QueueName>,
}

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

/// Asks the engine and the broker about the calls of a run, when it is the turn of the sender. The keys are the names of the tasks.
pub(super) async fn outstanding_calls(
    state: &State,
    run: &RunId,
    calls: BTreeMap<NodeName, OldestCall>,
    sender: Owner,
) -> BTreeMap<String, OutstandingCall> {
    let (engine, broker) = (state.dependencies.engine.clone(), state.dependencies.broker.clone());
    let has_leases = calls.values().any(|call| call.worker.is_some());
    let asked = AskedCalls { run: run.clone(), has_leases, queues: waited_for(calls.values()) };
    let question = asked.clone();
    let asking = async move {
        let engine = asked.has_leases.then_some(&engine);
        Ok(Arc::new(ask((engine, &*broker), &asked.run, asked.queues).await))
    };
    let answers = match timeout(MAX_WAITING, state.call_answers.get(question, sender, asking)).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(_)) | Err(_) => {
            debug!(%run, "what was asked about the calls of a run was not answered in time");
            Arc::default()
        }
    };
    calls.into_iter().map(|(name, call)| (name.to_string(), shown(call, &answers))).collect()
}

/// The queues of the calls that no worker has, those that have waited for longest.
fn waited_for<'a>(calls: impl Iterator<Item = &'a OldestCall>) -> Vec<QueueName> {
    let mut since: BTreeMap<&QueueName, Timestamp> = BTreeMap::new();
    for OldestCall { since: at, queue, .. } in calls.filter(|call| call.worker.is_none()) {
        let oldest = since.entry(queue).or_insert(*at);
        *oldest = (*oldest).min(*at);
    }
    let mut queues: Vec<(Timestamp, &QueueName)> = since.into_iter().map(|(queue, at)| (at, queue)).collect();
    queues.sort_unstable();
    queues.into_iter().take(MAX_QUEUES).map(|(_, queue)| queue.clone()).collect()
}

/// Asks for a limited time. The engine is asked if it is given: a worker has a lease.
async fn ask((engine, broker): (Option<&Engine>, &dyn Broker), run: &RunId, queues: Vec<QueueName>) -> Answers {
    let mut answers = Answers::default();
    let asking = async {
        if let Some(engine) = engine {
            let silent = engine.silent_leases(run).await;
            answers.silences.extend(silent.into_iter().map(|SilentLease { call, since, .. }| (call, since)));
        }
        for queue in queues {
            if has_no_consumer(broker, &queue).await {
                answers.unserved.insert(queue);
            }
        }
    };
    if timeout(MAX_ASKING, asking).await.is_err() {
        debug!(%run, "not all that was asked about the calls of a run was answered in time");
    }
    answers
}

fn shown(OldestCall { call, since, queue, worker }: OldestCall, answers: &Answers) -> OutstandingCall {
    let silence = answers.silences.get(&call).filter(|silence| **silence >= lease::SILENT_AFTER);
    OutstandingCall {
        since: rfc3339(since),
        unserved: worker.is_none() && answers.unserved.contains(&queue),
        queue: queue.to_string(),
        worker: worker.map(|worker| worker.to_string()),
        silent_for: silence.map(Duration::as_secs_f64),
    }
}

/// Whether the broker reports that a queue has no consumer.
async fn has_no_consumer(broker: &dyn Broker, queue: &QueueName) -> bool {
    match broker.consumers(&topology::job_queue(queue)).await {
        Ok(consumers) => consumers.unwrap_or_default() == 0,
        Err(error) => {
            debug!(%queue, %error, "it is unknown whether a queue has a consumer");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use broker::{InProcess, lossy::LossyConnection, topology::declare_shared};
    use flow::{Action, Attempt, Firing};

    use super::*;

    fn call(queue: usize, since: u64, worker: Option<&str>) -> OldestCall {
        let call = CallId {
            run: "r".parse().unwrap(),
            task: "t".parse().unwrap(),
            firing: Firing::FIRST,
            attempt: Attempt::FIRST,
            action: Action::Apply,
        };
        let (since, worker) = (Timestamp::from_micros(since), worker.map(|worker| worker.parse().unwrap()));
        OldestCall { call, since, queue: name(queue), worker }
    }

    fn name(queue: usize) -> QueueName {
        format!("q{queue}").parse().unwrap()
    }

    #[test]
    fn only_the_queues_of_the_calls_that_wait_for_longest_are_asked_for() {
        let waiting = (0..256).map(|queue| call(queue, 1_000 - queue as u64, None));
        let calls: Vec<OldestCall> =
            waiting.chain([call(7, 1, None), call(300, 0, Some("w")), call(255, 2_000, None)]).collect();
        let expected: Vec<QueueName> = [7].into_iter().chain((241..256).rev()).map(name).collect();
        assert_eq!(expected.len(), MAX_QUEUES);
        assert_eq!(waited_for(calls.iter()), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_answered_in_time_is_shown_although_something_is_not() {
        let memory = InProcess::new();
        declare_shared(&memory).await.unwrap();
        let broker = LossyConnection::to(&memory);
        broker.set_unresponsive(&topology::job_queue(&name(2)), true);
        let answers = ask((None, &broker), &"r".parse().unwrap(), vec![name(1), name(2), name(3)]).await;
        assert_eq!(answers.unserved, [name(1)].into());
        assert!(shown(call(1, 1, None), &answers).unserved);
        assert!(!shown(call(1, 1, Some("w")), &answers).unserved, "a worker has it");
        assert!(!shown(call(2, 1, None), &answers).unserved, "it is unknown");
    }
}
