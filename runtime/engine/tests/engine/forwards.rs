//! A notification reaches each run that listens once, and delays no other run, however many listen.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use broker::{Message, Properties, Routing};
use flow::{Flow, RunState, TaskResult, Values};
use protocol::{RunCommand, topology};
use tokio::time::{sleep, timeout};

use crate::harness::{Batch, Fault, Harness, StopPoint, linear, wired};

/// Long enough for an engine to take all shards, and to persist the published versions.
const SETTLED: Duration = Duration::from_secs(30);

const PATIENCE: Duration = Duration::from_secs(60);

/// A flow with several tasks that fire for each of these tasks of the flow `f`.
fn listening(sources: &[&str], tasks: usize) -> Arc<Flow> {
    let mut text = "name = \"l\"\npersistent = true\n[modules]\ng = \"g.wasm\"\n".to_owned();
    for task in 0..tasks {
        text.push_str(&format!("[[task]]\nname = \"t{task}\"\nuse = \"g\"\n"));
        for source in sources {
            text.push_str(&format!("[[listen]]\nflow = \"f\"\ntask = \"{source}\"\nto = \"t{task}\"\n"));
        }
    }
    wired(&text)
}

/// Names of runs, in order.
fn runs(count: usize) -> Vec<String> {
    (100..100 + count).map(|number| format!("l{number}")).collect()
}

async fn submit_listeners(harness: &Harness, runs: &[String], flow: &Arc<Flow>) {
    for run in runs {
        drop(harness.submit(run, flow).await.expect("the run begins"));
    }
}

async fn fired(harness: &Harness, run: &str) -> u64 {
    harness.logbook.load(&run.parse().unwrap()).await.unwrap().into_machine().unwrap().firing_count()
}

