//! Tests of workers that an operator drains.

use broker::lossy::LossyConnection;
use protocol::WorkerState;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_drained_worker_ends_its_calls_and_takes_no_jobs_until_it_is_resumed() {
    let mut harness = Harness::new().await;
    harness.publish("short", [1; 200]).await;
    let (guests, _stop) = harness.worker("one").await;
    harness.answers(200).await;
    // The worker prefetches now.
    harness.publish("long", [5_000, 1, 1, 1]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let WorkerDetails { state, calls, .. } = harness.drain("one", DrainAction::Drain).await;
    let [call] = &calls.listed[..] else { panic!("{calls:?}") };
    assert_eq!((state, call.call.task.as_str(), calls.count()), (WorkerState::Draining, "t0", 1));
    assert!(call.running_for >= Duration::from_millis(900), "{call:?}");
    assert_eq!(harness.answers(1).await[0].call.task.as_str(), "t0", "it ends");
    harness.resend_returned().await;
    assert_eq!((harness.waiting().await, guests.started.load(Ordering::Relaxed)), (3, 201));
    let (other, stop_other) = harness.worker("other").await;
    assert!(harness.answers(3).await.iter().all(|signal| !signal.redelivered), "they were returned");
    assert_eq!(other.started.load(Ordering::Relaxed), 3, "another worker is not drained");
    stop_other.cancel();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(harness.drain("one", DrainAction::Resume).await.state, WorkerState::Active);
    harness.publish("later", [1; 2]).await;
    harness.answers(2).await;
    assert_eq!(guests.started.load(Ordering::Relaxed), 203);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_drained_to_exit_ends_after_its_calls() {
    let mut harness = Harness::new().await;
    harness.publish("long", [60_000]).await;
    let (_, _stop, task) = harness.worker_task("one").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let details = harness.drain("one", DrainAction::DrainAndExit).await;
    assert_eq!((details.state, details.calls.count()), (WorkerState::Exiting, 1));
    harness.publish("later", [1]).await;
    assert_eq!(harness.answers(1).await[0].call.run.as_str(), "long", "no grace period ends it");
    task.await.unwrap();
    assert_eq!(harness.waiting().await, 1);
    let (restarted, _stop) = harness.worker("one").await;
    harness.answers(1).await;
    assert_eq!(restarted.started.load(Ordering::Relaxed), 1, "a worker that starts again is not drained");
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_arrives_through_another_exchange_is_refused() {
    let mut harness = Harness::new().await;
    let (_, _stop) = harness.worker("one").await;
    let worker = "one".parse().unwrap();
    let key = topology::control_queue(&worker);
    let reply_to = topology::reply_queue("forged");
    let request = DrainRequest { reply_to, worker, action: DrainAction::Drain };
    harness.control(topology::REPLIES, key, &Control::Drain(request)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    harness.publish("r", [1]).await;
    timeout(Duration::from_secs(60), harness.answers(1)).await.expect("it takes jobs");
}

#[tokio::test(start_paused = true)]
async fn a_drained_worker_returns_fetched_jobs_at_once() {
    let mut harness = Harness::new().await;
    harness.publish("short", [1; 200]).await;
    let (_, _stop) = harness.worker("one").await;
    harness.answers(200).await;
    // The worker prefetches now, and would return jobs behind a long call after a while.
    harness.publish("long", [60_000, 1, 1, 1]).await;
    tokio::time::sleep(MAX_FETCHED_WAIT / 2).await;
    harness.drain("one", DrainAction::Drain).await;
    let drained_at = Instant::now();
    let returned = harness.signals.next().await.unwrap();
    assert!(drained_at.elapsed() < MAX_FETCHED_WAIT / 4, "{:?}", drained_at.elapsed());
    assert!(harness.receive(returned).await.is_empty(), "the long call goes on");
    harness.resend_returned().await;
    assert_eq!(harness.waiting().await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_does_not_resume_a_drained_worker() {
    let mut harness = Harness::new().await;
    let connection = LossyConnection::to(&harness.broker);
    let (guests, _stop, _task) = Harness::worker_at(Arc::new(connection.clone()), "one").await;
    harness.drain("one", DrainAction::Drain).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    connection.drop_connection().await;
    harness.publish("r", [1]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((harness.waiting().await, guests.started.load(Ordering::Relaxed)), (1, 0));
    assert_eq!(harness.drain("one", DrainAction::Resume).await.state, WorkerState::Active);
    harness.answers(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_worker_ends_when_it_is_told_to_exit_or_stops() {
    let harness = Harness::new().await;
    let (_, _stop, exiting) = harness.worker_task("one").await;
    let (_, stop, stopping) = harness.worker_task("two").await;
    for worker in ["one", "two"] {
        harness.drain(worker, DrainAction::Drain).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(harness.drain("one", DrainAction::DrainAndExit).await.state, WorkerState::Exiting);
    timeout(Duration::from_secs(60), exiting).await.expect("it exits").unwrap();
    stop.cancel();
    timeout(Duration::from_secs(60), stopping).await.expect("it stops").unwrap();
}
