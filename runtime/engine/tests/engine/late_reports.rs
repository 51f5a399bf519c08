//! Reports that arrive after their run has ended: a long run is not replayed for each of them.

use std::{sync::Arc, time::Duration};

use flow::{CallId, FailureKind, Flow, RunState};
use protocol::RunCommand;

use crate::harness::{Harness, linear, wired};

/// Enough unordered tasks for a run of more than a thousand records, and one that waits for the task `a` of the flow `f`.
fn long() -> Arc<Flow> {
    let task = |number| format!("[[task]]\nname = \"t{number}\"\nuse = \"g\"\nrollback = false\n");
    let tasks: String = (0..400).map(task).collect();
    let waiting = "[[task]]\nname = \"waiting\"\nwait = \"a\"\nprovides = []\n\
                   [[listen]]\nflow = \"f\"\ntask = \"a\"\nto = \"waiting\"\n";
    wired(&format!("name = \"long\"\npattern = \"unordered\"\n{tasks}{waiting}[modules]\ng = \"g.wasm\"\n"))
}

/// Whether the waiting task of the long run waits.
async fn is_waiting(harness: &Harness) -> bool {
    let machine = harness.logbook.load(&"r".parse().unwrap()).await.unwrap().into_machine().unwrap();
    machine.waiting_tasks().count() == 1
}

/// Runs the flow `f`, whose task `a` succeeds.
async fn notify(harness: &mut Harness, run: &str) {
    let watch = harness.submit(run, &linear(&["a"])).await.expect("the run begins");
    loop {
        let job = harness.take_job().await;
        if job.call.run.as_str() == run {
            harness.signal(&job.call).await;
            break;
        }
    }
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    tokio::time::sleep(Duration::from_secs(2)).await;
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
    // Long after the end, so that the run is not in memory any more.
    tokio::time::sleep(Duration::from_secs(90)).await;
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

#[tokio::test(start_paused = true)]
async fn a_long_run_that_is_retried_soon_receives_notifications_again() {
    let mut harness = Harness::new().await;
    cancelled(&mut harness).await;
    // No run listens to it any more, so the queue of the shard is unbound from its task.
    notify(&mut harness, "one").await;
    let loads = harness.faults.loads();
    harness.engine.command_local(&"r".parse().unwrap(), RunCommand::Retry).await.expect("it is recorded");
    assert_eq!(harness.faults.loads(), loads, "it is still at hand");
    assert!(is_waiting(&harness).await);
    notify(&mut harness, "two").await;
    assert!(!is_waiting(&harness).await, "it has received the notification");
}
