//! Tests real processes under faults: two engines on one PostgreSQL, three workers, a RabbitMQ, and a faulty network.
//!
//! While runs proceed, the test kills engines and workers with SIGKILL, restarts the broker and the database, and cuts or
//! silences connections. Every apply and rollback writes a line to its worker's log before it does anything: a ledger
//! outside waft. In the end the test compares the ledger with the logbook. `cargo xtask chaos` does this for longer.

mod deployment;
mod proxy;

use std::{
    env,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use flow::{RunId, RunState};
use logbook::{Filter, Logbook, Version};

use crate::simulation::check;
use deployment::Deployment;

/// The number of runs in `cargo xtask test`.
const RUNS: u64 = 40;

/// The time after the last fault within which every run must end. Leases expire and retries wait meanwhile, and each run
/// has a call of fourteen seconds, which needs a lease.
fn end(runs: u64) -> Duration {
    Duration::from_secs(240 + 3 * runs)
}

#[test]
fn ledger_and_logbook_agree_under_faults() {
    let number = |variable: &str| env::var(variable).ok().and_then(|text| text.parse().ok());
    let (runs, worlds) = (number("WAFT_CHAOS_RUNS").unwrap_or(RUNS), number("WAFT_CHAOS_WORLDS").unwrap_or(1));
    for world in 1..=worlds {
        println!("world {world} of {worlds}: {}", run_round(runs, world));
    }
}

/// Simulates one world to its end and returns a summary. Each world starts with another fault.
fn run_round(runs: u64, world: u64) -> String {
    let mut house = Deployment::build();
    let (submitted, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let submitting = house.submitter();
    // More runs need more faults, since submitting them is faster than running them.
    let least = deployment::FAULTS * (1 + runs / 100);
    let faults = thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..runs {
                submitting.submit(number);
                submitted.store(number + 1, Ordering::Relaxed);
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut faults = 0;
        while !done.load(Ordering::Relaxed) || faults < least || faults % deployment::FAULTS != 0 {
            house.inject_fault(faults, world);
            faults += 1;
            thread::sleep(Duration::from_millis(1_500));
        }
        faults
    });
    house.restore();
    let counts = verify(&mut house, runs);
    format!("{runs} runs through {faults} faults: {counts}")
}

/// Waits until every run has ended, then compares the ledger with the logbook.
fn verify(house: &mut Deployment, runs: u64) -> String {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let logbook = runtime.block_on(logbook::open(house.logbook())).expect("the logbook opens");
    until_ended(&runtime, &*logbook, house, runs);
    let ledger = house.ledger();
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    for number in 0..runs {
        let run: RunId = deployment::run_id(number).parse().expect("a lawful name");
        let records = runtime.block_on(logbook.read(&run, Version::NONE, usize::MAX));
        let records = records.unwrap_or_else(|error| panic!("no run is missing: {error}"));
        let state = check::run(&run, &records, &ledger).unwrap_or_else(|mistake| panic!("{mistake}"));
        *counts.entry(state.to_string()).or_default() += 1;
    }
    assert!(ledger.len() as u64 >= runs, "the ledger was written");
    format!("{counts:?}, {} lines in the ledger", ledger.len())
}

fn until_ended(runtime: &tokio::runtime::Runtime, logbook: &dyn Logbook, house: &Deployment, runs: u64) {
    let until = Instant::now() + end(runs);
    let mut quiet_since = Instant::now();
    let mut known = 0;
    loop {
        let filter = Filter { limit: usize::try_from(runs).expect("a small number"), ..Filter::default() };
        let list = runtime.block_on(logbook.list(&filter)).expect("the logbook can be read");
        let stuck = list.iter().filter(|summary| summary.standing.state == RunState::Failure);
        stuck.for_each(|summary| house.retry(summary.run.as_str()));
        let ended = |state: RunState| matches!(state, RunState::Success | RunState::RolledBack);
        let open: Vec<_> = list.iter().filter(|summary| !ended(summary.standing.state)).collect();
        let lines = house.ledger().len();
        if lines != known || !open.is_empty() {
            (known, quiet_since) = (lines, Instant::now());
        }
        // The late work of a lost worker is rolled back late, so wait until nothing has happened for longer than a lease
        // lasts.
        if list.len() as u64 == runs && quiet_since.elapsed() > Duration::from_secs(25) {
            return;
        }
        if Instant::now() > until {
            let waits = open.iter().map(|summary| runtime.block_on(waiting_reason(logbook, &summary.run)));
            let waits: Vec<String> = waits.collect();
            panic!("not all runs end; {} of {runs} are there; these do not:\n{}", list.len(), waits.join("\n"));
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// Reports what an unfinished run waits for, by its records.
async fn waiting_reason(logbook: &dyn Logbook, run: &RunId) -> String {
    let Ok(history) = logbook.load(run).await else { return format!("{run} cannot be read") };
    let (shard, version) = (history.standing.shard.clone(), history.version().get());
    let last = history.records.last().map(|record| format!("{} at {}", record.fact.name(), record.at.as_micros()));
    let Ok(machine) = history.into_machine() else { return format!("{run} cannot be replayed") };
    let leased: Vec<String> = machine.leased_calls().map(|(call, worker)| format!("{call} by {worker}")).collect();
    let out: Vec<String> = machine.outstanding_calls().map(|call| call.to_string()).collect();
    format!(
        "{run} is {} on shard {shard} at version {version}; last record: {}; out: {out:?}; under leases: {leased:?}; due: {:?}",
        machine.state(),
        last.unwrap_or_default(),
        machine.next_due().map(flow::Timestamp::as_micros),
    )
}
