//! Messages that an engine cannot read, mostly of a newer waft: not lost, not redelivered for ever, and nothing waits
//! for them.

use std::time::Duration;

use broker::{Broker as _, Consumer, Message, Properties, Queue, QueueKind, Routing};
use flow::{CallId, Execution, FailureKind, RunState, Signal, TaskResult, Values};
use protocol::{CallLog, CommandRequest, Reply, Report, RunCommand, topology};

use crate::harness::{Harness, linear, wired};

/// The same message in the format of a later waft: the third byte is the format version.
fn newer(mut body: Vec<u8>) -> Vec<u8> {
    body[2] = 99;
    body
}

fn message(queue: &str, persistent: bool, properties: Properties, body: Vec<u8>) -> Message {
    Message {
        exchange: String::new(),
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

fn success(call: &CallId) -> Vec<u8> {
    let answer = TaskResult::Succeeded(Values::new());
    let signal = Signal { call: call.clone(), answer, execution: Execution::new(7), redelivered: false, worker: None };
    Report::Signal(signal, CallLog::default()).encode()
}

async fn quarantined(world: &Harness) -> u64 {
    world.broker().waiting(topology::QUARANTINE).await.unwrap().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_report_is_quarantined_with_a_reason() {
    let mut world = Harness::new().await;
    let json = Properties { content_type: Some("application/json".into()), ..Properties::default() };
    for (properties, says) in [(Properties::default(), "not a report"), (json, "could not read a notification")] {
        world.publish_message(message(world.signal_to(), false, properties, b"garbage".to_vec())).await;
        let (kept, queue, reason) = world.next_quarantined().await;
        assert_eq!((&kept.body[..], queue.as_str()), (&b"garbage"[..], world.signal_to()));
        assert!(reason.contains(says), "{reason}");
    }
    let watch = world.submit("r", &linear(&["a"])).await.expect("the run begins");
    world.answer_next().await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    assert_eq!(world.broker().waiting(world.signal_to()).await.unwrap(), Some(0), "nothing comes for ever");
}

#[tokio::test(start_paused = true)]
async fn a_call_with_an_unreadable_result_fails_and_is_rolled_back() {
    let mut world = Harness::new().await;
    let watch = world.submit("r", &linear(&["a"])).await.expect("the run begins");
    let job = world.take_job().await;
    let answer = message(world.signal_to(), true, of_call(&job.call), newer(success(&job.call)));
    world.publish_message(answer.clone()).await;
    let (kept, _, reason) = world.next_quarantined().await;
    assert_eq!(kept.body, answer.body);
    assert!(reason.contains("of format version 99; this waft reads up to 1: upgrade it"), "{reason}");
    assert_eq!(world.next_interrupt().await, job.call, "a worker that goes on with it is told to stop");
    let rollback = world.take_job().await;
    assert_eq!(rollback.call.action, flow::Action::Rollback);
    world.signal(&rollback.call).await;
    let machine = Harness::end(watch).await;
    assert_eq!(machine.state(), RunState::RolledBack);
    let failure = machine.failures().values().next().expect("its failure is told");
    assert_eq!(failure.kind, FailureKind::Poison);
    assert!(failure.message.contains("the report is in waft.quarantine"), "{}", failure.message);
    // The same answer again changes nothing.
    world.publish_message(answer).await;
    world.next_quarantined().await;
    assert_eq!(world.state("r").await, RunState::RolledBack);
}

#[tokio::test(start_paused = true)]
async fn repeated_and_transient_messages_are_not_quarantined() {
    let mut world = Harness::new().await;
    let watch = world.submit("r", &linear(&["a"])).await.expect("the run begins");
    let job = world.take_job().await;
    let heartbeat = Report::Heartbeat { call: job.call.clone(), worker: "w".parse().unwrap() };
    world.publish_message(message(world.signal_to(), false, of_call(&job.call), newer(heartbeat.encode()))).await;
    world.signal(&job.call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    assert_eq!(quarantined(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_request_gets_a_reply() {
    let world = Harness::new().await;
    let replies = Queue { name: "replies".into(), kind: QueueKind::Exclusive };
    world.broker().declare_queue(&replies).await.unwrap();
    let mut answers: Consumer = world.broker().consume("replies", 1).await.unwrap();
    let request = CommandRequest { run: "r".parse().unwrap(), command: RunCommand::Cancel };
    let asking =
        Properties { reply_to: Some("replies".into()), correlation_id: Some("1".into()), ..Properties::default() };
    world.publish_message(message(world.signal_to(), true, asking, newer(Report::Command(request).encode()))).await;
    let answer = answers.next().await.expect("an answer");
    assert_eq!(answer.message.properties.correlation_id.as_deref(), Some("1"));
    match Reply::decode(&answer.message.body).unwrap() {
        Reply::Failed(reason) => assert!(reason.contains("could not read the request"), "{reason}"),
        other => panic!("{other:?}"),
    }
    world.next_quarantined().await;
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_permit_message_is_quarantined_and_granting_continues() {
    let mut world = Harness::new().await;
    let flow = "name = \"f\"\n[modules]\ng = \"g.wasm\"\n[[task]]\nname = \"a\"\nuse = \"g\"\nmax_running = 1\n";
    let first = world.submit("one", &wired(flow)).await.expect("the run begins");
    let second = world.submit("two", &wired(flow)).await.expect("the run begins");
    let job = world.take_job().await;
    let queue = topology::permit_queue(&"f".parse().unwrap(), &"a".parse().unwrap());
    world.publish_message(message(&queue, false, Properties::default(), b"garbage".to_vec())).await;
    let (kept, from, reason) = world.next_quarantined().await;
    assert_eq!((&kept.body[..], from), (&b"garbage"[..], queue.clone()));
    assert!(reason.contains("could not read what is said of permits"), "{reason}");
    let taken = tokio::time::timeout(Duration::from_secs(20), world.take_job()).await;
    assert!(taken.is_err(), "the permit that is out stays out: {taken:?}");
    world.signal(&job.call).await;
    world.answer_next().await;
    assert_eq!(Harness::end(first).await.state(), RunState::Success);
    assert_eq!(Harness::end(second).await.state(), RunState::Success);
    assert_eq!(world.broker().waiting(&queue).await.unwrap().unwrap_or(0), 0);
}
