//! The check of the queues: whether each answers, and has a consumer.

use ::broker::{InProcess, Queue, QueueKind, lossy::LossyConnection};
use api::Outcome;
use tokio::time::Instant;

use super::*;

const SERVED: QueueState = QueueState::Exists { ready: 0, consumers: 1 };

/// A broker with one engine and one worker, except for the queues in `other`.
fn checks(other: &[(&str, QueueState)], shared_runs: u64) -> Vec<(Outcome, String)> {
    let known = KnownQueues { jobs: ["default".parse().unwrap()].into(), ..KnownQueues::default() };
    let mut states: BTreeMap<String, QueueState> = known.names().into_iter().map(|name| (name, SERVED)).collect();
    states.extend(other.iter().map(|(name, state)| ((*name).to_owned(), state.clone())));
    report(&states, &known, shared_runs).into_iter().map(|check| (check.outcome, check.detail)).collect()
}

#[test]
fn queues_that_are_consumed_or_missing_are_healthy() {
    for other in [&[][..], &[("waft.jobs.default", QueueState::Missing)]] {
        let checks = checks(other, 0);
        assert_eq!((checks.len(), &checks[0].0), (1, &Outcome::Ok), "{checks:?}");
    }
}

#[test]
fn a_queue_without_an_answer_is_named() {
    let checks = checks(&[("waft.jobs.default", QueueState::NoAnswer)], 0);
    assert_eq!((checks.len(), &checks[0].0), (1, &Outcome::Fail));
    assert!(checks[0].1.contains("waft.jobs.default") && checks[0].1.contains("no leader"), "{checks:?}");
}

#[test]
fn waiting_jobs_without_a_worker_are_worse_than_an_idle_queue() {
    let idle = |ready| [("waft.jobs.default", QueueState::Exists { ready, consumers: 0 })];
    assert_eq!(checks(&idle(0), 0)[0].0, Outcome::Warn);
    assert_eq!(
        checks(&idle(3), 0),
        [(Outcome::Fail, "no worker takes jobs from waft.jobs.default, where 3 jobs wait".to_owned())]
    );
}

#[test]
fn shards_without_an_engine_matter_once_something_waits() {
    let names: Vec<String> = topology::shards().map(|shard| topology::shard_queue(&shard)).collect();
    let idle = |ready| names.iter().map(move |name| (name.as_str(), QueueState::Exists { ready, consumers: 0 }));
    let idle = |ready| idle(ready).collect::<Vec<_>>();
    assert_eq!(checks(&idle(0), 0)[0].0, Outcome::Warn);
    assert_eq!(checks(&idle(0), 1)[0].0, Outcome::Fail);
    assert_eq!(checks(&idle(1), 0)[0].0, Outcome::Fail);
    assert_eq!(checks(&idle(1), 0).len(), 1, "one line for all of them");
}

#[test]
fn engines_that_serve_no_store_are_reported() {
    let checks = checks(&[("waft.store.shared", QueueState::Exists { ready: 0, consumers: 0 })], 0);
    assert_eq!((checks.len(), &checks[0].0), (1, &Outcome::Fail));
    assert!(checks[0].1.contains("waft.store.shared"), "{checks:?}");
}

#[tokio::test(start_paused = true)]
async fn a_queue_without_a_leader_delays_the_check_no_longer_than_its_limit() {
    let broker = LossyConnection::to(&InProcess::new());
    for queue in ["waft.jobs.default", "waft.jobs.ovens"] {
        broker.declare_queue(&Queue { name: queue.into(), kind: QueueKind::Exclusive }).await.unwrap();
    }
    let _consumer = broker.consume("waft.jobs.ovens", 1).await.unwrap();
    broker.set_unresponsive("waft.jobs.default", true);
    let jobs = ["default", "ovens"].map(|name| name.parse().unwrap()).into();
    let known = KnownQueues { jobs, ..KnownQueues::default() };
    let started = Instant::now();
    let queues = query(Some(&broker), &known, &OpenRuns::default()).await;
    assert_eq!(started.elapsed().as_secs(), QUERY_TIMEOUT.as_secs());
    assert_eq!(queues.of("waft.jobs.default"), Some(&QueueState::NoAnswer));
    assert_eq!(queues.of("waft.jobs.ovens"), Some(&QueueState::Exists { ready: 0, consumers: 1 }));
    assert_eq!((queues.checks.len(), &queues.checks[0].outcome), (1, &Outcome::Fail), "{:?}", queues.checks);
    assert!(queues.checks[0].advice.as_ref().unwrap().contains("delete_queue waft.jobs.default"));
}
