//! The changes of a run are never lost: each listener receives them, and fires once.

use std::{sync::Arc, time::Duration};

use broker::{Broker as _, Message, Properties, PublishError, Routing};
use engine::SubmitError;
use flow::{Execution, Flow, RunState, Signal, TaskResult, Timestamp, Values};
use logbook::{Append, MaxUnended, MemoChanges, RunInfo, Version};
use machine::{Event, Machine};
use protocol::{RunCommand, topology};

use crate::harness::{Fault, Harness, StopPoint, linear, wired};

/// Long enough for an engine to take all shards, and to persist the published versions.
const SETTLED: Duration = Duration::from_secs(30);

/// A flow that fires for the task `a` of the flow `f`.
fn listening() -> Arc<Flow> {
    wired(
        "name = \"l\"\npersistent = true\n[[task]]\nname = \"listener\"\nuse = \"g\"\n\
         [[listen]]\nflow = \"f\"\ntask = \"a\"\nto = \"listener\"\n[modules]\ng = \"g.wasm\"\n",
    )
}

async fn fired(harness: &Harness, run: &str) -> u64 {
    harness.logbook.load(&run.parse().unwrap()).await.unwrap().into_machine().unwrap().firing_count()
}

/// Whether everything that a run has recorded is published.
async fn is_published(harness: &Harness, run: &str) -> bool {
    let history = harness.logbook.load(&run.parse().unwrap()).await.unwrap();
    assert!(history.published <= history.version());
    history.published == history.version()
}

/// Ended runs with unpublished changes.
async fn unpublished(harness: &Harness) -> Vec<String> {
    let mut unpublished = Vec::new();
    for shard in topology::shards() {
        let runs = harness.logbook.unpublished_runs(&shard, usize::MAX >> 1).await.unwrap();
        unpublished.extend(runs.iter().map(ToString::to_string));
    }
    unpublished
}

/// Asserts that the listening run has fired once, and does not fire again on another engine.
async fn fires_once(mut harness: Harness) {
    let received = harness.take_job().await;
    assert_eq!((received.call.run.as_str(), received.call.task.as_str()), ("l", "listener"));
    harness.signal_job(&received).await;
    tokio::time::sleep(SETTLED).await;
    assert_eq!(fired(&harness, "l").await, 1);
    assert_eq!(unpublished(&harness).await, Vec::<String>::new());
    assert!(is_published(&harness, "r").await && is_published(&harness, "l").await);
    let again = harness.new_process().await;
    tokio::time::sleep(SETTLED).await;
    assert_eq!(fired(&again, "l").await, 1);
}

