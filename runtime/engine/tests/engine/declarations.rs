//! A slow or hanging declaration of one run delays no other run, and no notification is missed.

use std::{sync::Arc, time::Duration};

use broker::{Broker, Message, Properties, PublishError, Routing};
use engine::{CommandError, SubmitError};
use flow::{FailureKind, Flow, Revision, RunId, RunState};
use protocol::{RunCommand, topology};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Harness, linear, wired};

/// Longer than the time limit for all declarations of a flow.
const HANGING: Duration = Duration::from_secs(3_600);

/// The time that nothing here may take, since the clock of these tests stands still while work is done.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(300);

/// The exchange of the task `t` of a flow.
fn exchange(flow: &str) -> String {
    topology::task_exchange(&flow.parse().unwrap(), &"t".parse().unwrap())
}

/// A persistent flow that listens to the task `t` of other flows.
fn listening(flows: &[&str]) -> Arc<Flow> {
    let listen = |flow: &&str| format!("[[listen]]\nflow = \"{flow}\"\ntask = \"t\"\nto = \"fired\"\n");
    let listeners: String = flows.iter().map(listen).collect();
    wired(&format!(
        "name = \"l\"\npersistent = true\n[[task]]\nname = \"fired\"\nuse = \"g\"\n{listeners}[modules]\ng = \"g.wasm\"\n"
    ))
}

/// A flow of one task, which has its own name.
fn source(name: &str) -> Arc<Flow> {
    wired(&format!("name = \"{name}\"\n[[task]]\nname = \"t\"\nuse = \"g\"\n[modules]\ng = \"g.wasm\"\n"))
}

fn id(run: &str) -> RunId {
    run.parse().unwrap()
}

/// Whether the queue of the engine is bound to the task `t` of a flow.
async fn is_bound(harness: &Harness, flow: &str) -> bool {
    let message = Message {
        exchange: exchange(flow),
        key: format!("{flow}.t.1.success"),
        routing: Routing::Mandatory,
        persistent: false,
        priority: 0,
        properties: Properties::default(),
        body: Vec::new().into(),
    };
    !matches!(
        harness.broker().publish(message).await,
        Err(PublishError::Unroutable { .. } | PublishError::Refused { .. })
    )
}

