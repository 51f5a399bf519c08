//! Calls that expire unless a worker starts them in time: not while reports about them wait for an engine, or in it.

use std::{sync::Arc, time::Duration};

use flow::{Action, Flow, RunState};
use protocol::{Report, SendingId};
use tokio::time::{sleep, timeout};

use crate::harness::{Harness, wired};

/// Longer than a call of these flows may wait for a worker.
const LONG: Duration = Duration::from_secs(100);

const PATIENCE: Duration = Duration::from_secs(300);

/// A flow of independent tasks whose calls expire.
fn expiring(tasks: &[&str]) -> Arc<Flow> {
    let task = |name: &&str| format!("[[task]]\nname = \"{name}\"\nuse = \"g\"\nexpires = \"30s\"\n");
    let tasks: String = tasks.iter().map(task).collect();
    wired(&format!("name = \"f\"\npattern = \"unordered\"\n{tasks}[modules]\ng = \"g.wasm\"\n"))
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_answer_waits_for_an_engine_does_not_expire() {
    let mut harness = Harness::shared().await;
    drop(harness.submit("r", &expiring(&["a", "b"])).await.expect("the run begins"));
    let jobs = [harness.take_job().await, harness.take_job().await];
    harness.engine.abort().await;
    for job in &jobs {
        harness.signal_job(job).await;
    }
    sleep(LONG).await;
    let again = harness.sharing_engine_later("again").await;
    drop(harness);
    timeout(PATIENCE, again.wait_for_state("r", RunState::Success)).await.expect("the answers count");
    let facts = again.facts("r").await;
    assert!(!facts.contains(&"failed"), "{facts:?}");
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_call_expires_once_all_answers_are_received() {
    let mut harness = Harness::shared().await;
    drop(harness.submit("r", &expiring(&["a"])).await.expect("the run begins"));
    harness.take_job().await;
    harness.engine.abort().await;
    sleep(LONG).await;
    let again = harness.sharing_engine_later("again").await;
    drop(harness);
    timeout(PATIENCE, again.wait_for_state("r", RunState::RolledBack)).await.expect("its timer counts again");
    let facts = again.facts("r").await;
    assert!(facts.contains(&"failed"), "{facts:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_workers_report_while_their_run_is_read_do_not_expire() {
    let mut harness = Harness::shared().await;
    drop(harness.submit("r", &expiring(&["a", "b", "c"])).await.expect("the run begins"));
    let jobs = [harness.take_job().await, harness.take_job().await, harness.take_job().await];
    harness.faults.hold_reads();
    harness.engine.abort().await;
    let again = harness.sharing_engine_later("again").await;
    drop(harness);
    sleep(LONG).await;
    let [first, second, third] = &jobs;
    again.heartbeat_job(first).await;
    again.heartbeat_job(second).await;
    again.signal_job(third).await;
    sleep(Duration::from_secs(1)).await;
    again.faults.release_reads();
    timeout(PATIENCE, again.wait_for_fact("r", "succeeded")).await.expect("the run goes on");
    again.signal_job(first).await;
    again.signal_job(second).await;
    timeout(PATIENCE, again.wait_for_state("r", RunState::Success)).await.expect("the answers count");
    let facts = again.facts("r").await;
    assert!(!facts.contains(&"failed"), "{facts:?}");
}

#[tokio::test(start_paused = true)]
async fn an_expired_call_that_a_lost_worker_may_have_executed_is_rolled_back() {
    let mut harness = Harness::new().await;
    drop(harness.submit("r", &expiring(&["a"])).await.expect("the run begins"));
    let call = harness.take_job().await.call;
    // A worker was lost with the job, and another one returns it.
    let (returned, sending) = (call.clone(), SendingId::FIRST);
    harness.publish_report(&Report::NotStarted { call: returned, redeliveries: 1, unanswered: 0, sending }).await;
    assert_eq!(harness.take_job().await.call, call, "it is sent again");
    let undone = timeout(PATIENCE, harness.answer_next()).await.expect("it expires, and is rolled back");
    assert_eq!((undone.task, undone.action), (call.task, Action::Rollback));
    timeout(PATIENCE, harness.wait_for_state("r", RunState::RolledBack)).await.expect("nothing else is left");
}
