//! The number of records of a persistent run is bounded.

use std::{sync::Arc, time::Duration};

use flow::{Flow, RunId, TaskResult, Values};
use logbook::{Replay, Version};
use machine::Machine;
use protocol::RunCommand;

use crate::harness::{Harness, linear, wired};

/// Long enough for an engine to know the published version.
const SETTLED: Duration = Duration::from_secs(10);

/// Batches of firings; each firing adds some records.
const TIMES: u64 = 20;
const AT_A_TIME: u64 = 250;

fn persistent() -> Arc<Flow> {
    wired(
        "name = \"l\"\npersistent = true\n[[task]]\nname = \"listener\"\nuse = \"g\"\n\
         [[listen]]\nflow = \"f\"\ntask = \"a\"\nto = \"listener\"\n[modules]\ng = \"g.wasm\"\n",
    )
}

#[tokio::test(start_paused = true)]
async fn a_long_lived_run_keeps_a_bounded_number_of_records() {
    let mut harness = Harness::shared().await;
    let run: RunId = "l".parse().unwrap();
    tokio::time::sleep(SETTLED).await;
    harness.faults.copy("l");
    harness.submit("l", &persistent()).await.expect("the run begins");
    for _ in 0..TIMES {
        for _ in 0..AT_A_TIME {
            let task = "listener".parse().unwrap();
            let command = RunCommand::Notify { task, answer: TaskResult::Succeeded(Values::new()), key: None };
            harness.engine.command_local(&run, command).await.expect("it fires");
            let job = harness.take_job().await;
            harness.signal_job(&job).await;
        }
        tokio::time::sleep(SETTLED).await;
    }
    let all = harness.faults.captured();
    let whole = Machine::replay(run.clone(), &all).unwrap();
    assert_eq!(whole.firing_count(), TIMES * AT_A_TIME);
    let again = harness.new_process().await;
    tokio::time::sleep(SETTLED).await;
    let history = again.logbook.load(&run).await.unwrap();
    assert_eq!(history.version().get(), all.len() as u64);
    assert!(history.into_machine().unwrap() == whole, "it loads as it was");
    let beginning = again.logbook.trim_point(&run).await.unwrap().expect("its oldest records were deleted");
    let stored = again.logbook.read(&run, beginning.version, usize::MAX >> 1).await.unwrap();
    assert!((1_000..4_000).contains(&stored.len()), "{} of {} are kept", stored.len(), all.len());
    let mut replay = Replay::new(run.clone(), again.logbook.clone());
    loop {
        let records = replay.read().await.unwrap().records;
        if records.is_empty() {
            break;
        }
        records.iter().for_each(|record| drop(replay.apply(record).unwrap()));
    }
    assert!(replay.machine() == Some(&whole), "it is replayed as it was");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fires_once_keeps_all_its_records() {
    let mut harness = Harness::shared().await;
    tokio::time::sleep(SETTLED).await;
    let names: Vec<String> = (0..1_200).map(|number| format!("t{number}")).collect();
    let tasks: Vec<&str> = names.iter().map(String::as_str).collect();
    harness.submit("r", &linear(&tasks)).await.expect("the run begins");
    for _ in &tasks {
        let job = harness.take_job().await;
        harness.signal_job(&job).await;
    }
    tokio::time::sleep(SETTLED).await;
    let run: RunId = "r".parse().unwrap();
    assert_eq!(begins_at(&harness, &run).await, None);
    let all = harness.logbook.read(&run, Version::NONE, usize::MAX >> 1).await.unwrap();
    assert!(all.len() > 2_400, "{}", all.len());
}

async fn begins_at(harness: &Harness, run: &RunId) -> Option<Version> {
    harness.logbook.trim_point(run).await.unwrap().map(|beginning| beginning.version)
}