/// Starts and cancels a run a moment later; returns how long that takes.
async fn neighbour(harness: &Harness, run: &str) -> Duration {
    sleep(AT_ONCE).await;
    let start = Instant::now();
    let _watch = harness.submit(run, &linear(&["a"])).await.expect("the run begins");
    harness.engine.command_local(&id(run), RunCommand::Cancel).await.expect("it is recorded");
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_submission_does_not_wait_for_the_listeners_of_another() {
    let harness = Harness::new().await;
    harness.connection.set_slow(&exchange("f"), HANGING);
    let flow = listening(&["f"]);
    let (refused, took) = tokio::join!(harness.submit("l", &flow), neighbour(&harness, "r"));
    assert!(took < AT_ONCE, "{took:?}");
    let refused = refused.map(drop).expect_err("it cannot listen");
    let source = std::error::Error::source(&refused).expect("it has a reason").to_string();
    assert!(
        matches!(refused, SubmitError::Listen(_)) && source.contains("the tasks that flow l listens to"),
        "{source}"
    );
    assert!(harness.logbook.summary(&id("l")).await.is_err(), "nothing was recorded");
    harness.connection.set_slow(&exchange("f"), Duration::ZERO);
    let _watch = harness.submit("l", &flow).await.expect("the broker answers again");
    assert!(is_bound(&harness, "f").await);
}

#[tokio::test(start_paused = true)]
async fn a_submission_is_answered_once_its_queue_is_bound() {
    let harness = Harness::new().await;
    for flow in ["f", "g"] {
        harness.connection.set_slow(&exchange(flow), Duration::from_secs(2));
    }
    let start = Instant::now();
    let _watch = harness.submit("l", &listening(&["f", "g"])).await.expect("it listens");
    assert!(is_bound(&harness, "f").await && is_bound(&harness, "g").await);
    // The exchange and two bindings to it, for both tasks at the same time.
    assert_eq!(start.elapsed(), Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn an_edit_is_recorded_once_its_queue_is_bound_and_delays_no_other_run() {
    let harness = Harness::new().await;
    let _watch = harness.submit("l", &listening(&["f"])).await.expect("it listens");
    harness.connection.set_slow(&exchange("g"), AT_ONCE);
    let edit =
        |flows: &[&str], revision| RunCommand::Edit { revision: Revision::new(revision), flow: listening(flows) };
    let start = Instant::now();
    let run = id("l");
    let editing = async {
        let edited = harness.engine.command(&run, edit(&["f", "g"], 1)).await;
        (edited, is_bound(&harness, "g").await)
    };
    let ((edited, is_bound), took) = tokio::join!(editing, neighbour(&harness, "r"));
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(edited.expect("it is recorded"), RunState::Running);
    assert!(is_bound && start.elapsed() >= 3 * AT_ONCE, "{:?}", start.elapsed());

    harness.connection.set_slow(&exchange("h"), HANGING);
    let editing = harness.engine.command_local(&run, edit(&["f", "h"], 2));
    let (refused, took) = tokio::join!(editing, neighbour(&harness, "s"));
    assert!(took < AT_ONCE, "{took:?}");
    let Err(CommandError::Failed { reason }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("the tasks that flow l listens to"), "{reason}");
    let facts = harness.facts("l").await;
    assert_eq!(facts.iter().filter(|fact| **fact == "edited").count(), 1, "{facts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_another_engine_loads_delays_no_other_run_and_hears_everything() {
    let one = Harness::shared().await;
    drop(one.submit("l", &listening(&["f"])).await.expect("it listens"));
    one.engine.abort().await;
    let mut other = one.sharing_engine_with_slow("other", &exchange("f"), HANGING).await;
    // Its shards come with the first probes.
    sleep(AT_ONCE).await;
    let start = Instant::now();
    let _watch = other.submit("r", &source("f")).await.expect("the run begins");
    assert!(start.elapsed() <= 3 * AT_ONCE, "{:?}", start.elapsed());
    other.answer_shared("r").await;
    let fired = timeout(PATIENCE, other.take_job()).await.expect("its binding is durable");
    assert_eq!((fired.call.run.as_str(), fired.call.task.as_str()), ("l", "fired"));
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_submission_does_not_wait_for_the_queues_of_another() {
    let harness = Harness::with_unresponsive_queue("waft.jobs.dead").await;
    let queueing = |name: &str, queue: &str| {
        wired(&format!(
            "name = \"{name}\"\n[[task]]\nname = \"a\"\nuse = \"g\"\nqueue = \"{queue}\"\nmax_running = 1\n[modules]\ng = \"g.wasm\"\n"
        ))
    };
    let (dead, fresh) = (queueing("d", "dead"), queueing("n", "fresh"));
    let neighbour = async {
        sleep(AT_ONCE).await;
        let start = Instant::now();
        let _watch = harness.submit("n", &fresh).await.expect("its queue answers");
        start.elapsed()
    };
    let (refused, took) = tokio::join!(harness.submit("d", &dead), neighbour);
    assert!(took < AT_ONCE, "{took:?}");
    refused.map(drop).expect_err("its queue does not answer");
    // Its permit queue was declared nevertheless.
    let permits = topology::permit_queue(harness.secret(), &dead.name, &"a".parse().unwrap());
    assert!(harness.broker().waiting(&permits).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_being_unbound_delays_no_run_and_is_bound_again() {
    let mut harness = Harness::new().await;
    drop(harness.submit("l", &listening(&["f"])).await.expect("it listens"));
    harness.engine.command_local(&id("l"), RunCommand::Cancel).await.expect("it is recorded");
    harness.connection.set_slow(&exchange("f"), Duration::from_secs(5));
    drop(harness.submit("r", &source("f")).await.expect("the run begins"));
    harness.answer_next().await;
    harness.wait_for_state("r", RunState::Success).await;
    // Its notification makes the engine unbind the queue.
    let took = neighbour(&harness, "s").await;
    assert!(took < AT_ONCE, "{took:?}");
    let start = Instant::now();
    drop(harness.submit("m", &listening(&["f"])).await.expect("it listens"));
    assert!(is_bound(&harness, "f").await);
    assert!(start.elapsed() > Duration::from_secs(10), "it was unbound first: {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_not_unbound_while_a_run_that_listens_is_about_to_start() {
    let mut harness = Harness::new().await;
    harness.connection.set_slow(&exchange("slow"), Duration::from_secs(5));
    let flow = listening(&["f", "slow"]);
    let notify = async {
        sleep(AT_ONCE).await;
        drop(harness.engine.submit(id("r"), source("f")).await.expect("the run begins"));
    };
    let (watch, ()) = tokio::join!(harness.submit("l", &flow), notify);
    let _watch = watch.expect("it listens");
    assert!(is_bound(&harness, "f").await, "the notification came before the run started");
    harness.answer_next().await;
}

/// A run that has failed, since its rollback did, and listened to a task.
async fn failed_listener() -> Harness {
    let mut harness = Harness::new().await;
    let flow = wired(
        "name = \"l\"\npattern = \"linear\"\n[[task]]\nname = \"a\"\nuse = \"g\"\n[[task]]\nname = \"b\"\nuse = \"g\"\n\
         [[task]]\nname = \"w\"\nwait = \"a word\"\n[[listen]]\nflow = \"f\"\ntask = \"t\"\nto = \"w\"\n\
         [modules]\ng = \"g.wasm\"\n",
    );
    let watch = harness.submit("l", &flow).await.expect("it listens");
    harness.answer_next().await;
    let b = harness.take_job().await;
    harness.fail(&b.call, FailureKind::Permanent).await;
    assert_eq!(harness.answer_next().await.task.as_str(), "b");
    let a = harness.take_job().await;
    harness.fail(&a.call, FailureKind::Permanent).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Failure);
    harness
}

#[tokio::test(start_paused = true)]
async fn an_ended_run_is_retried_once_its_queue_is_bound_again() {
    let mut harness = failed_listener().await;
    assert!(is_bound(&harness, "f").await);
    drop(harness.submit("r", &source("f")).await.expect("the run begins"));
    harness.answer_next().await;
    timeout(PATIENCE, async {
        while is_bound(&harness, "f").await {
            sleep(AT_ONCE).await;
        }
    })
    .await
    .expect("no run listens");
    harness.engine.command_local(&id("l"), RunCommand::Retry).await.expect("it is recorded");
    assert!(is_bound(&harness, "f").await);
    harness.answer_next().await;
    harness.wait_for_state("l", RunState::RolledBack).await;
}
