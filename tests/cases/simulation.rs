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
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// The number of simulations in `cargo xtask test`; `cargo xtask simulate` sets its own.
const SEEDS: u64 = 1_000;

/// How often the seeds that run are printed: the last print names one that never ends, before the test is killed.
const PRINT_INTERVAL: Duration = Duration::from_secs(60);

#[test]
fn records_and_effects_stay_consistent_under_faults() {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse().ok());
    let first: u64 = number("WAFT_SIMULATE_FIRST").unwrap_or(0);
    let seeds: u64 = number("WAFT_SIMULATE_SEEDS").unwrap_or(SEEDS);
    let threads = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let running = Running::default();
    let (ended_tx, ended_rx) = mpsc::channel::<()>();
    let failed: Vec<(u64, String)> = thread::scope(|scope| {
        let running = &running;
        scope.spawn(move || running.print_until_ended(&ended_rx));
        let spawn = |thread| scope.spawn(move || run_every(first + thread, first + seeds, threads, running));
        let threads: Vec<_> = (0..threads).map(spawn).collect();
        let failed = threads.into_iter().filter_map(|thread| thread.join().expect("a thread of simulations ends"));
        let failed = failed.collect();
        drop(ended_tx);
        failed
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
fn run_every(first: u64, end: u64, step: u64, running: &Running) -> Option<(u64, String)> {
    let mut seed = first;
    while seed < end {
        running.begin(first, seed);
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

/// The simulation that each thread runs, and when it began.
#[derive(Default)]
struct Running {
    by_thread: Mutex<BTreeMap<u64, (u64, Instant)>>,
}

impl Running {
    fn begin(&self, thread: u64, seed: u64) {
        self.by_thread.lock().expect("no thread panics with it").insert(thread, (seed, Instant::now()));
    }

    fn print_until_ended(&self, ended: &mpsc::Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(PRINT_INTERVAL) {
            for (seed, since) in self.by_thread.lock().expect("no thread panics with it").values() {
                eprintln!("simulation {seed} has run for {:.1} s", since.elapsed().as_secs_f64());
            }
        }
    }
}
