//! Tests real processes under faults: two engines on one PostgreSQL, three workers, a RabbitMQ, and a faulty network.
//!
//! While runs proceed, the test kills engines and workers with SIGKILL, restarts the broker and the database, and cuts or
//! silences connections. Every apply and rollback first writes a line to its worker's log: a ledger
//! outside waft. In the end the test compares the ledger with the logbook. `cargo xtask chaos` does this for longer.

mod deployment;
mod proxy;

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use flow::{RunId, RunState};
use logbook::{Filter, Logbook, Version};

use crate::simulation::check;
use deployment::Deployment;

/// The number of runs in `cargo xtask test`.
const RUNS: u64 = 40;

/// The time between two faults.
const PAUSE: Duration = Duration::from_millis(1_500);

/// The further time that a run may take to be submitted before the next fault.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The time after the last fault within which every run must end. Leases expire and retries wait meanwhile, and each run
/// has a call of fourteen seconds, which needs a lease.
fn end(runs: u64) -> Duration {
    Duration::from_secs(240 + 3 * runs)
}

#[test]
fn ledger_and_logbook_agree_under_faults() {
    let number = |variable: &str| env::var(variable).ok().and_then(|text| text.parse().ok());
    let (runs, rounds) = (number("WAFT_CHAOS_RUNS").unwrap_or(RUNS), number("WAFT_CHAOS_WORLDS").unwrap_or(1));
    for round in 1..=rounds {
        println!("round {round} of {rounds}: {}", run_round(runs, round));
    }
}

/// Runs one round to its end and returns a summary. Each round starts with another fault.
fn run_round(runs: u64, round: u64) -> String {
    let mut deployment = Deployment::build();
    let submitted = AtomicU64::new(0);
    let submitter = deployment.submitter();
    // More runs need more faults, since submitting them is faster than running them.
    let min_faults = deployment::FAULTS * (1 + runs / 100);
    let faults = thread::scope(|scope| {
        let submitting = scope.spawn(|| {
            for number in 0..runs {
                submitter.submit(number);
                submitted.store(number + 1, Ordering::Relaxed);
            }
        });
        // RabbitMQ 3.10 may leave a queue without a leader for ever if it is killed while it declares the queue: `waft doctor` finds that, and
        // no engine can mend it. A line of a guest shows that the queues are there, and some seconds later they are on the disk.
        let until = Instant::now() + end(runs);
        while deployment.ledger().is_empty() && !submitting.is_finished() && Instant::now() < until {
            thread::sleep(PAUSE);
        }
        thread::sleep(3 * PAUSE);
        let mut faults = 0;
        while !submitting.is_finished() || faults < min_faults || faults % deployment::FAULTS != 0 {
            let before = submitted.load(Ordering::Relaxed);
            deployment.inject_fault(faults, round);
            faults += 1;
            thread::sleep(PAUSE);
            // On a busy machine, a part may take longer to start than until the next fault.
            let until = Instant::now() + MAX_PAUSE;
            while submitted.load(Ordering::Relaxed) == before && !submitting.is_finished() && Instant::now() < until {
                thread::sleep(Duration::from_millis(50));
            }
        }
        faults
    });
    deployment.restore();
    let counts = verify(&mut deployment, runs);
    format!("{runs} runs through {faults} faults: {counts}")
}

/// Waits until every run has ended, then compares the ledger with the logbook.
fn verify(deployment: &mut Deployment, runs: u64) -> String {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let logbook = runtime.block_on(logbook::open(deployment.logbook())).expect("the logbook opens");
    until_ended(&runtime, &*logbook, deployment, runs);
    let ledger = deployment.ledger();
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    for number in 0..runs {
        let run: RunId = deployment::run_id(number).parse().expect("a valid name");
        let records = runtime.block_on(logbook.read(&run, Version::NONE, usize::MAX));
        let records = records.unwrap_or_else(|error| panic!("no run is missing: {error}"));
        let state = check::run(&run, &records, &ledger).unwrap_or_else(|error| panic!("{error}"));
        *counts.entry(state.to_string()).or_default() += 1;
    }
    assert!(ledger.len() as u64 >= runs, "the ledger was written");
    format!("{counts:?}, {} lines in the ledger", ledger.len())
}

fn until_ended(runtime: &tokio::runtime::Runtime, logbook: &dyn Logbook, deployment: &Deployment, runs: u64) {
    let until = Instant::now() + end(runs);
    let mut unchanged_since = Instant::now();
    let mut known_lines = 0;
    loop {
        let filter = Filter { limit: usize::try_from(runs).expect("a small number"), ..Filter::default() };
        let list = runtime.block_on(logbook.list(&filter)).expect("the logbook can be read");
        let stuck = list.iter().filter(|summary| summary.info.state == RunState::Failure);
        stuck.for_each(|summary| deployment.retry(summary.run.as_str()));
        let ended = |state: RunState| matches!(state, RunState::Success | RunState::RolledBack);
        let open: Vec<_> = list.iter().filter(|summary| !ended(summary.info.state)).collect();
        let lines = deployment.ledger().len();
        if lines != known_lines || !open.is_empty() {
            (known_lines, unchanged_since) = (lines, Instant::now());
        }
        // The late work of a lost worker is rolled back late, so wait until the ledger has not changed for longer than a
        // lease lasts.
        if list.len() as u64 == runs && unchanged_since.elapsed() > Duration::from_secs(25) {
            return;
        }
        if Instant::now() > until {
            let reasons = open.iter().map(|summary| runtime.block_on(waiting_reason(logbook, &summary.run)));
            let reasons: Vec<String> = reasons.collect();
            panic!("not all runs end; {} of {runs} are listed; these do not end:\n{}", list.len(), reasons.join("\n"));
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// Reports what an unfinished run waits for, by its records.
async fn waiting_reason(logbook: &dyn Logbook, run: &RunId) -> String {
    let Ok(history) = logbook.load(run).await else { return format!("{run} cannot be read") };
    let (shard, version) = (history.info.shard.clone(), history.version().get());
    let last = history.records.last().map(|record| format!("{} at {}", record.fact.name(), record.at.as_micros()));
    let Ok(machine) = history.into_machine() else { return format!("{run} cannot be replayed") };
    let leased: Vec<String> = machine.leased_calls().map(|(call, worker)| format!("{call} by {worker}")).collect();
    let outstanding: Vec<String> = machine.outstanding_calls().map(|call| call.to_string()).collect();
    format!(
        "{run} is {} on shard {shard} at version {version}; last record: {}; outstanding: {outstanding:?}; under leases: {leased:?}; due: {:?}",
        machine.state(),
        last.unwrap_or_default(),
        machine.next_due().map(flow::Timestamp::as_micros),
    )
}
