//! The check of the queues: whether each answers, and has a consumer.

use ::broker::{InProcess, Queue, QueueKind, lossy::LossyConnection};
use client::api::Outcome;
use tokio::time::Instant;

use super::*;

const SERVED: Asked = Asked::There { ready: 0, consumers: 1 };

/// A broker with one engine and one worker, except for the queues in `other`.
fn found(other: &[(&str, Asked)], shared_runs: u64) -> Vec<(Outcome, String)> {
    let wanted = Wanted { jobs: ["default".parse().unwrap()].into(), ..Wanted::default() };
    let mut asked: BTreeMap<String, Asked> = wanted.names().into_iter().map(|name| (name, SERVED)).collect();
    asked.extend(other.iter().map(|(name, answer)| ((*name).to_owned(), answer.clone())));
    judge(&asked, &wanted, shared_runs).into_iter().map(|check| (check.outcome, check.detail)).collect()
}

#[test]
fn queues_that_are_consumed_or_not_there_yet_are_well() {
    for other in [&[][..], &[("waft.jobs.default", Asked::Missing)]] {
        let found = found(other, 0);
        assert_eq!((found.len(), &found[0].0), (1, &Outcome::Ok), "{found:?}");
    }
}

#[test]
fn a_queue_of_which_the_broker_says_nothing_is_named() {
    let found = found(&[("waft.jobs.default", Asked::Silent)], 0);
    assert_eq!((found.len(), &found[0].0), (1, &Outcome::Fail));
    assert!(found[0].1.contains("waft.jobs.default") && found[0].1.contains("no leader"), "{found:?}");
}

#[test]
fn jobs_that_wait_for_nobody_are_worse_than_an_idle_queue() {
    let idle = |ready| [("waft.jobs.default", Asked::There { ready, consumers: 0 })];
    assert_eq!(found(&idle(0), 0)[0].0, Outcome::Warn);
    assert_eq!(
        found(&idle(3), 0),
        [(Outcome::Fail, "no worker takes jobs from waft.jobs.default, where 3 jobs wait".to_owned())]
    );
}

#[test]
fn shards_without_an_engine_matter_once_something_waits() {
    let names: Vec<String> = topology::shards().map(|shard| topology::shard_queue(&shard)).collect();
    let idle = |ready| names.iter().map(move |name| (name.as_str(), Asked::There { ready, consumers: 0 }));
    let idle = |ready| idle(ready).collect::<Vec<_>>();
    assert_eq!(found(&idle(0), 0)[0].0, Outcome::Warn);
    assert_eq!(found(&idle(0), 1)[0].0, Outcome::Fail);
    assert_eq!(found(&idle(1), 0)[0].0, Outcome::Fail);
    assert_eq!(found(&idle(1), 0).len(), 1, "one line for all of them");
}

#[test]
fn engines_that_serve_no_store_are_told() {
    let found = found(&[("waft.store.shared", Asked::There { ready: 0, consumers: 0 })], 0);
    assert_eq!((found.len(), &found[0].0), (1, &Outcome::Fail));
    assert!(found[0].1.contains("waft.store.shared"), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn a_queue_without_a_leader_holds_the_look_up_for_no_longer_than_its_limit() {
    let broker = LossyConnection::to(&InProcess::new());
    for queue in ["waft.jobs.default", "waft.jobs.ovens"] {
        broker.declare_queue(&Queue { name: queue.into(), kind: QueueKind::Exclusive }).await.unwrap();
    }
    let _taking = broker.consume("waft.jobs.ovens", 1).await.unwrap();
    broker.set_unresponsive("waft.jobs.default", true);
    let jobs = ["default", "ovens"].map(|name| name.parse().unwrap()).into();
    let wanted = Wanted { jobs, ..Wanted::default() };
    let started = Instant::now();
    let queues = ask(Some(&broker), &wanted, &Loaded::default()).await;
    assert_eq!(started.elapsed().as_secs(), LOOK.as_secs());
    assert_eq!(queues.of("waft.jobs.default"), Some(&Asked::Silent));
    assert_eq!(queues.of("waft.jobs.ovens"), Some(&Asked::There { ready: 0, consumers: 1 }));
    assert_eq!((queues.checks.len(), &queues.checks[0].outcome), (1, &Outcome::Fail), "{:?}", queues.checks);
    assert!(queues.checks[0].advice.as_ref().unwrap().contains("delete_queue waft.jobs.default"));
}
