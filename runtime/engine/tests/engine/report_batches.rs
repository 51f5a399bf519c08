//! Batches of reports: each report counts on its own, and an unreadable one stops no other.

use broker::{Broker as _, Message, Properties, Routing};
use engine::Watch;
use flow::{CallId, Execution, FailureKind, RunState, Signal, TaskResult, Values};
use protocol::{BatchedReport, CallLog, Report, ReportBatch};

use crate::harness::{Harness, linear, newer};

fn success(harness: &Harness, call: &CallId) -> Vec<u8> {
    let answer = TaskResult::Succeeded(Values::new());
    let signal = Signal { call: call.clone(), answer, execution: Execution::new(7), redelivered: false, worker: None };
    Report::Signal(signal, CallLog::default()).encode(&harness.secret().call_keys(call, []))
}

fn batch(harness: &Harness, reports: &[(&CallId, Vec<u8>)]) -> Message {
    let reports = reports.iter().map(|(call, report)| BatchedReport { call: (*call).clone(), report }).collect();
    message(harness, ReportBatch { reports }.encode())
}

fn message(harness: &Harness, body: Vec<u8>) -> Message {
    Message {
        exchange: protocol::topology::REPORTS.into(),
        key: harness.signal_to().to_owned(),
        routing: Routing::Mandatory,
        persistent: true,
        priority: 0,
        properties: Properties::default(),
        body: body.into(),
    }
}

/// Starts two runs with one task each; returns their watches and their calls.
async fn two_runs(harness: &mut Harness) -> ([Watch; 2], [CallId; 2]) {
    let first = harness.submit("one", &linear(&["a"])).await.expect("the run begins");
    let second = harness.submit("two", &linear(&["a"])).await.expect("the run begins");
    let calls = [harness.take_job().await.call.clone(), harness.take_job().await.call.clone()];
    ([first, second], calls)
}

async fn waiting(harness: &Harness) -> Option<u64> {
    harness.broker().waiting(harness.signal_to()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_too_many_reports_is_one_message_in_the_quarantine() {
    let mut harness = Harness::new().await;
    let (watches, calls) = two_runs(&mut harness).await;
    let flood = vec![BatchedReport { call: calls[0].clone(), report: b"" }; 20_000];
    harness.publish_message(message(&harness, ReportBatch { reports: flood }.encode())).await;
    let (_, _, reason) = harness.next_quarantined().await;
    assert!(reason.contains("it holds 20000 reports, and 256 are allowed"), "{reason}");
    for call in &calls {
        harness.signal(call).await;
    }
    for watch in watches {
        assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    }
    let quarantined = harness.broker().waiting(protocol::topology::QUARANTINE).await.unwrap();
    assert_eq!(quarantined, Some(0), "none of its reports is there by itself");
}

#[tokio::test(start_paused = true)]
async fn a_batch_answers_the_calls_of_several_runs() {
    let mut harness = Harness::new().await;
    let ([first, second], calls) = two_runs(&mut harness).await;
    let answers =
        batch(&harness, &[(&calls[0], success(&harness, &calls[0])), (&calls[1], success(&harness, &calls[1]))]);
    harness.publish_message(answers.clone()).await;
    assert_eq!(Harness::end(first).await.state(), RunState::Success);
    assert_eq!(Harness::end(second).await.state(), RunState::Success);
    // The same batch again, as after a lost connection, changes nothing.
    harness.publish_message(answers).await;
    let third = harness.submit("three", &linear(&["a"])).await.expect("the run begins");
    harness.answer_next().await;
    assert_eq!(Harness::end(third).await.state(), RunState::Success);
    assert_eq!(waiting(&harness).await, Some(0), "the batch is accepted");
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_report_of_a_batch_fails_only_its_call() {
    let mut harness = Harness::new().await;
    let ([first, second], calls) = two_runs(&mut harness).await;
    let key = harness.secret().call_key(&calls[0]);
    let newer = newer(success(&harness, &calls[0]), |body| key.seal(body));
    harness
        .publish_message(batch(&harness, &[(&calls[0], newer.clone()), (&calls[1], success(&harness, &calls[1]))]))
        .await;
    let (stored, _, reason) = harness.next_quarantined().await;
    assert_eq!(stored.body, newer, "only that report is kept");
    assert!(reason.contains("format version 99"), "{reason}");
    assert_eq!(Harness::end(second).await.state(), RunState::Success);
    let rollback = harness.take_job().await;
    harness.signal(&rollback.call).await;
    let machine = Harness::end(first).await;
    assert_eq!(machine.failures().values().next().expect("its failure is recorded").kind, FailureKind::Poison);
    assert_eq!(waiting(&harness).await, Some(0), "the batch is accepted");
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_batch_is_quarantined() {
    let harness = Harness::new().await;
    let mut newer = ReportBatch { reports: Vec::new() }.encode();
    newer[2] = 99;
    harness.publish_message(message(&harness, newer.clone())).await;
    let (stored, _, reason) = harness.next_quarantined().await;
    assert_eq!(stored.body, newer);
    assert!(reason.contains("a batch of reports of format version 99"), "{reason}");
    assert_eq!(waiting(&harness).await, Some(0));
}
