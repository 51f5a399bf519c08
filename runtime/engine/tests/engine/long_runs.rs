//! Runs with many records: they are read beside the driver, which goes on with all others.

use std::{collections::BTreeMap, time::Duration};

use broker::{Broker as _, Message, Properties, Routing};
use engine::CommandError;
use flow::{RunId, RunState};
use protocol::{Report, RunCommand, SendingId, topology};
use tokio::time::{sleep, timeout};

use crate::harness::{Harness, linear, wired};

/// Long enough for an engine to take all shards.
const SETTLED: Duration = Duration::from_secs(30);

const PATIENCE: Duration = Duration::from_secs(120);

/// Starts a run and restarts the engine, which cannot read the run's records for now.
async fn restarted_with_a_long_run() -> (Harness, protocol::Job) {
    let mut harness = Harness::shared().await;
    drop(harness.submit("r", &linear(&["a", "b"])).await.expect("the run begins"));
    let job = harness.take_job().await;
    (restart_with_long_runs(harness).await, job)
}

/// Starts a run with so many calls of one list, and takes their jobs.
async fn with_calls_of_a_list(calls: usize) -> (Harness, Vec<protocol::Job>) {
    let mut harness = Harness::durable().await;
    let list = vec!["1"; calls].join(", ");
    let flow = format!(
        "name = \"f\"\n[[task]]\nname = \"a\"\nuse = \"g\"\nfor_each = [{list}]\nmax_parallel = {calls}\n\
         [modules]\ng = \"g.wasm\"\n"
    );
    drop(harness.submit("r", &wired(&flow)).await.expect("the run begins"));
    let mut jobs = Vec::new();
    for _ in 0..calls {
        jobs.push(harness.take_job().await);
    }
    (harness, jobs)
}

/// Restarts the engine, which cannot read the records of its runs for now.
async fn restart_with_long_runs(harness: Harness) -> Harness {
    harness.faults.hold_reads();
    harness.engine.abort().await;
    let again = harness.sharing_engine("again").await;
    drop(harness);
    sleep(SETTLED).await;
    again
}

