//! Whoever may publish on the broker can neither answer a call whose job they were not given, nor command a run.

use std::time::Duration;

use broker::{Message, Properties, Routing};
use flow::{CallId, Execution, Failure, FailureKind, RunState, Signal, TaskResult, Values};
use protocol::{
    BatchedReport, CallKeys, CallLog, CommandRequest, Control, EngineSecret, HeartbeatNumber, Job, Key, PermitGrant,
    Report, ReportBatch, RunCommand, Seal, SendingId, topology,
};

use crate::harness::{Harness, linear, newer};

fn answer(call: &CallId, answer: TaskResult) -> Report {
    let (call, execution) = (call.clone(), Execution::new(7));
    Report::Signal(Signal { call, answer, execution, redelivered: false, worker: None }, CallLog::default())
}

fn success(call: &CallId) -> Report {
    answer(call, TaskResult::Succeeded(Values::new()))
}

fn message(harness: &Harness, call: &CallId, persistent: bool, body: Vec<u8>) -> Message {
    Message {
        exchange: topology::REPORTS.into(),
        key: harness.signal_to().to_owned(),
        routing: Routing::Mandatory,
        persistent,
        priority: 0,
        properties: Properties { headers: protocol::headers(call), ..Properties::default() },
        body: body.into(),
    }
}

/// A worker was given the job of one run. Another run has a call whose job it was not given.
async fn attacked(harness: &mut Harness) -> (Job, Job, engine::Watch) {
    harness.submit("own", &linear(&["a"])).await.expect("the run begins");
    let own = harness.take_job().await;
    let watch = harness.submit("other", &linear(&["a"])).await.expect("the run begins");
    let other = harness.take_job().await;
    (own, other, watch)
}

/// The other run goes on as if nothing had been sent.
async fn goes_on(harness: &Harness, other: &Job, watch: engine::Watch) {
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(harness.facts("other").await, ["run-started", "started"]);
    harness.signal_job(other).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn a_worker_cannot_report_about_a_call_that_it_was_not_given() {
    let mut harness = Harness::new().await;
    let (own, other, watch) = attacked(&mut harness).await;
    let call = &other.call;
    let (worker, failure) = ("w".parse().unwrap(), Failure::new(FailureKind::Permanent, "forged"));
    let number = HeartbeatNumber { execution: Execution::new(1), count: 1 };
    let reports = [
        success(call),
        answer(call, TaskResult::Failed(failure)),
        Report::Heartbeat { call: call.clone(), worker, number },
        Report::Released { call: call.clone(), worker: "w".parse().unwrap() },
        Report::Started { call: call.clone(), worker: "w".parse().unwrap(), number },
        Report::NotStarted { call: call.clone(), redeliveries: 0, unanswered: 0, sending: SendingId::FIRST },
    ];
    let other_attempt = CallId { attempt: call.attempt.next(), ..call.clone() };
    for key in [Key::NONE, own.keys.call, harness.secret().call_key(&other_attempt)] {
        let keys = CallKeys::of_call(key);
        for report in &reports {
            harness.publish_message(message(&harness, call, true, report.encode(&keys))).await;
            harness.publish_message(message(&harness, call, false, report.encode(&keys))).await;
        }
        let report = success(call).encode(&keys);
        let batch = ReportBatch { reports: vec![BatchedReport { call: call.clone(), report: &report }] };
        harness.publish_message(message(&harness, &own.call, true, batch.encode())).await;
    }
    goes_on(&harness, &other, watch).await;
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_report_fails_no_call_that_its_sender_was_not_given() {
    let mut harness = Harness::new().await;
    let (own, other, watch) = attacked(&mut harness).await;
    // Its seal is under the key of the sender's own call.
    let newer = newer(success(&other.call).encode(&own.keys), |body| own.keys.call.seal(body));
    for body in [newer, b"garbage".to_vec(), Vec::new()] {
        harness.publish_message(message(&harness, &other.call, true, body)).await;
        harness.next_quarantined().await;
    }
    goes_on(&harness, &other, watch).await;
}

#[tokio::test(start_paused = true)]
async fn only_an_engine_commands_a_run_and_speaks_for_engines() {
    let mut harness = Harness::new().await;
    let (own, other, watch) = attacked(&mut harness).await;
    let run = other.call.run.clone();
    let failed = TaskResult::Failed(Failure::new(FailureKind::Permanent, "forged"));
    let notify = RunCommand::Notify { task: "a".parse().unwrap(), answer: failed, key: None };
    let commands = [RunCommand::Cancel, RunCommand::Suspend, notify];
    let grant = PermitGrant {
        flow: "f".parse().unwrap(),
        task: "a".parse().unwrap(),
        engine: "one".into(),
        number: 1,
        calls: vec![other.call.clone()],
    };
    let reports = commands
        .map(|command| Report::Command(CommandRequest { run: run.clone(), command }))
        .into_iter()
        .chain([Report::Probe { engine: "one".into(), number: u64::MAX }, Report::PermitGrant(grant)]);
    for report in reports {
        for keys in [CallKeys::of_call(Key::NONE), own.keys.clone()] {
            let forged = message(&harness, &own.call, true, report.encode(&keys));
            harness.publish_message(Message { exchange: topology::ENGINES.into(), ..forged.clone() }).await;
            harness.publish_message(forged).await;
        }
        // A genuine message, which is published again by a worker that has seen it.
        let seen = message(&harness, &own.call, true, report.encode_by_engine(harness.secret()));
        harness.publish_message(Message { exchange: String::new(), ..seen.clone() }).await;
        harness.publish_message(seen).await;
    }
    goes_on(&harness, &other, watch).await;
}

#[tokio::test(start_paused = true)]
async fn only_an_engine_notifies_the_listeners_of_a_task() {
    let mut harness = Harness::new().await;
    let (own, other, watch) = attacked(&mut harness).await;
    let event = "{\"event\":\"state\",\"run\":\"x\",\"flow\":\"f\",\"kind\":\"task\",\"name\":\"a\",\"state\":\"success\",\
                 \"firing\":1,\"attempt\":1,\"at\":\"2026-11-28T14:27:27.922074Z\"}";
    for seal in [None, Some(Seal::NONE.to_hex()), Some("no seal".into())] {
        let mut notification = message(&harness, &own.call, true, event.into());
        notification.properties.content_type = Some("application/json".into());
        notification.properties.headers.extend(seal.map(|seal| ("seal".to_owned(), seal)));
        for exchange in [topology::REPORTS, topology::ENGINES, topology::RELEASED] {
            harness.publish_message(Message { exchange: exchange.into(), ..notification.clone() }).await;
        }
    }
    goes_on(&harness, &other, watch).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_with_a_job_of_another_logbook_does_not_wait_for_an_answer() {
    let mut harness = Harness::new().await;
    let (own, _, _watch) = attacked(&mut harness).await;
    let other = EngineSecret::new([9; 32]);
    let question = Report::question_seal(&own.call, &other.call_keys(&own.call, [])).expect("it is sealed");
    let answer = harness.answer_to_question(&own.call, &other).await;
    assert_eq!(answer, Control::UnknownKey { call: own.call, question });
}
