//! Unwanted calls: the engine withdraws those that no worker has started, whichever engine drives the run.

use std::time::Duration;

use flow::{Action, FailureKind, RunId, RunState};
use protocol::{Report, RunCommand, SendingId};

use crate::harness::{Harness, linear, wired};

/// Maximum time until an unbegun call is withdrawn: workers have half a second to report, and probes are sent each
/// second.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Two tasks without an order.
const SIDE_BY_SIDE: &str = "name = \"f\"\npattern = \"unordered\"\n\
    [[task]]\nname = \"a\"\nuse = \"g\"\n[[task]]\nname = \"b\"\nuse = \"g\"\n[modules]\ng = \"g.wasm\"\n";

fn run() -> RunId {
    "r".parse().unwrap()
}

async fn cancel(harness: &Harness) -> RunState {
    harness.engine.command_local(&run(), RunCommand::Cancel).await.expect("it is recorded")
}

#[tokio::test(start_paused = true)]
async fn an_unstarted_call_is_withdrawn_on_cancel_without_rollback() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    assert_eq!(cancel(&harness).await, RunState::Running, "workers are asked first");
    let call = harness.next_withdrawn().await.pop().expect("there is one");
    let ended = tokio::time::timeout(AT_ONCE, Harness::end(watch)).await.expect("it is rolled back at once");
    assert_eq!(ended.state(), RunState::RolledBack);
    let facts = harness.facts("r").await;
    assert_eq!(facts[2..], ["cancel-requested", "failed", "rollback-not-needed", "run-entered"], "{facts:?}");
    assert_eq!(harness.jobs_waiting().await, 1, "its job cannot be taken back");
    assert!(!harness.may_start(&call).await, "and the worker that takes it learns not to start it");
}

#[tokio::test(start_paused = true)]
async fn an_expired_run_is_rolled_back_although_no_worker_takes_its_call() {
    const EXPIRES: Duration = Duration::from_secs(60);
    let mut harness = Harness::new().await;
    let text = "name = \"f\"\nexpires = \"1m\"\n[[task]]\nname = \"a\"\nuse = \"g\"\n[modules]\ng = \"g.wasm\"\n";
    let watch = harness.submit("r", &wired(text)).await.expect("the run begins");
    tokio::time::sleep(EXPIRES - Duration::from_secs(1)).await;
    assert!(!harness.facts("r").await.contains(&"expired"), "it has another second");
    let ended = tokio::time::timeout(2 * AT_ONCE, Harness::end(watch)).await.expect("it is rolled back at once");
    assert_eq!(ended.state(), RunState::RolledBack);
    let facts = harness.facts("r").await;
    assert_eq!(facts[2..], ["expired", "failed", "rollback-not-needed", "run-entered"], "{facts:?}");
    let call = harness.next_withdrawn().await.pop().expect("there is one");
    assert!(!harness.may_start(&call).await, "a worker that takes the job later learns not to start the call");
}

#[tokio::test(start_paused = true)]
async fn only_wanted_calls_may_start() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a", "b"])).await.expect("the run begins");
    let a = harness.take_job().await.call;
    assert!(harness.may_start(&a).await);
    harness.signal(&a).await;
    let b = harness.take_job().await.call;
    assert!(!harness.may_start(&a).await, "it is answered");
    assert!(harness.may_start(&b).await);
    let unknown = flow::CallId { attempt: b.attempt.next(), ..b.clone() };
    assert!(harness.may_start(&unknown).await, "what an engine does not know it has not withdrawn");
    let missing = flow::CallId { run: "gone".parse().unwrap(), ..b.clone() };
    assert!(!harness.may_start(&missing).await, "there is no such run");
    harness.signal(&b).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn a_started_call_is_awaited_and_rolled_back() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let call = harness.take_job().await.call;
    cancel(&harness).await;
    assert_eq!(harness.next_withdrawn().await, std::slice::from_ref(&call));
    harness.report_started(&call).await;
    tokio::time::sleep(2 * AT_ONCE).await;
    assert_eq!(harness.state("r").await, RunState::Running, "its worker answers, or its lease is missed");
    harness.fail(&call, FailureKind::Cancelled).await;
    assert_eq!(harness.answer_next().await.action, Action::Rollback);
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_call_that_ran_is_rolled_back() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let call = harness.take_job().await.call;
    cancel(&harness).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
    harness.signal(&call).await;
    let undone = harness.answer_next().await;
    assert_eq!((undone.task, undone.action), (call.task, Action::Rollback));
    harness.wait_for_state("r", RunState::RolledBack).await;
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_call_that_a_lost_worker_may_have_executed_is_rolled_back() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let call = harness.take_job().await.call;
    cancel(&harness).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
    // Another worker was lost with the job before this one returns it.
    let returned = |redeliveries| {
        let (call, sending) = (call.clone(), SendingId::FIRST);
        Report::NotStarted { call, redeliveries, unanswered: 0, sending }
    };
    harness.publish_report(&returned(0)).await;
    harness.publish_report(&returned(1)).await;
    let undone = harness.answer_next().await;
    assert_eq!((undone.task, undone.action), (call.task.clone(), Action::Rollback));
    harness.wait_for_state("r", RunState::RolledBack).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_returned_before_it_is_withdrawn_is_rolled_back_if_a_worker_was_lost() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let call = harness.take_job().await.call;
    cancel(&harness).await;
    let (returned, sending) = (call.clone(), SendingId::FIRST);
    harness.publish_report(&Report::NotStarted { call: returned, redeliveries: 1, unanswered: 0, sending }).await;
    let undone = harness.answer_next().await;
    assert_eq!((undone.task, undone.action), (call.task, Action::Rollback));
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
}

