//! Runs alternate: none delays the others, however much work follows from one event.

use std::{sync::Arc, time::Duration};

use flow::{Flow, RunState};
use protocol::RunCommand;
use tokio::time::sleep;

use crate::harness::{Batch, Harness, linear, wired};

/// A cycle that calls no guest.
fn idle_circle() -> Arc<Flow> {
    wired(
        "name = \"idle\"\ncyclic = true\n[inputs]\nnone = []\n[[task]]\nname = \"spin\"\nuse = \"g\"\nfor_each = \"none\"\n\
         [[link]]\nfrom = \"spin\"\nto = \"spin\"\n[modules]\ng = \"g.wasm\"\n",
    )
}

/// Unordered tasks: more than one step can start.
fn wide(tasks: u32) -> Arc<Flow> {
    let task = |number| format!("[[task]]\nname = \"t{number}\"\nuse = \"g\"\n");
    let tasks: String = (0..tasks).map(task).collect();
    wired(&format!("name = \"wide\"\n{tasks}[modules]\ng = \"g.wasm\"\n"))
}

#[tokio::test(start_paused = true)]
async fn a_cycle_without_calls_delays_no_run_and_can_be_cancelled() {
    let mut harness = Harness::new().await;
    let spinning = harness.submit("spins", &idle_circle()).await.expect("the run begins");
    sleep(Duration::from_secs(5)).await;
    let other = harness.submit("other", &linear(&["a"])).await.expect("another run begins");
    harness.answer_next().await;
    assert_eq!(Harness::end(other).await.state(), RunState::Success);
    harness.engine.command_local(&"spins".parse().unwrap(), RunCommand::Cancel).await.expect("it receives the cancel");
    let ended = Harness::end(spinning).await;
    assert_eq!(ended.state(), RunState::RolledBack);
    assert!((45..=55).contains(&ended.firing_count()), "ten turns a second: {}", ended.firing_count());
}

/// A task, and targets of it with conditions that cost about 28,000 each, in a namespace.
fn costly(namespace: &str, targets: usize) -> Arc<Flow> {
    let target = |number| {
        format!(
            "[[task]]\nname = \"t{number}\"\nuse = \"g\"\n\
             [[link]]\nfrom = \"a\"\nto = \"t{number}\"\nwhen = \"l.exists(x, x > 0)\"\n"
        )
    };
    let targets: String = (0..targets).map(target).collect();
    let list = ["1"; 2_000].join(",");
    let task = "[[task]]\nname = \"a\"\nuse = \"g\"\n";
    let flow = wired(&format!("name = \"f\"\n[inputs]\nl = [{list}]\n{task}{targets}[modules]\ng = \"g.wasm\"\n"));
    Arc::new(Flow { name: format!("{namespace}/f").parse().unwrap(), ..(*flow).clone() })
}

#[tokio::test(start_paused = true)]
async fn costly_conditions_of_one_namespace_delay_no_other_run() {
    let mut harness = Harness::new().await;
    let mut watches = Vec::new();
    for run in 0..10 {
        watches.push(harness.submit(&format!("a{run}"), &costly("a", 20)).await.expect("the run begins"));
    }
    watches.push(harness.submit("b", &costly("b", 1)).await.expect("the run begins"));
    watches.push(harness.submit("c", &linear(&["a", "b"])).await.expect("the run begins"));
    let mut calls = Vec::new();
    for _ in 0..12 {
        calls.push(harness.take_job().await.call);
    }
    harness.faults.note_batches();
    for call in &calls {
        harness.signal(call).await;
    }
    for _ in 0..10 * 20 + 2 {
        harness.answer_next().await;
    }
    for watch in watches {
        assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    }
    let batches = harness.faults.batches();
    let count =
        |batch: &Batch, fact: &str| batch.iter().filter(|(run, name)| run.as_str() != "c" && *name == fact).count();
    let most = batches.iter().map(|batch| count(batch, "started")).max();
    assert!(most.is_some_and(|most| most <= 10), "the conditions of {most:?} nodes were evaluated in one batch");
    let position = |run: &str, fact: &str| {
        let is_of = |(of, name): &(flow::RunId, &str)| of.as_str() == run && *name == fact;
        batches.iter().position(|batch| batch.iter().any(is_of)).expect("it was recorded")
    };
    assert_eq!(position("c", "started"), position("c", "succeeded"), "a run without conditions waits for no turn");
    let waited = position("b", "started") - position("b", "succeeded");
    assert!(waited <= 1, "another namespace has the next turn: {waited}");
    let last = batches.iter().rposition(|batch| count(batch, "started") > 0);
    assert!(last > Some(position("b", "started") + 5), "the others have many turns after it: {last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_decision_continues_in_further_steps() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &wide(1_500)).await.expect("the run begins");
    for _ in 0..1_500 {
        harness.answer_next().await;
    }
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn jobs_with_more_bytes_than_a_batch_follow_in_further_batches() {
    let mut harness = Harness::new().await;
    // Each job has the input: about 36 MB.
    let task = |number| format!("[[task]]\nname = \"t{number}\"\nuse = \"g\"\n");
    let (item, tasks) = ("x".repeat(60_000), (0..600).map(task).collect::<String>());
    let text = format!("name = \"wide\"\n[inputs]\nitem = \"{item}\"\n{tasks}[modules]\ng = \"g.wasm\"\n");
    let watch = harness.submit("r", &wired(&text)).await.expect("the run begins");
    for _ in 0..600 {
        harness.answer_next().await;
    }
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}
