//! Each seed is one simulation: real engines, workers and machines over an in-memory broker and logbook, in virtual time.
//!
//! In the fault phase, messages are lost, duplicated, delayed and so reordered; appends fail before or after they are
//! written; engines and workers crash between any two steps. Then the faults stop, and every run must end. A ledger that no
//! crash affects records the actual effects of guests. A failing seed is printed, and replays exactly: `WAFT_SIMULATE_FIRST=SEED
//! WAFT_SIMULATE_SEEDS=1 cargo xtask simulate`.

pub(crate) mod check;
mod crash_points;
mod rng;
mod flows;
pub(crate) mod guests;
mod faulty_broker;
mod lost_calls;
mod environment;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

/// The number of simulations in `cargo xtask test`; `cargo xtask simulate` sets its own.
const SEEDS: u64 = 1_000;

#[test]
fn records_and_effects_stay_consistent_under_faults() {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse().ok());
    let first: u64 = number("WAFT_SIMULATE_FIRST").unwrap_or(0);
    let seeds: u64 = number("WAFT_SIMULATE_SEEDS").unwrap_or(SEEDS);
    let threads = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let failed: Vec<(u64, String)> = thread::scope(|scope| {
        let spawn = |thread| scope.spawn(move || run_every(first + thread, first + seeds, threads));
        let threads: Vec<_> = (0..threads).map(spawn).collect();
        threads.into_iter().filter_map(|thread| thread.join().expect("a thread of simulations ends")).collect()
    });
    if let Some((seed, reason)) = failed.into_iter().min() {
        panic!("simulation {seed} failed: {reason}\nreplay it: WAFT_SIMULATE_FIRST={seed} WAFT_SIMULATE_SEEDS=1");
    }
}

#[test]
fn a_seed_reproduces_its_simulation() {
    for seed in [1, 2, 3] {
        assert_eq!(environment::run_simulation(seed), environment::run_simulation(seed), "seed {seed}");
    }
}

/// Runs every `step`-th simulation; returns the first that fails, with its reason.
fn run_every(first: u64, end: u64, step: u64) -> Option<(u64, String)> {
    let mut seed = first;
    while seed < end {
        let result = catch_unwind(AssertUnwindSafe(|| environment::run_simulation(seed)));
        match result {
            Ok(Ok(_)) => {}
            Ok(Err(reason)) => return Some((seed, reason)),
            Err(_) => return Some((seed, "it panicked".into())),
        }
        seed += step;
    }
    None
}
