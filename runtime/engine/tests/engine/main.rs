//! Tests of the engine, with a worker that the test plays and a logbook that can fail.

#![expect(clippy::unwrap_used, reason = "what a test makes up is valid")]

mod bugs;
mod clocks;
mod declarations;
mod expiry;
mod failures;
mod floods;
mod forwards;
mod forged;
mod late_reports;
mod leases;
mod long_runs;
mod memo;
mod permits;
mod shards;
mod publishing;
mod trim;
mod unreadable;
mod steps;
mod report_batches;
mod run_commands;
mod withdrawals;
mod harness;

use std::time::Duration;

use engine::{SubmitError, WatchEvent};
use flow::{Action, CallId, RunId, RunState};
use harness::{Fault, Harness, linear};
use machine::Change;
use protocol::{Job, Report, RunCommand, SendingId};
use tokio::time::timeout;

#[tokio::test]
async fn no_command_is_sent_before_its_record_is_durable() {
    let mut harness = Harness::new().await;
    harness.faults.hold();
    let flow = linear(&["a"]);
    let watch = {
        let submitting = harness.submit("r", &flow);
        tokio::pin!(submitting);
        // Only the held append can be awaited here: when the append is requested, no job may have been sent.
        let held = tokio::select! {
            _ = &mut submitting => panic!("the run began before its records were durable"),
            () = harness.faults.wait_for_append() => harness.jobs_waiting().await,
        };
        assert_eq!(held, 0, "no job is out while the append is held");
        harness.faults.release();
        submitting.await.expect("the run begins")
    };
    harness.answer_next().await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test]
async fn a_run_is_driven_to_its_end() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a", "b"])).await.expect("the run begins");
    assert_eq!(harness.answer_next().await.task.as_str(), "a");
    assert_eq!(harness.answer_next().await.task.as_str(), "b");
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test]
async fn a_duplicate_signal_is_recorded_once() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a", "b"])).await.expect("the run begins");
    let first = harness.answer_next().await;
    harness.signal(&first).await;
    harness.answer_next().await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    assert_eq!(harness.successes("r").await, ["a", "b"]);
}

#[tokio::test]
async fn an_invalid_message_changes_nothing() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    for garbage in [&b""[..], b"garbage", b"wR\x09", b"wR\x01\xff\xff\xff"] {
        harness.publish_to_engine(garbage).await;
    }
    harness.answer_next().await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn a_failed_append_reloads_the_run() {
    for fault in [Fault::NotWritten, Fault::WrittenUnconfirmed] {
        let mut harness = Harness::new().await;
        let watch = harness.submit("r", &linear(&["a", "b"])).await.expect("the run begins");
        harness.faults.fail_next(fault);
        // Its signal cannot be recorded; the run still continues from its records.
        harness.answer_next().await;
        while harness.answer_next().await.task.as_str() != "b" {}
        assert_eq!(Harness::end(watch).await.state(), RunState::Success, "{fault:?}");
        assert_eq!(harness.successes("r").await, ["a", "b"], "each once, {fault:?}");
    }
}

#[tokio::test]
async fn a_run_whose_first_append_fails_is_rejected() {
    let harness = Harness::new().await;
    harness.faults.fail_next(Fault::NotWritten);
    let Err(error) = harness.submit("r", &linear(&["a"])).await else { panic!("the run is refused") };
    assert_eq!(error.to_string(), "could not write the run's first records");
    assert_eq!(harness.jobs_waiting().await, 0);
}

#[tokio::test]
async fn a_second_run_with_the_same_id_is_rejected() {
    let harness = Harness::new().await;
    let _watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let Err(error) = harness.submit("r", &linear(&["a"])).await else { panic!("the second is refused") };
    assert_eq!(error.to_string(), "there is a run r already");
}

#[tokio::test]
async fn only_one_of_two_engines_drives_a_run() {
    let harness = Harness::new().await;
    let other = harness.another_engine().await;
    let _watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let Err(error) = other.submit("r", &linear(&["a"])).await else { panic!("the second is refused") };
    assert_eq!(error.to_string(), "there is a run r already");
    assert_eq!(other.jobs_waiting().await, 1, "only the first engine's job is out");
}

#[tokio::test]
async fn cancelling_rolls_the_run_back() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a", "b"])).await.expect("the run begins");
    harness.answer_next().await;
    let b = harness.take_job().await;
    let state = harness.engine.command_local(&"r".parse().unwrap(), RunCommand::Cancel).await;
    assert_eq!(state.expect("the run is cancelled"), RunState::Running);
    assert_eq!(harness.next_interrupt().await, b.call, "the running call is asked to stop");
    harness.fail(&b.call, flow::FailureKind::Cancelled).await;
    for task in ["b", "a"] {
        let undone = harness.answer_next().await;
        assert_eq!((undone.task.as_str(), undone.action), (task, Action::Rollback));
    }
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
}

/// A worker returns the job of a call that it has not started.
async fn return_job(harness: &Harness, call: &CallId, sending: SendingId) {
    let call = call.clone();
    harness.publish_report(&Report::NotStarted { call, redeliveries: 2, unanswered: 1, sending }).await;
}