#[tokio::test(start_paused = true)]
async fn changes_before_a_crash_are_received_once() {
    for (tasks, end) in [(&["a"][..], RunState::Success), (&["a", "b"], RunState::Running)] {
        for moment in [StopPoint::After, StopPoint::Before] {
            let mut harness = Harness::shared().await;
            tokio::time::sleep(SETTLED).await;
            harness.submit("l", &listening()).await.expect("the run begins");
            harness.submit("r", &linear(tasks)).await.expect("the run begins");
            let a = harness.take_job().await;
            // Either the message was not published, or it is in a queue that dies with the process.
            harness.faults.stop_at(if moment == StopPoint::After { "r" } else { "l" }, moment);
            harness.signal_job(&a).await;
            harness.faults.until_stopped().await;
            assert_eq!(harness.state("r").await, end);
            assert_eq!(fired(&harness, "l").await, 0);
            assert!(!is_published(&harness, "r").await);
            let mut again = harness.new_process().await;
            if end == RunState::Running {
                let b = loop {
                    let job = again.take_job().await;
                    if job.call.run.as_str() == "r" {
                        break job;
                    }
                    // The job of the listening run came first.
                    again.signal_job(&job).await;
                };
                again.signal_job(&b).await;
                again.wait_for_state("r", RunState::Success).await;
                tokio::time::sleep(SETTLED).await;
                assert_eq!(fired(&again, "l").await, 1, "{moment:?}");
                continue;
            }
            fires_once(again).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn unpublished_changes_are_published_by_the_next_engine() {
    let mut one = Harness::shared().await;
    tokio::time::sleep(SETTLED).await;
    let two = one.sharing_engine("two").await;
    tokio::time::sleep(SETTLED).await;
    two.submit("l", &listening()).await.expect("the run begins");
    one.submit("r", &linear(&["a"])).await.expect("the run begins");
    let a = one.take_job().await;
    one.faults.stop_at("r", StopPoint::After);
    one.signal_job(&a).await;
    one.faults.until_stopped().await;
    one.engine.abort().await;
    one.faults.resume();
    let received = one.take_job().await;
    assert_eq!(received.call.run.as_str(), "l");
    one.signal_job(&received).await;
    tokio::time::sleep(SETTLED).await;
    assert_eq!(fired(&two, "l").await, 1);
    assert_eq!(unpublished(&two).await, Vec::<String>::new());
    assert!(is_published(&two, "r").await && is_published(&two, "l").await);
}

#[tokio::test(start_paused = true)]
async fn published_changes_are_not_republished() {
    let mut harness = Harness::shared().await;
    tokio::time::sleep(SETTLED).await;
    harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    harness.submit("open", &linear(&["a"])).await.expect("the run begins");
    for _ in 0..2 {
        let job = harness.take_job().await;
        if job.call.run.as_str() == "r" {
            harness.signal_job(&job).await;
        }
    }
    tokio::time::sleep(SETTLED).await;
    assert!(is_published(&harness, "r").await && is_published(&harness, "open").await);
    assert_eq!(unpublished(&harness).await, Vec::<String>::new());
    let again = harness.new_process().await;
    let mut published = again.listen("#").await;
    tokio::time::sleep(SETTLED).await;
    again.submit("s", &linear(&["a"])).await.expect("the run begins");
    let first = published.next().await.expect("a notification");
    assert!(first.message.key.contains(".s."), "{}", first.message.key);
}

#[tokio::test(start_paused = true)]
async fn changes_of_an_uncertain_append_are_published() {
    let mut harness = Harness::new().await;
    let mut published = harness.listen("f.a.r.success").await;
    let _watch = harness.submit("r", &linear(&["a", "b"])).await.expect("the run begins");
    let a = harness.take_job().await;
    harness.faults.fail_next(Fault::WrittenUnconfirmed);
    harness.signal(&a.call).await;
    let success = published.next().await.expect("a notification");
    success.accept();
    assert_eq!(harness.take_job().await.call.task.as_str(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_republished_change_equals_the_first() {
    let mut harness = Harness::shared().await;
    tokio::time::sleep(SETTLED).await;
    let mut first = harness.listen("f.a.r.*").await;
    harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let a = harness.take_job().await;
    harness.signal_job(&a).await;
    let mut published = Vec::new();
    for _ in 0..2 {
        let delivery = first.next().await.expect("a notification");
        published.push((delivery.message.key.clone(), delivery.message.body.clone()));
        delivery.accept();
    }
    // The engine dies before it has persisted the published version.
    assert_eq!(harness.logbook.load(&"r".parse().unwrap()).await.unwrap().published, Version::NONE);
    let again = harness.new_process().await;
    let mut second = again.listen("f.a.r.*").await;
    for (key, body) in published {
        let delivery = second.next().await.expect("it is published again");
        assert_eq!((&delivery.message.key, &delivery.message.body), (&key, &body));
        delivery.accept();
    }
}

#[tokio::test(start_paused = true)]
async fn the_states_of_a_run_are_published_in_order_and_again_if_an_engine_dies_before_it_knows() {
    let mut harness = Harness::shared().await;
    tokio::time::sleep(SETTLED).await;
    let mut first = harness.listen_to_runs("f.r.*").await;
    harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let a = harness.take_job().await;
    harness.signal_job(&a).await;
    let mut published = Vec::new();
    for state in ["running", "success"] {
        let delivery = first.next().await.expect("a notification");
        assert_eq!(delivery.message.key, format!("f.r.{state}"));
        let body = String::from_utf8(delivery.message.body.to_vec()).unwrap();
        assert!(
            body.starts_with(&format!(r#"{{"event":"run","state":"{state}","run":"r","flow":"f","at":""#)),
            "{body}"
        );
        published.push(delivery.message.body.clone());
        delivery.accept();
    }
    // The engine dies before it has persisted the published version.
    assert_eq!(harness.logbook.load(&"r".parse().unwrap()).await.unwrap().published, Version::NONE);
    let again = harness.new_process().await;
    let mut second = again.listen_to_runs("f.r.*").await;
    for body in published {
        let delivery = second.next().await.expect("it is published again");
        assert_eq!(delivery.message.body, body);
        delivery.accept();
    }
    tokio::time::sleep(SETTLED).await;
    assert!(is_published(&again, "r").await);
}

#[tokio::test(start_paused = true)]
async fn unpublished_changes_before_a_snapshot_are_republished() {
    let harness = Harness::shared().await;
    let mut machine = Machine::new("r".parse().unwrap(), linear(&["a", "b"]));
    let mut records = machine.step(Timestamp::from_micros(5), &Event::Start).records;
    let call = machine.outstanding_calls().next().unwrap();
    let (answer, execution) = (TaskResult::Succeeded(Values::new()), Execution::new(1));
    let signal = Signal { call, answer, execution, redelivered: false, worker: None };
    records.extend(machine.step(Timestamp::from_micros(6), &Event::Signal(signal)).records);
    let version = Version::NONE.after(&records);
    let run = machine.run().clone();
    let append = Append {
        run: run.clone(),
        follows: Version::NONE,
        records,
        info: RunInfo { shard: "0".parse().unwrap(), flow: "f".parse().unwrap(), state: RunState::Running },
        logs: Vec::new(),
        published: Version::NONE,
        max_unended: MaxUnended::default(),
        memos: MemoChanges::default(),
    };
    harness.logbook.append(vec![append]).await.unwrap();
    harness.logbook.save_snapshot(&run, version, machine.snapshot()).await.unwrap();
    let again = harness.new_process().await;
    let mut published = again.listen("f.a.r.*").await;
    for state in ["running", "success"] {
        let delivery = published.next().await.expect("it is published");
        assert!(delivery.message.key.ends_with(state), "{}", delivery.message.key);
        delivery.accept();
    }
    tokio::time::sleep(SETTLED).await;
    assert!(is_published(&again, "r").await);
}

/// Whether a queue gets the notifications of the task that the listening flow fires for.
async fn is_listened_to(harness: &Harness) -> bool {
    // The engine answers this once it has done everything before.
    harness.engine.call_locations().await.unwrap();
    let exchange = topology::task_exchange(&"f".parse().unwrap(), &"a".parse().unwrap());
    let message = Message {
        exchange,
        key: "f.a.1.success".into(),
        routing: Routing::Mandatory,
        persistent: false,
        priority: 0,
        properties: Properties::default(),
        body: Vec::new().into(),
    };
    !matches!(harness.broker().publish(message).await, Err(PublishError::Unroutable { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_refused_run_listens_to_nothing() {
    let harness = Harness::with_max_open_runs(1).await;
    let waits = wired("name = \"l\"\n[[task]]\nname = \"w\"\nwait = \"a word\"\n");
    drop(harness.submit("w", &waits).await.expect("there is room"));
    let Err(SubmitError::TooManyOpen { .. }) = harness.submit("l", &listening()).await else { panic!("it is refused") };
    // The queue is unbound beside the driver.
    while is_listened_to(&harness).await {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    harness.engine.command_local(&"w".parse().unwrap(), RunCommand::Cancel).await.expect("it is recorded");
    drop(harness.submit("l", &listening()).await.expect("there is room"));
    assert!(is_listened_to(&harness).await, "the run listens");
    let Err(SubmitError::TooManyOpen { .. }) = harness.submit("m", &listening()).await else { panic!("it is refused") };
    assert!(is_listened_to(&harness).await, "the other run still listens");
}
