//! Messages that an engine cannot read, mostly of a newer waft: not lost, not redelivered for ever, and nothing waits
//! for them.

use std::time::Duration;

use broker::{Broker as _, Consumer, Message, Properties, Queue, QueueKind, Routing};
use flow::{CallId, Execution, FailureKind, RunState, Signal, TaskResult, Values};
use protocol::{
    CallLog, CommandRequest, HeartbeatNumber, PermitMessage, PermitTick, Reply, Report, RunCommand, topology,
};

use crate::harness::{Harness, linear, newer, wired};

/// A message from another engine.
fn message(queue: &str, persistent: bool, properties: Properties, body: Vec<u8>) -> Message {
    Message {
        exchange: topology::ENGINES.into(),
        key: queue.to_owned(),
        routing: Routing::Mandatory,
        persistent,
        priority: 0,
        properties,
        body: body.into(),
    }
}

fn of_call(call: &CallId) -> Properties {
    Properties { headers: protocol::headers(call), ..Properties::default() }
}

fn success(harness: &Harness, call: &CallId) -> Vec<u8> {
    let answer = TaskResult::Succeeded(Values::new());
    let signal = Signal { call: call.clone(), answer, execution: Execution::new(7), redelivered: false, worker: None };
    Report::Signal(signal, CallLog::default()).encode(&harness.secret().call_keys(call, []))
}