#[tokio::test(start_paused = true)]
async fn a_failure_withdraws_unstarted_calls_and_awaits_running_ones() {
    for started in [false, true] {
        let mut harness = Harness::new().await;
        let watch = harness.submit("r", &wired(SIDE_BY_SIDE)).await.expect("the run begins");
        let a = harness.take_job().await.call;
        let b = harness.take_job().await.call;
        harness.fail(&a, FailureKind::Permanent).await;
        assert_eq!(harness.next_withdrawn().await, std::slice::from_ref(&b));
        if started {
            harness.report_started(&b).await;
        }
        assert_eq!(harness.answer_next().await.task, a.task, "a is rolled back");
        if started {
            tokio::time::sleep(AT_ONCE).await;
            harness.signal(&b).await;
            let undone = harness.answer_next().await;
            assert_eq!((undone.task, undone.action), (b.task, Action::Rollback));
        }
        let ended = tokio::time::timeout(AT_ONCE, Harness::end(watch)).await.expect("nothing holds it up");
        assert_eq!(ended.state(), RunState::RolledBack);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_fails_withdraws_unstarted_calls_of_other_flows() {
    let mut harness = Harness::new().await;
    let flow = wired(
        "name = \"f\"\n[[flow]]\nname = \"n\"\nretry = { times = 2 }\n[[flow.task]]\nname = \"a\"\nuse = \"g\"\n\
         [[task]]\nname = \"b\"\nuse = \"g\"\n[modules]\ng = \"g.wasm\"\n",
    );
    let watch = harness.submit("r", &flow).await.expect("the run begins");
    let mut calls = [harness.take_job().await.call, harness.take_job().await.call];
    calls.sort_by(|one, other| one.task.cmp(&other.task));
    let [a, b] = calls;
    // Its flow is to be tried again, and the other task goes on.
    harness.fail(&a, FailureKind::Permanent).await;
    let undo = harness.take_job().await.call;
    assert_eq!((&undo.task, undo.action), (&a.task, Action::Rollback));
    assert!(harness.may_start(&b).await);
    harness.fail(&undo, FailureKind::Permanent).await;
    assert_eq!(harness.next_withdrawn().await, std::slice::from_ref(&b));
    let ended = tokio::time::timeout(AT_ONCE, Harness::end(watch)).await.expect("nothing holds it up");
    assert_eq!(ended.state(), RunState::Failure);
}

#[tokio::test(start_paused = true)]
async fn takeover_of_a_cancelled_run_resends_no_call() {
    let harness = Harness::new().await;
    let _watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    cancel(&harness).await;
    assert_eq!(harness.jobs_waiting().await, 1);
    let harness = harness.restart().await;
    let watch = harness.engine.adopt(run(), protocol::RunCommand::Resume).await.expect("the run goes on");
    let ended = tokio::time::timeout(AT_ONCE, Harness::end(watch)).await.expect("it is rolled back at once");
    assert_eq!(ended.state(), RunState::RolledBack);
    assert_eq!(harness.jobs_waiting().await, 1, "the first one, and no other");
}

#[tokio::test(start_paused = true)]
async fn cancel_of_a_suspended_run_resends_no_call() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let call = harness.take_job().await.call;
    harness.engine.command_local(&run(), RunCommand::Suspend).await.expect("it is recorded");
    harness.engine.abandon(run()).await.expect("it is recorded");
    assert_eq!(Harness::end(watch).await.state(), RunState::Suspended);
    assert!(!harness.may_start(&call).await, "of a suspended run nothing begins");
    cancel(&harness).await;
    tokio::time::timeout(AT_ONCE, harness.wait_for_state("r", RunState::RolledBack))
        .await
        .expect("it is rolled back at once");
    assert_eq!(harness.jobs_waiting().await, 0);
}

#[tokio::test(start_paused = true)]
async fn removing_a_task_withdraws_its_call() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &wired(SIDE_BY_SIDE)).await.expect("the run begins");
    let a = harness.take_job().await.call;
    let machine = harness.logbook.load(&run()).await.unwrap().into_machine().unwrap();
    let removed = machine.flow().nodes.iter().map(|node| {
        let retired = node.retired || node.name.as_str() == "b";
        flow::Node { retired, ..node.clone() }
    });
    let flow = flow::Flow { nodes: removed.collect(), ..(**machine.flow()).clone() };
    let edit = RunCommand::Edit { revision: machine.revision(), flow: flow.into() };
    harness.engine.command_local(&run(), edit).await.expect("it is recorded");
    assert_eq!(harness.next_withdrawn().await.pop().expect("there is one").task.as_str(), "b");
    harness.signal(&a).await;
    let ended = tokio::time::timeout(AT_ONCE, Harness::end(watch)).await.expect("nothing holds it up");
    assert_eq!(ended.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn many_calls_are_withdrawn_in_several_batches() {
    const CALLS: usize = 1_300;
    let harness = Harness::new().await;
    let list = vec!["1"; CALLS].join(", ");
    let flow = format!(
        "name = \"f\"\n[[task]]\nname = \"a\"\nuse = \"g\"\nfor_each = [{list}]\nmax_parallel = {CALLS}\n\
         [modules]\ng = \"g.wasm\"\n"
    );
    let watch = harness.submit("r", &wired(&flow)).await.expect("the run begins");
    while harness.jobs_waiting().await < CALLS as u64 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    harness.faults.note_batches();
    cancel(&harness).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
    let withdrawn = |batch: &crate::harness::Batch| batch.iter().filter(|(_, fact)| *fact == "failed").count();
    let withdrawn: Vec<usize> = harness.faults.batches().iter().map(withdrawn).collect();
    assert_eq!(withdrawn.iter().sum::<usize>(), CALLS);
    assert!(withdrawn.iter().all(|calls| *calls <= 512), "{withdrawn:?}");
}
