//! A worker that has the job of a call sends many reports about it. Only so many become records.

use broker::Broker as _;
use flow::{CallId, Execution, FailureKind, RunState, Signal, TaskResult, Values};
use protocol::{
    BatchedReport, CallLog, HeartbeatNumber, MAX_REPORT_BYTES, Report, ReportBatch, RunCommand, SendingId, lease,
    topology,
};
use tokio::time::timeout;

use crate::harness::{Harness, linear};

/// Sends reports about one call, many in each message.
async fn flood(harness: &Harness, call: &CallId, reports: impl Iterator<Item = Report>) {
    let keys = harness.secret().call_keys(call, []);
    let reports: Vec<Vec<u8>> = reports.map(|report| report.encode(&keys)).collect();
    for reports in reports.chunks(200) {
        let reports = reports.iter().map(|report| BatchedReport { call: call.clone(), report }).collect();
        harness.publish_to_engine(&ReportBatch { reports }.encode()).await;
    }
    tokio::time::sleep(lease::HEARTBEAT_INTERVAL).await;
}

fn heartbeats(call: &CallId, count: usize) -> impl Iterator<Item = Report> {
    (0..count).map(|worker| Report::Heartbeat {
        call: call.clone(),
        worker: format!("w{worker}").parse().unwrap(),
        number: HeartbeatNumber { execution: Execution::new(1), count: 1 },
    })
}

async fn count(harness: &Harness, fact: &str) -> usize {
    harness.facts("r").await.iter().filter(|other| **other == fact).count()
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_executions_of_a_call_becomes_few_records() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a", "b"])).await.expect("the run begins");
    let call = harness.take_job().await.call;
    harness.signal(&call).await;
    let next = harness.take_job().await.call;
    let success = |execution| {
        let (answer, execution) = (TaskResult::Succeeded(Values::new()), Execution::new(execution));
        let signal = Signal { call: call.clone(), answer, execution, redelivered: false, worker: None };
        Report::Signal(signal, CallLog::default())
    };
    flood(&harness, &call, (10_000_000..10_005_000).map(success)).await;
    assert_eq!(count(&harness, "late").await, 49, "the first of 50 executions has answered the call");
    harness.fail(&next, FailureKind::Permanent).await;
    for _ in 0..2 {
        let rollback = harness.take_job().await;
        harness.signal(&rollback.call).await;
    }
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
    flood(&harness, &call, (20_000_000..20_000_400).map(success)).await;
    assert_eq!(harness.state("r").await, RunState::RolledBack, "it is not opened again");
}

#[tokio::test(start_paused = true)]
async fn a_report_larger_than_any_of_a_worker_is_not_read() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    harness.publish_to_engine(&vec![0; MAX_REPORT_BYTES + 1]).await;
    let quarantine = harness.broker().consume(topology::QUARANTINE, 1);
    let kept = quarantine.await.unwrap().next().await.unwrap();
    let headers = &kept.message.properties.headers;
    let header = |name: &str| headers.get(name).map(String::as_str);
    let is_copy = header(topology::QUARANTINE_REASON).is_some();
    assert_eq!((header("x-first-death-queue"), is_copy), (Some(harness.signal_to()), false), "no copy was made of it");
    harness.answer_next().await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_workers_that_hold_a_call_becomes_few_records_and_leases() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let call = harness.take_job().await.call;
    flood(&harness, &call, heartbeats(&call, 5_000)).await;
    assert_eq!(count(&harness, "leased").await, 8);
    assert_eq!(harness.engine.silent_leases(&call.run).await.len(), 8);
    harness.signal(&call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    let late = count(&harness, "late").await;
    flood(&harness, &call, heartbeats(&call, 5_000)).await;
    let late = count(&harness, "late").await - late;
    assert!(late <= 50, "{late}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_returns_of_one_job_sends_it_again_once() {
    let mut harness = Harness::new().await;
    let _watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let call = harness.take_job().await.call;
    let returns = |sending| {
        let call = call.clone();
        (0..600).map(move |_| Report::NotStarted { call: call.clone(), redeliveries: 0, unanswered: 0, sending })
    };
    let mut sending = SendingId::FIRST;
    for _ in 0..3 {
        flood(&harness, &call, returns(sending)).await;
        let again = harness.take_job_message().await;
        assert_ne!(protocol::sending(&again.properties.headers), sending);
        sending = protocol::sending(&again.properties.headers);
        let more = timeout(lease::HEARTBEAT_INTERVAL, harness.take_job_message()).await;
        assert!(more.is_err(), "one copy is out");
    }
    // Another engine does not know which message was the last: it takes the job back once.
    let mut harness = harness.restart().await;
    let watch = harness.engine.adopt(call.run.clone(), RunCommand::Resume).await.expect("the run goes on");
    let resent = harness.take_job_message().await;
    flood(&harness, &call, returns(protocol::sending(&resent.properties.headers))).await;
    harness.take_job_message().await;
    assert!(timeout(lease::HEARTBEAT_INTERVAL, harness.take_job_message()).await.is_err(), "one copy is out");
    harness.signal(&call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}
