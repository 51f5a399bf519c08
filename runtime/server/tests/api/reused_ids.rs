//! Streams of a run that was deleted, while another run has its id.

use std::pin::pin;

use flow::Timestamp;
use logbook::LoadError;
use server::{Lines, LinesError, LogFollow};

use super::*;

/// Starts and ends a run `r` of a flow with this name.
async fn run(harness: &Harness, flow: &str) {
    let flow = WAITS.replace("\"f\"", &format!("{flow:?}"));
    harness.client().submit(&submission(&flow).run("r")).await.unwrap();
    end(harness).await;
}

async fn end(harness: &Harness) {
    harness.client().notify("r", &Notification::of("w").value("v", 1)).await.unwrap();
    harness.client().wait("r").await.unwrap();
}

/// Deletes the ended run `r`, and runs a flow of another team under its id.
async fn reuse_id(harness: &Harness, logbook: &Arc<dyn Logbook>) {
    assert_eq!(logbook.delete_ended_runs(Timestamp::from_micros(u64::MAX)).await.unwrap(), 1);
    run(harness, "other/g").await;
}

async fn harness() -> (Harness, Arc<dyn Logbook>) {
    let dependencies = dependencies().await;
    let logbook = dependencies.logbook.clone();
    (Harness::over(config(None), dependencies).await, logbook)
}

#[tokio::test]
async fn a_watcher_receives_nothing_of_a_later_run_with_the_same_id() {
    let (harness, logbook) = harness().await;
    run(&harness, "f").await;
    let mut lines = Lines::open("r".parse().unwrap(), logbook.clone(), Arc::new(store::Memory::new())).await.unwrap();
    reuse_id(&harness, &logbook).await;
    let next = lines.next().await;
    assert!(matches!(next, Err(LinesError::Load(LoadError::Missing { .. }))), "{next:?}");
}

#[tokio::test]
async fn a_follower_receives_nothing_of_a_later_run_with_the_same_id() {
    let (harness, logbook) = harness().await;
    harness.client().submit(&submission(WAITS).run("r")).await.unwrap();
    let mut follow = LogFollow::new("r".parse().unwrap(), logbook.clone());
    let mut next = pin!(follow.next());
    assert!(futures::poll!(&mut next).is_pending(), "the run goes on");
    end(&harness).await;
    reuse_id(&harness, &logbook).await;
    let next = next.await;
    assert!(matches!(next, Err(LoadError::Missing { .. })), "{next:?}");
}