#[tokio::test(start_paused = true)]
async fn a_long_run_delays_no_other() {
    let (mut harness, _) = restarted_with_a_long_run().await;
    for run in ["s", "t", "u"] {
        drop(harness.submit(run, &linear(&["a"])).await.expect("the run begins"));
        assert_eq!(harness.answer_shared(run).await.task.as_str(), "a");
        timeout(PATIENCE, harness.wait_for_state(run, RunState::Success)).await.expect("it goes on");
    }
    assert_eq!(harness.state("r").await, RunState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_be_read_stops_no_other() {
    let mut harness = Harness::shared().await;
    let mut by_shard: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // Of so many, three are of one shard.
    for number in 10..30 {
        let run = format!("r{number}");
        drop(harness.submit(&run, &linear(&["t"])).await.expect("the run begins"));
        assert_eq!(harness.take_job().await.call.run.as_str(), run);
        by_shard.entry(harness.shard(&run).await).or_default().push(run);
    }
    let of_shard = by_shard.into_values().find(|runs| runs.len() >= 3).expect("there are eight shards");
    let [running, other, suspended] = &of_shard[..3] else { panic!("{of_shard:?}") };
    harness.engine.command_local(&suspended.parse().unwrap(), RunCommand::Suspend).await.expect("it is recorded");
    harness.engine.abandon(suspended.parse().unwrap()).await.expect("it is recorded");
    harness.wait_for_state(suspended, RunState::Suspended).await;
    harness.faults.set_unreadable(&[running, suspended]);
    harness.engine.abort().await;
    let mut again = harness.sharing_engine("again").await;
    drop(harness);
    // The calls of all runs that can be read are sent again.
    for _ in 0..18 {
        let job = timeout(PATIENCE, again.take_job()).await.expect("a run that can be read goes on");
        again.signal_job(&job).await;
    }
    timeout(PATIENCE, again.wait_for_state(other, RunState::Success)).await.expect("it goes on");
    assert_eq!(again.state(running).await, RunState::Running);
    again.faults.set_unreadable(&[]);
    let job = timeout(PATIENCE, again.take_job()).await.expect("it is tried again");
    assert_eq!(job.call.run.as_str(), running);
    again.signal_job(&job).await;
    timeout(PATIENCE, again.wait_for_state(running, RunState::Success)).await.expect("it goes on");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_arrives_while_its_run_is_read_counts() {
    let (mut harness, job) = restarted_with_a_long_run().await;
    harness.signal_job(&job).await;
    sleep(SETTLED).await;
    harness.faults.release_reads();
    let next = timeout(PATIENCE, harness.take_job()).await.expect("the run goes on");
    assert_eq!(next.call.task.as_str(), "b", "the answered call is not sent again");
    harness.signal_job(&next).await;
    harness.wait_for_state("r", RunState::Success).await;
    assert_eq!(harness.successes("r").await, ["a", "b"], "each once");
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_call_is_sent_again_once_its_run_is_read() {
    let (mut harness, job) = restarted_with_a_long_run().await;
    harness.faults.release_reads();
    let again = timeout(PATIENCE, harness.take_job()).await.expect("it is sent again");
    assert_eq!(again.call, job.call);
    assert_eq!(harness.jobs_waiting().await, 0, "once");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_arrives_while_its_run_is_read_counts_when_the_run_is_resumed() {
    let mut harness = Harness::new().await;
    drop(harness.submit("r", &linear(&["a"])).await.expect("the run begins"));
    let job = harness.take_job().await;
    harness.faults.hold_reads();
    let mut harness = harness.restart().await;
    harness.heartbeat_job(&job).await;
    sleep(Duration::from_secs(1)).await;
    let resumed = harness.engine.adopt("r".parse().unwrap(), RunCommand::Resume);
    let release = async {
        sleep(Duration::from_secs(1)).await;
        harness.faults.release_reads();
    };
    let (resumed, ()) = tokio::join!(resumed, release);
    drop(resumed.expect("it goes on"));
    timeout(PATIENCE, harness.wait_for_fact("r", "leased")).await.expect("the heartbeat counts");
    let again = timeout(Duration::from_secs(3), harness.take_job()).await;
    assert!(again.is_err(), "a worker has the call: {again:?}");
    harness.signal_job(&job).await;
    timeout(PATIENCE, harness.wait_for_state("r", RunState::Success)).await.expect("it ends");
}

#[tokio::test(start_paused = true)]
async fn a_notification_waits_until_it_is_known_who_listens() {
    let harness = Harness::shared().await;
    let listening = wired(
        "name = \"l\"\npersistent = true\n[[task]]\nname = \"fired\"\nuse = \"g\"\n\
         [[listen]]\nflow = \"f\"\ntask = \"a\"\nto = \"fired\"\n[modules]\ng = \"g.wasm\"\n",
    );
    drop(harness.submit("l", &listening).await.expect("the run begins"));
    sleep(SETTLED).await;
    let mut harness = restart_with_long_runs(harness).await;
    drop(harness.submit("s", &linear(&["a"])).await.expect("the run begins"));
    harness.answer_shared("s").await;
    harness.wait_for_state("s", RunState::Success).await;
    sleep(SETTLED).await;
    harness.faults.release_reads();
    let fired = timeout(PATIENCE, harness.take_job()).await.expect("the run fires");
    assert_eq!((fired.call.run.as_str(), fired.call.task.as_str()), ("l", "fired"));
    harness.signal_job(&fired).await;
    sleep(SETTLED).await;
    assert_eq!(harness.jobs_waiting().await, 0, "once");
}

/// The notification that the task `a` of a run of the flow `f` has succeeded.
fn notification(harness: &Harness, run: usize) -> Message {
    let body = format!(
        "{{\"event\":\"state\",\"run\":\"s{run}\",\"flow\":\"f\",\"kind\":\"task\",\"name\":\"a\",\"state\":\"success\",\
         \"firing\":1,\"attempt\":1,\"at\":\"2026-11-24T21:13:42.344792Z\",\"provides\":{{}}}}"
    );
    let seal = harness.secret().message_seal(body.as_bytes()).to_hex();
    Message {
        exchange: topology::NOTIFICATIONS.into(),
        key: format!("f.a.s{run}.success"),
        routing: Routing::Optional,
        persistent: true,
        priority: 0,
        properties: Properties {
            content_type: Some("application/json".into()),
            headers: [("seal".to_owned(), seal)].into(),
            ..Properties::default()
        },
        body: body.into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_known_run_takes_more_notifications_than_are_held_while_another_is_read() {
    const NOTIFICATIONS: usize = 150;
    let listening = wired(
        "name = \"l\"\npersistent = true\n[[task]]\nname = \"fired\"\nuse = \"g\"\n\
         [[listen]]\nflow = \"f\"\ntask = \"a\"\nto = \"fired\"\n[modules]\ng = \"g.wasm\"\n",
    );
    let harness = Harness::durable().await;
    sleep(SETTLED).await;
    drop(harness.submit("long", &listening).await.expect("the run begins"));
    // Its first record is read in any case.
    harness.publish_message(notification(&harness, NOTIFICATIONS)).await;
    sleep(SETTLED).await;
    let shard = harness.shard("long").await;
    harness.faults.hold_reads();
    harness.engine.abort().await;
    let again = harness.durable_sharing_engine("again").await;
    drop(harness);
    sleep(SETTLED).await;
    // The first run of the same shard; there are eight shards.
    let mut known = None;
    for number in 0..64 {
        let run = format!("k{number}");
        drop(again.submit(&run, &listening).await.expect("another run begins"));
        if again.shard(&run).await == shard {
            known = Some(run);
            break;
        }
    }
    let known = known.expect("a run of the same shard");
    again.faults.note_batches();
    let triggered = |run: &str| {
        let facts = again.faults.batches().into_iter().flatten();
        facts.filter(|(of, fact)| of.as_str() == run && *fact == "triggered").count()
    };
    for number in 0..NOTIFICATIONS {
        again.publish_message(notification(&again, number)).await;
    }
    sleep(SETTLED).await;
    assert_eq!((triggered(&known), triggered("long")), (NOTIFICATIONS, 0), "it does not wait for the other run");
    again.faults.release_reads();
    sleep(SETTLED).await;
    assert_eq!((triggered(&known), triggered("long")), (NOTIFICATIONS, NOTIFICATIONS), "each takes each one once");
}

#[tokio::test(start_paused = true)]
async fn a_command_for_a_run_that_is_read_is_answered_then() {
    let (harness, _) = restarted_with_a_long_run().await;
    let run = "r".parse().unwrap();
    let cancel = harness.engine.command(&run, protocol::RunCommand::Cancel);
    let release = async {
        sleep(Duration::from_secs(3)).await;
        assert_eq!(harness.state("r").await, RunState::Running);
        harness.faults.release_reads();
    };
    let (answer, ()) = tokio::join!(cancel, release);
    answer.expect("the command is recorded");
    harness.wait_for_state("r", RunState::RolledBack).await;
}

#[tokio::test(start_paused = true)]
async fn some_commands_wait_for_a_run_that_is_read_and_more_are_refused() {
    let (harness, _) = restarted_with_a_long_run().await;
    let run: RunId = "r".parse().unwrap();
    let commands = (0..40).map(|_| harness.engine.command(&run, RunCommand::Suspend));
    let release = async {
        sleep(Duration::from_secs(3)).await;
        harness.faults.release_reads();
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(commands), release);
    let refused = answers.iter().filter(|answer| matches!(answer, Err(CommandError::Refused { .. })));
    assert_eq!(refused.count(), 8, "32 deliveries are held for a run");
    assert!(answers.iter().any(Result::is_ok), "those that waited are recorded");
}

#[tokio::test(start_paused = true)]
async fn more_results_than_are_held_for_a_run_that_is_read_wait_and_count() {
    const CALLS: usize = 100;
    let (harness, jobs) = with_calls_of_a_list(CALLS).await;
    harness.faults.hold_reads();
    harness.engine.abort().await;
    let again = harness.durable_sharing_engine("again").await;
    drop(harness);
    sleep(SETTLED).await;
    for job in &jobs {
        again.signal_job(job).await;
    }
    // Time passes only while nothing goes round: those that are not held wait for the next second.
    sleep(SETTLED).await;
    assert_eq!(again.state("r").await, RunState::Running);
    again.faults.release_reads();
    timeout(PATIENCE, again.wait_for_state("r", RunState::Success)).await.expect("no result is lost");
    assert_eq!(again.jobs_waiting().await, 0, "and no call is sent again");
}

#[tokio::test(start_paused = true)]
async fn results_that_are_put_behind_the_barrier_of_their_shard_count() {
    // More than a broker delivers at once: the engine reads the run while it receives them.
    const CALLS: usize = 600;
    let (harness, jobs) = with_calls_of_a_list(CALLS).await;
    // Long, but read at once.
    harness.faults.hold_reads();
    harness.faults.release_reads();
    harness.engine.abort().await;
    for job in &jobs {
        harness.signal_job(job).await;
    }
    let again = harness.durable_sharing_engine("again").await;
    drop(harness);
    timeout(PATIENCE, again.wait_for_state("r", RunState::Success)).await.expect("no result is lost");
    assert_eq!(again.jobs_waiting().await, 0, "no call is sent again");
}

#[tokio::test(start_paused = true)]
async fn what_arrives_for_a_damaged_run_is_settled() {
    let mut harness = Harness::new().await;
    let run: RunId = "r".parse().unwrap();
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let call = harness.take_job().await.call;
    harness.engine.command_local(&run, RunCommand::Suspend).await.expect("it is recorded");
    harness.engine.abandon(run.clone()).await.expect("it is recorded");
    assert_eq!(Harness::end(watch).await.state(), RunState::Suspended);
    harness.faults.set_damaged(&["r"]);
    for _ in 0..20 {
        let answer = harness.engine.command(&run, RunCommand::Resume).await;
        assert!(matches!(answer, Err(CommandError::Failed { .. })), "{answer:?}");
        harness.heartbeat(&call).await;
        harness.signal(&call).await;
    }
    sleep(SETTLED).await;
    let waiting = harness.broker().waiting(topology::QUARANTINE).await.unwrap();
    assert_eq!(waiting, Some(12), "eight results wait for the next engine, and an operator finds the others");
    harness.engine.abort().await;
    let returned = harness.broker().waiting(harness.signal_to()).await.unwrap().unwrap_or_default();
    assert!((8..20).contains(&returned), "commands that were answered do not come back: {returned}");
}

#[tokio::test(start_paused = true)]
async fn a_returned_job_of_a_damaged_run_is_kept_if_a_worker_was_lost_with_it() {
    let mut harness = Harness::new().await;
    let run: RunId = "r".parse().unwrap();
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let call = harness.take_job().await.call;
    harness.engine.command_local(&run, RunCommand::Suspend).await.expect("it is recorded");
    harness.engine.abandon(run).await.expect("it is recorded");
    assert_eq!(Harness::end(watch).await.state(), RunState::Suspended);
    harness.faults.set_damaged(&["r"]);
    let returned = |redeliveries| {
        let (call, sending) = (call.clone(), SendingId::FIRST);
        Report::NotStarted { call, redeliveries, unanswered: 0, sending }
    };
    harness.publish_report(&returned(1)).await;
    harness.publish_report(&returned(0)).await;
    sleep(SETTLED).await;
    let is_kept = |body: &[u8]| match Report::open(body, harness.secret()) {
        Ok(Report::NotStarted { redeliveries, .. }) => Some(redeliveries),
        Ok(_) | Err(_) => None,
    };
    let messages = harness.broker().messages();
    let kept: Vec<u32> = messages.iter().filter_map(|(_, message)| is_kept(&message.body)).collect();
    assert_eq!(kept, [1], "the next engine that can read the run learns of it");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_an_ended_run_refuses_reads_no_record() {
    let mut harness = Harness::new().await;
    let run: RunId = "r".parse().unwrap();
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    harness.answer_next().await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    let loads = harness.faults.loads();
    for command in [RunCommand::Cancel, RunCommand::Suspend, RunCommand::Resume] {
        let answers =
            [harness.engine.command(&run, command.clone()).await, harness.engine.command_local(&run, command).await];
        for answer in answers {
            let is_refused =
                matches!(&answer, Err(CommandError::NotApplicable { state, .. }) if *state == RunState::Success);
            assert!(is_refused, "{answer:?}");
        }
    }
    assert_eq!(harness.faults.loads(), loads);
}
