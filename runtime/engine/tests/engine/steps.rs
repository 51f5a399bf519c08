//! Runs alternate: none delays the others, however much work follows from one event.

use std::{sync::Arc, time::Duration};

use flow::{Flow, RunState};
use protocol::RunCommand;
use tokio::time::sleep;

use crate::harness::{Harness, linear, wired};

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

#[tokio::test(start_paused = true)]
async fn a_long_decision_continues_in_further_steps() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &wide(1_500)).await.expect("the run begins");
    for _ in 0..1_500 {
        harness.answer_next().await;
    }
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}
