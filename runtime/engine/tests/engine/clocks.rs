//! Setting the clock neither delays nor hastens anything.

use std::time::Duration;

use flow::{FailureKind, RunState};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Harness, wired};

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

/// A task that is retried after half a minute.
const RETRIED: &str = "name = \"g\"\n[modules]\ng = \"g.wasm\"\n[[task]]\nname = \"a\"\nuse = \"g\"\n\
                       retry = { attempts = 2, initial = \"30s\", jitter = false }\n";

/// A task that fires every two seconds.
const SCHEDULED: &str = "name = \"g\"\npersistent = true\n[modules]\ng = \"g.wasm\"\n[[task]]\nname = \"a\"\nuse = \"g\"\n\
                         [[schedule]]\ncron = \"*/2 * * * * *\"\nto = \"a\"\n";

/// Returns the number of seconds until the next job.
async fn seconds_to_next(world: &mut Harness) -> u64 {
    let start = Instant::now();
    let next = timeout(Duration::from_secs(600), world.answer_next()).await;
    assert!(next.is_ok(), "no job comes: {:?}", world.facts("r").await);
    start.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn setting_the_clock_does_not_change_a_retry_delay() {
    for sets in [&[HOUR, -HOUR][..], &[-DAY], &[DAY], &[-3]] {
        let mut world = Harness::new().await;
        world.submit("r", &wired(RETRIED)).await.map(drop).expect("the run begins");
        let first = world.take_job().await;
        world.fail(&first.call, FailureKind::Transient).await;
        for seconds in sets {
            sleep(Duration::from_secs(5)).await;
            world.clock.set(*seconds);
        }
        let before = 5 * sets.len() as u64;
        let waited = before + seconds_to_next(&mut world).await;
        assert!((29..=31).contains(&waited), "{waited} seconds: {sets:?}");
        world.wait_for_state("r", RunState::Success).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_change_without_an_engine_does_not_extend_a_delay() {
    let mut world = Harness::shared().await;
    world.clock.set(DAY);
    sleep(Duration::from_secs(10)).await;
    world.submit("r", &wired(RETRIED)).await.map(drop).expect("the run begins");
    let first = world.take_job().await;
    world.fail_job(&first, FailureKind::Transient).await;
    world.wait_for_fact("r", "failed").await;
    // The new process has a new clock, a day behind.
    let mut world = world.new_process().await;
    let start = Instant::now();
    let next = timeout(Duration::from_secs(600), world.answer_shared("r")).await;
    assert!(next.is_ok(), "no job comes: {:?}", world.facts("r").await);
    // This includes the time to take over the shards.
    let waited = start.elapsed().as_secs();
    assert!((29..=60).contains(&waited), "{waited} seconds");
    world.wait_for_state("r", RunState::Success).await;
}

#[tokio::test(start_paused = true)]
async fn a_schedule_recovers_from_a_clock_an_hour_ahead() {
    let mut world = Harness::new().await;
    world.submit("r", &wired(SCHEDULED)).await.map(drop).expect("the run begins");
    world.answer_next().await;
    world.clock.set(HOUR);
    for _ in 0..3 {
        assert!(seconds_to_next(&mut world).await <= 4, "an hour ahead");
    }
    world.clock.set(-HOUR);
    for _ in 0..3 {
        assert!(seconds_to_next(&mut world).await <= 4, "and put right");
    }
    world.clock.set(HOUR);
    assert!(seconds_to_next(&mut world).await <= 4);
    let mut world = world.restart().await;
    for _ in 0..3 {
        assert!(seconds_to_next(&mut world).await <= 4, "put right while no engine ran");
    }
}