/// Waits until each run has fired so often, and asserts that none fires more.
async fn all_fire(harness: &Harness, runs: &[String], times: u64) {
    for run in runs {
        let enough = async {
            while fired(harness, run).await < times {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, enough).await.unwrap_or_else(|_| panic!("{run} fires"));
    }
    sleep(SETTLED).await;
    for run in runs {
        assert_eq!(fired(harness, run).await, times, "{run}");
    }
}

/// The number of messages in the queues of shards, received or not.
fn messages_to_shards(harness: &Harness) -> usize {
    harness.broker().messages().iter().filter(|(queue, _)| queue.starts_with("waft.engine.")).count()
}

#[tokio::test(start_paused = true)]
async fn a_notification_is_not_copied_for_each_run_that_listens() {
    let mut harness = Harness::shared().await;
    sleep(SETTLED).await;
    let listeners = runs(300);
    submit_listeners(&harness, &listeners, &listening(&["a"], 1)).await;
    drop(harness.submit("r", &linear(&["a"])).await.expect("the run begins"));
    let job = harness.take_job().await;
    harness.faults.stop_at("l399", StopPoint::Before);
    harness.signal_job(&job).await;
    harness.faults.until_stopped().await;
    let messages = messages_to_shards(&harness);
    assert!(messages < 60, "{messages} messages for one notification in each shard");
    let again = harness.new_process().await;
    all_fire(&again, &listeners, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_report_does_not_wait_until_all_runs_have_a_notification() {
    let mut harness = Harness::new().await;
    let listeners = runs(300);
    submit_listeners(&harness, &listeners, &listening(&["a"], 4)).await;
    let neighbour = wired("name = \"n\"\n[[task]]\nname = \"a\"\nuse = \"g\"\n[modules]\ng = \"g.wasm\"\n");
    let watch = harness.submit("n", &neighbour).await.expect("the run begins");
    for run in 0..8 {
        drop(harness.submit(&format!("r{run}"), &linear(&["a"])).await.expect("the run begins"));
    }
    let of_neighbour = harness.take_job().await;
    for _ in 0..8 {
        harness.answer_next().await;
    }
    assert!(harness.take_job().await.call.run.as_str().starts_with('l'), "some runs have the first notification");
    harness.signal_job(&of_neighbour).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    assert!(fired(&harness, "l399").await < 32, "others wait for theirs");
    all_fire(&harness, &listeners, 32).await;
}

#[tokio::test(start_paused = true)]
async fn a_notification_waits_until_a_run_with_its_own_shard_is_resumed() {
    let mut harness = Harness::new().await;
    submit_listeners(&harness, &["l".to_owned()], &listening(&["a"], 1)).await;
    drop(harness.submit("r", &linear(&["a"])).await.expect("the run begins"));
    let job = harness.take_job().await;
    harness.faults.stop_at("l", StopPoint::Before);
    harness.signal_job(&job).await;
    harness.faults.until_stopped().await;
    harness.faults.resume();
    let again = harness.restart().await;
    sleep(SETTLED).await;
    drop(again.engine.adopt("l".parse().unwrap(), RunCommand::Resume).await.expect("it goes on"));
    all_fire(&again, &["l".to_owned()], 1).await;
}

#[tokio::test(start_paused = true)]
async fn each_run_fires_once_although_the_process_ends_between_their_appends() {
    for moment in [StopPoint::Before, StopPoint::After] {
        let mut harness = Harness::shared().await;
        sleep(SETTLED).await;
        let listeners = runs(60);
        submit_listeners(&harness, &listeners, &listening(&["a"], 8)).await;
        drop(harness.submit("r", &linear(&["a"])).await.expect("the run begins"));
        let job = harness.take_job().await;
        harness.faults.stop_at("l150", moment);
        harness.signal_job(&job).await;
        harness.faults.until_stopped().await;
        let mut counts = BTreeSet::new();
        for run in &listeners {
            counts.insert(fired(&harness, run).await);
        }
        assert_eq!(counts, BTreeSet::from([0, 8]), "only some have recorded the notification");
        let again = harness.new_process().await;
        sleep(SETTLED).await;
        all_fire(&again, &listeners, 8).await;
        let last = again.new_process().await;
        all_fire(&last, &listeners, 8).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_run_fires_once_although_its_append_fails() {
    for fault in [Fault::NotWritten, Fault::WrittenUnconfirmed] {
        let mut harness = Harness::new().await;
        let listeners = runs(60);
        submit_listeners(&harness, &listeners, &listening(&["a"], 8)).await;
        drop(harness.submit("r", &linear(&["a"])).await.expect("the run begins"));
        let job = harness.take_job().await;
        harness.faults.hold();
        harness.signal_job(&job).await;
        harness.faults.wait_for_append().await;
        // The next append is one of the listening runs.
        harness.faults.release();
        harness.faults.fail_next(fault);
        all_fire(&harness, &listeners, 8).await;
        let again = harness.restart().await;
        all_fire(&again, &listeners, 8).await;
    }
}

/// A flow whose tasks listen to one another, and make no call.
fn ring(tasks: usize) -> Arc<Flow> {
    let mut text = "name = \"ring\"\npersistent = true\n[modules]\ng = \"g.wasm\"\n\
                    [[task]]\nname = \"seed\"\nwait = \"a word\"\n"
        .to_owned();
    for task in 0..tasks {
        text.push_str(&format!("[[task]]\nname = \"t{task}\"\nuse = \"g\"\nfor_each = []\nas = \"item\"\n"));
        for source in (0..tasks).map(|source| format!("t{source}")).chain(["seed".to_owned()]) {
            text.push_str(&format!("[[listen]]\nflow = \"ring\"\ntask = \"{source}\"\nto = \"t{task}\"\n"));
        }
    }
    wired(&text)
}

// In real time: the ring never rests.
#[tokio::test]
async fn flows_that_notify_one_another_without_a_call_are_slow() {
    let mut harness = Harness::new().await;
    let listeners = runs(5);
    submit_listeners(&harness, &listeners, &ring(4)).await;
    let seed =
        RunCommand::Notify { task: "seed".parse().unwrap(), answer: TaskResult::Succeeded(Values::new()), key: None };
    for run in &listeners {
        harness.engine.command_local(&run.parse().unwrap(), seed.clone()).await.expect("it is recorded");
    }
    sleep(Duration::from_secs(3)).await;
    let before = fired(&harness, "l100").await;
    assert!(before > 4, "it fires");
    sleep(Duration::from_secs(2)).await;
    let firings = fired(&harness, "l100").await - before;
    // At most 4 copies in 100 ms, for five runs with four tasks each.
    assert!((1..=100).contains(&firings), "{firings} firings in two seconds");
    assert!(messages_to_shards(&harness) < 400);
    let started = std::time::Instant::now();
    drop(harness.submit("n", &linear(&["a"])).await.expect("the run begins"));
    harness.answer_next().await;
    harness.wait_for_state("n", RunState::Success).await;
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_stays_unreadable_delays_the_notifications_of_others_for_some_time_only() {
    let harness = Harness::shared().await;
    sleep(SETTLED).await;
    let listener = runs(1);
    submit_listeners(&harness, &listener, &listening(&["a"], 1)).await;
    drop(harness.submit("unreadable", &linear(&["b"])).await.expect("the run begins"));
    harness.faults.set_unreadable(&["unreadable"]);
    let mut again = harness.new_process().await;
    sleep(SETTLED).await;
    drop(again.submit("r", &linear(&["a"])).await.expect("the run begins"));
    again.answer_shared("r").await;
    let fires = async {
        while fired(&again, &listener[0]).await == 0 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(5 * PATIENCE, fires).await.expect("the run is given up after some tries");
    assert_eq!(again.state("unreadable").await, RunState::Running);
}

/// A flow whose waiting tasks all take the values of one notification, which have about 700 kB.
fn waiting(tasks: usize) -> Arc<Flow> {
    let mut text = "name = \"w\"\n".to_owned();
    for task in 0..tasks {
        let provides: Vec<String> = (0..12).map(|value| format!("v{value} = \"t{task}v{value}\"")).collect();
        text.push_str(&format!(
            "[[task]]\nname = \"t{task}\"\nwait = \"values\"\nprovides = {{ {} }}\n\
             [[listen]]\nflow = \"f\"\ntask = \"a\"\nto = \"t{task}\"\n",
            provides.join(", ")
        ));
    }
    wired(&text)
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_many_tasks_wait_for_is_recorded_in_parts() {
    let harness = Harness::new().await;
    let watch = harness.submit("w", &waiting(20)).await.expect("the run begins");
    let value = |number: usize| format!("\"v{number}\":\"{}\"", "x".repeat(58_000));
    let provides: Vec<String> = (0..12).map(value).collect();
    let body = format!(
        "{{\"event\":\"state\",\"run\":\"r\",\"flow\":\"f\",\"kind\":\"task\",\"name\":\"a\",\"state\":\"success\",\
         \"firing\":1,\"attempt\":1,\"at\":\"2026-11-24T21:13:42.344792Z\",\"provides\":{{{}}}}}",
        provides.join(",")
    );
    sleep(SETTLED).await;
    harness.faults.note_batches();
    let seal = harness.secret().message_seal(body.as_bytes()).to_hex();
    harness
        .publish_message(Message {
            exchange: topology::NOTIFICATIONS.into(),
            key: "f.a.r.success".into(),
            routing: Routing::Optional,
            persistent: true,
            priority: 0,
            properties: Properties {
                content_type: Some("application/json".into()),
                headers: [("seal".to_owned(), seal)].into(),
                ..Properties::default()
            },
            body: body.into(),
        })
        .await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    let of_batch = |batch: &Batch| batch.iter().filter(|(_, fact)| *fact == "succeeded").count();
    let batches: Vec<usize> = harness.faults.batches().iter().map(of_batch).filter(|count| *count > 0).collect();
    assert_eq!(batches.iter().sum::<usize>(), 20, "{batches:?}");
    assert!(batches.iter().all(|count| *count <= 7), "a batch has about 4 MiB: {batches:?}");
}