async fn quarantined(harness: &Harness) -> u64 {
    harness.broker().waiting(topology::QUARANTINE).await.unwrap().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_report_is_quarantined_with_a_reason() {
    let mut harness = Harness::new().await;
    let seal = harness.secret().message_seal(b"garbage").to_hex();
    let json = Properties {
        content_type: Some("application/json".into()),
        headers: [("seal".to_owned(), seal)].into(),
        ..Properties::default()
    };
    for (properties, says) in [(Properties::default(), "not a report"), (json, "could not read a notification")] {
        let garbage = message(harness.signal_to(), false, properties, b"garbage".to_vec());
        // As from the quarantine, since a notification does not come from a worker or from an engine itself.
        harness.publish_message(Message { exchange: topology::RELEASED.into(), ..garbage }).await;
        let (stored, queue, reason) = harness.next_quarantined().await;
        assert_eq!((&stored.body[..], queue.as_str()), (&b"garbage"[..], harness.signal_to()));
        assert!(reason.contains(says), "{reason}");
    }
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    harness.answer_next().await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    assert_eq!(harness.broker().waiting(harness.signal_to()).await.unwrap(), Some(0), "nothing comes for ever");
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_report_with_large_headers_is_quarantined_without_them() {
    let harness = Harness::new().await;
    let headers = [("large".to_owned(), "x".repeat(110 << 10)), ("run".to_owned(), "r".to_owned())].into();
    let properties = Properties { headers, ..Properties::default() };
    let garbage = message(harness.signal_to(), true, properties, b"garbage".to_vec());
    // RabbitMQ takes larger headers than a message of waft has.
    let worker = harness.broker().clone().with_any_properties();
    worker.publish(Message { exchange: topology::REPORTS.into(), ..garbage }).await.unwrap();
    let (stored, queue, _) = harness.next_quarantined().await;
    assert_eq!((&stored.body[..], queue.as_str()), (&b"garbage"[..], harness.signal_to()));
    let header = |name: &str| stored.properties.headers.get(name).map(String::as_str);
    assert_eq!((header("run"), header("large")), (Some("r"), None));
    assert_eq!(header(topology::HEADERS_CUT), Some("1 with 112653 bytes are left out"));
    assert_eq!(harness.broker().waiting(harness.signal_to()).await.unwrap(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_call_with_an_unreadable_result_fails_and_is_rolled_back() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let job = harness.take_job().await;
    let answer = message(
        harness.signal_to(),
        true,
        of_call(&job.call),
        newer(success(&harness, &job.call), |body| job.keys.call.seal(body)),
    );
    harness.publish_message(answer.clone()).await;
    let (stored, _, reason) = harness.next_quarantined().await;
    assert_eq!(stored.body, answer.body);
    assert!(reason.contains("of format version 99; this waft reads up to "), "{reason}");
    assert_eq!(harness.next_interrupt().await, job.call, "a worker that goes on with it is asked to stop");
    let rollback = harness.take_job().await;
    assert_eq!(rollback.call.action, flow::Action::Rollback);
    harness.signal(&rollback.call).await;
    let machine = Harness::end(watch).await;
    assert_eq!(machine.state(), RunState::RolledBack);
    let failure = machine.failures().values().next().expect("its failure is recorded");
    assert_eq!(failure.kind, FailureKind::Poison);
    assert!(failure.message.contains("the report is in waft.quarantine"), "{}", failure.message);
    // The same answer again changes nothing.
    harness.publish_message(answer).await;
    harness.next_quarantined().await;
    assert_eq!(harness.state("r").await, RunState::RolledBack);
}

#[tokio::test(start_paused = true)]
async fn repeated_and_transient_messages_are_not_quarantined() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let job = harness.take_job().await;
    let worker = "w".parse().unwrap();
    let number = HeartbeatNumber { execution: Execution::new(1), count: 1 };
    let heartbeat = Report::Heartbeat { call: job.call.clone(), worker, number };
    harness
        .publish_message(message(
            harness.signal_to(),
            false,
            of_call(&job.call),
            newer(heartbeat.encode(&job.keys), |body| job.keys.call.seal(body)),
        ))
        .await;
    harness.signal(&job.call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    assert_eq!(quarantined(&harness).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_request_gets_a_reply() {
    let harness = Harness::new().await;
    let replies = Queue { name: "waft.reply.r".into(), kind: QueueKind::Exclusive };
    broker::topology::declare_bound(harness.broker(), &replies, &[topology::REPLIES]).await.unwrap();
    let mut answers: Consumer = harness.broker().consume("waft.reply.r", 1).await.unwrap();
    let request = CommandRequest { run: "r".parse().unwrap(), command: RunCommand::Cancel };
    let asking =
        Properties { reply_to: Some("waft.reply.r".into()), correlation_id: Some("1".into()), ..Properties::default() };
    harness
        .publish_message(message(
            harness.signal_to(),
            true,
            asking,
            newer(Report::Command(request).encode_by_engine(harness.secret()), |body| {
                harness.secret().message_seal(body)
            }),
        ))
        .await;
    let answer = answers.next().await.expect("an answer");
    assert_eq!(answer.message.properties.correlation_id.as_deref(), Some("1"));
    match Reply::decode(&answer.message.body).unwrap() {
        Reply::Failed(reason) => assert!(reason.contains("could not read the request"), "{reason}"),
        other => panic!("{other:?}"),
    }
    harness.next_quarantined().await;
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_permit_message_is_quarantined_and_granting_continues() {
    let mut harness = Harness::new().await;
    let flow = "name = \"f\"\n[modules]\ng = \"g.wasm\"\n[[task]]\nname = \"a\"\nuse = \"g\"\nmax_running = 1\n";
    let first = harness.submit("one", &wired(flow)).await.expect("the run begins");
    let second = harness.submit("two", &wired(flow)).await.expect("the run begins");
    let job = harness.take_job().await;
    let queue = topology::permit_queue(harness.secret(), &"f".parse().unwrap(), &"a".parse().unwrap());
    let tick = PermitMessage::Tick(PermitTick { coordinator: "one".into(), number: 1 }).encode(harness.secret());
    let newer = newer(tick.clone(), |body| harness.secret().message_seal(body));
    // Whoever may publish cannot make the coordinator forget what it knows.
    for forged in [b"garbage".to_vec(), newer[..newer.len() - 1].to_vec(), Vec::new()] {
        harness.publish_message(message(&queue, true, Properties::default(), forged)).await;
    }
    harness.publish_message(message(&queue, true, Properties::default(), newer.clone())).await;
    let (stored, from, reason) = harness.next_quarantined().await;
    assert_eq!((&stored.body[..], from), (&newer[..], queue.clone()));
    assert!(reason.contains("could not read a permit message"), "{reason}");
    let taken = tokio::time::timeout(Duration::from_secs(20), harness.take_job()).await;
    assert!(taken.is_err(), "the permit that is out stays out: {taken:?}");
    harness.signal(&job.call).await;
    harness.answer_next().await;
    assert_eq!(Harness::end(first).await.state(), RunState::Success);
    assert_eq!(Harness::end(second).await.state(), RunState::Success);
    assert_eq!(harness.broker().waiting(&queue).await.unwrap().unwrap_or(0), 0);
}
