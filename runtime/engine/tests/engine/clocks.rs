//! Setting the clock neither delays nor hastens anything.

use std::time::Duration;

use flow::{FailureKind, RunState};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Fault, Harness, wired};

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

/// A task that is retried after half a minute.
const RETRIED: &str = "name = \"g\"\n[modules]\ng = \"g.wasm\"\n[[task]]\nname = \"a\"\nuse = \"g\"\n\
                       retry = { attempts = 2, initial = \"30s\", jitter = false }\n";

/// A task that fires every two seconds.
const SCHEDULED: &str = "name = \"g\"\npersistent = true\n[modules]\ng = \"g.wasm\"\n[[task]]\nname = \"a\"\nuse = \"g\"\n\
                         [[schedule]]\ncron = \"*/2 * * * * *\"\nto = \"a\"\n";

/// Returns the number of seconds until the next job.
async fn seconds_to_next(harness: &mut Harness) -> u64 {
    let start = Instant::now();
    let next = timeout(Duration::from_secs(600), harness.answer_next()).await;
    assert!(next.is_ok(), "no job comes: {:?}", harness.facts("r").await);
    start.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn setting_the_clock_does_not_change_a_retry_delay() {
    for sets in [&[HOUR, -HOUR][..], &[-DAY], &[DAY], &[-3]] {
        let mut harness = Harness::new().await;
        harness.submit("r", &wired(RETRIED)).await.map(drop).expect("the run begins");
        let first = harness.take_job().await;
        harness.fail(&first.call, FailureKind::Transient).await;
        for seconds in sets {
            sleep(Duration::from_secs(5)).await;
            harness.clock.set(*seconds);
        }
        let before = 5 * sets.len() as u64;
        let waited = before + seconds_to_next(&mut harness).await;
        assert!((29..=31).contains(&waited), "{waited} seconds: {sets:?}");
        harness.wait_for_state("r", RunState::Success).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_change_counts_once_although_its_append_fails() {
    for fault in [Fault::NotWritten, Fault::WrittenUnconfirmed] {
        for seconds in [HOUR, -HOUR] {
            let mut harness = Harness::new().await;
            harness.submit("r", &wired(RETRIED)).await.map(drop).expect("the run begins");
            let first = harness.take_job().await;
            harness.fail(&first.call, FailureKind::Transient).await;
            sleep(Duration::from_secs(5)).await;
            harness.faults.fail_next(fault);
            harness.clock.set(seconds);
            let waited = 5 + seconds_to_next(&mut harness).await;
            assert!((29..=32).contains(&waited), "{waited} seconds: {seconds} {fault:?}");
            harness.wait_for_state("r", RunState::Success).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_change_without_an_engine_does_not_extend_a_delay() {
    let mut harness = Harness::shared().await;
    harness.clock.set(DAY);
    sleep(Duration::from_secs(10)).await;
    harness.submit("r", &wired(RETRIED)).await.map(drop).expect("the run begins");
    let first = harness.take_job().await;
    harness.fail_job(&first, FailureKind::Transient).await;
    harness.wait_for_fact("r", "failed").await;
    // The new process has a new clock, a day behind.
    let mut harness = harness.new_process().await;
    let start = Instant::now();
    let next = timeout(Duration::from_secs(600), harness.answer_shared("r")).await;
    assert!(next.is_ok(), "no job comes: {:?}", harness.facts("r").await);
    // This includes the time to take over the shards.
    let waited = start.elapsed().as_secs();
    assert!((29..=60).contains(&waited), "{waited} seconds");
    harness.wait_for_state("r", RunState::Success).await;
}

#[tokio::test(start_paused = true)]
async fn a_schedule_recovers_from_a_clock_an_hour_ahead() {
    let mut harness = Harness::new().await;
    harness.submit("r", &wired(SCHEDULED)).await.map(drop).expect("the run begins");
    harness.answer_next().await;
    harness.clock.set(HOUR);
    for _ in 0..3 {
        assert!(seconds_to_next(&mut harness).await <= 4, "an hour ahead");
    }
    harness.clock.set(-HOUR);
    for _ in 0..3 {
        assert!(seconds_to_next(&mut harness).await <= 4, "and put right");
    }
    harness.clock.set(HOUR);
    assert!(seconds_to_next(&mut harness).await <= 4);
    let mut harness = harness.restart().await;
    for _ in 0..3 {
        assert!(seconds_to_next(&mut harness).await <= 4, "put right while no engine ran");
    }
}
