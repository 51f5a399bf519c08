//! Reports that arrive after their run has ended: a long run is not replayed for each of them.

use std::{sync::Arc, time::Duration};

use flow::{CallId, FailureKind, Flow, RunState};
use protocol::RunCommand;

use crate::harness::{Harness, wired};

/// Enough unordered tasks for a run of more than a thousand records.
fn long() -> Arc<Flow> {
    let task = |number| format!("[[task]]\nname = \"t{number}\"\nuse = \"g\"\nrollback = false\n");
    let tasks: String = (0..400).map(task).collect();
    wired(&format!("name = \"long\"\npattern = \"unordered\"\n{tasks}[modules]\ng = \"g.wasm\"\n"))
}

/// A long run that was cancelled while 400 jobs waited for workers, and has ended.
async fn cancelled(harness: &mut Harness) -> Vec<CallId> {
    drop(harness.submit("r", &long()).await.expect("the run begins"));
    let mut calls = Vec::new();
    for _ in 0..400 {
        calls.push(harness.take_job().await.call);
    }
    harness.engine.command_local(&"r".parse().unwrap(), RunCommand::Cancel).await.expect("it is recorded");
    harness.wait_for_state("r", RunState::RolledBack).await;
    calls
}

#[tokio::test(start_paused = true)]
async fn a_long_cancelled_run_is_not_replayed_for_each_of_its_jobs() {
    let mut harness = Harness::new().await;
    let calls = cancelled(&mut harness).await;
    let loads = harness.faults.loads();
    for call in calls.iter().take(100) {
        assert!(!harness.may_start(call).await, "the run has ended");
    }
    assert_eq!(harness.faults.loads(), loads);
}

#[tokio::test(start_paused = true)]
async fn late_answers_of_a_long_run_share_one_replay() {
    let mut harness = Harness::new().await;
    let calls = cancelled(&mut harness).await;
    // Long after the end, so that the run is not in memory any more.
    tokio::time::sleep(Duration::from_secs(90)).await;
    let loads = harness.faults.loads();
    for call in &calls[..20] {
        harness.fail(call, FailureKind::Permanent).await;
        // Each answer is handled before the next.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(harness.faults.loads(), loads + 1);
    assert_eq!(harness.state("r").await, RunState::RolledBack);
}