#[tokio::test(start_paused = true)]
async fn a_returned_job_is_sent_again_as_long_as_its_call_waits() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let first = harness.take_job().await;
    return_job(&harness, &first.call, SendingId::FIRST).await;
    let again = harness.take_job_message().await;
    let headers = &again.properties.headers;
    assert_eq!((protocol::returned(headers), protocol::unanswered(headers)), (2, 1));
    assert_eq!(Job::decode(&again.body).expect("a job"), first, "it is the same job");
    harness.return_job(&first.call, protocol::sending(headers)).await;
    let again = harness.take_job_message().await;
    let last = protocol::sending(&again.properties.headers);
    assert_eq!(protocol::returned(&again.properties.headers), 2, "what was known once stays known");
    // A worker has started the call, and another returns a second delivery of its job.
    harness.heartbeat(&first.call).await;
    harness.wait_for_fact("r", "leased").await;
    return_job(&harness, &first.call, last).await;
    harness.signal(&first.call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    return_job(&harness, &first.call, last).await;
    let sent = timeout(Duration::from_secs(5), harness.take_job()).await;
    assert!(sent.is_err(), "no worker needs it: {sent:?}");
    assert_eq!(harness.facts("r").await.iter().filter(|fact| **fact == "started").count(), 1, "it is one attempt");
}

#[tokio::test(start_paused = true)]
async fn a_suspended_run_remembers_the_lost_deliveries_of_its_jobs() {
    let mut harness = Harness::new().await;
    let run: RunId = "r".parse().unwrap();
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let call = harness.take_job().await.call;
    return_job(&harness, &call, SendingId::FIRST).await;
    let again = harness.take_job_message().await;
    harness.engine.command_local(&run, RunCommand::Suspend).await.expect("it is recorded");
    harness.engine.abandon(run.clone()).await.expect("it is recorded");
    assert_eq!(Harness::end(watch).await.state(), RunState::Suspended);
    // The run is not in memory now, and another worker returns its copy of the job, after one more was lost with it.
    let (returned, sending) = (call.clone(), protocol::sending(&again.properties.headers));
    harness.publish_report(&Report::NotStarted { call: returned, redeliveries: 3, unanswered: 0, sending }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    harness.engine.command_local(&run, RunCommand::Resume).await.expect("it is recorded");
    let again = harness.take_job_message().await;
    let headers = &again.properties.headers;
    assert_eq!((protocol::returned(headers), protocol::unanswered(headers)), (3, 1));
    harness.signal(&call).await;
    harness.wait_for_state("r", RunState::Success).await;
}

#[tokio::test]
async fn every_change_is_a_notification_in_json() {
    let mut harness = Harness::new().await;
    let mut received = harness.listen("f.a.#").await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    harness.answer_next().await;
    Harness::end(watch).await;
    let mut states = Vec::new();
    for _ in 0..2 {
        let delivery = received.next().await.expect("a notification");
        let published: serde_json::Value = serde_json::from_slice(&delivery.message.body).expect("it is JSON");
        let text = |key: &str| published[key].as_str().unwrap_or_default().to_owned();
        assert_eq!((text("run"), text("flow"), text("name")), ("r".into(), "f".into(), "a".into()));
        assert_eq!(delivery.message.key, format!("f.a.r.{}", text("state")));
        states.push(text("state"));
        delivery.accept();
    }
    assert_eq!(states, ["running", "success"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_with_an_uncertain_first_append_is_driven_if_written() {
    let mut harness = Harness::new().await;
    harness.faults.fail_next(Fault::WrittenUnconfirmed);
    let Err(error) = harness.submit("r", &linear(&["a"])).await else { panic!("whether it began is not known") };
    assert_eq!(error.to_string(), "could not write the run's first records");
    harness.answer_next().await;
    harness.wait_for_state("r", RunState::Success).await;
}

#[tokio::test(start_paused = true)]
async fn an_uncertain_end_reaches_the_watcher() {
    let mut harness = Harness::new().await;
    let mut watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let job = harness.take_job().await;
    harness.faults.fail_next(Fault::WrittenUnconfirmed);
    harness.signal(&job.call).await;
    let mut states = Vec::new();
    let machine = loop {
        match watch.next().await.expect("the run ends") {
            WatchEvent::Change(Change::Node(change)) => states.push(change.state.to_string()),
            WatchEvent::Change(Change::Run { .. } | Change::Firing { .. })
            | WatchEvent::Log(_)
            | WatchEvent::Progress(_) => {}
            WatchEvent::Ended(machine) => break machine,
        }
    };
    assert_eq!(machine.state(), RunState::Success);
    assert_eq!(states, ["running", "success"]);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_job_queue_is_redeclared_and_blocks_nothing() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a", "b"])).await.expect("the run begins");
    let job = harness.take_job().await;
    harness.delete_jobs().await;
    harness.signal(&job.call).await;
    assert_eq!(harness.answer_next().await.task.as_str(), "b");
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn an_engine_with_a_deleted_queue_reports_failure() {
    let harness = Harness::new().await;
    harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    harness.delete_own_queue().await;
    harness.engine.ended().await;
    let refused = harness.submit("s", &linear(&["a"])).await;
    assert!(matches!(refused, Err(SubmitError::Stopping)), "{:?}", refused.err());
}
