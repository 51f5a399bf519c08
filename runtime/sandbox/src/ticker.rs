//! The ticker: makes running guests yield for regular checks.
//!
//! Compiled code compares its engine's epoch with its own deadline at every loop and call. One thread advances the epochs
//! while calls run, and sleeps otherwise. It is a thread and not a task, since a guest that blocks the only runtime thread
//! must be stopped too.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use wasmtime::Engine;

/// The interval of checks: the maximum delay of a stop, and how long a busy guest may block a thread. One instruction or one call of the
/// host may take longer: what these may do is bounded, and `docs/security.md` says how long the longest take.
const PERIOD: Duration = Duration::from_millis(5);

/// The number of idle periods before the thread sleeps, so that not each call has to wake it.
const IDLE_TICKS: u32 = 200;

/// Advances the epochs of its engines while calls run.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// The number of running calls.
    running: AtomicUsize,
    idle: AtomicBool,
    ended: AtomicBool,
    engines: Mutex<Vec<Engine>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shared").field("running", &self.running).field("idle", &self.idle).finish()
    }
}

/// Marks a running call until dropped.
#[derive(Debug)]
pub(crate) struct ActiveCall<'a>(&'a Shared);

impl Ticker {
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name("waft-ticker".into()).spawn({
            let shared = shared.clone();
            move || shared.tick()
        })?;
        Ok(Self { shared, thread })
    }

    /// Adds an engine whose epoch is advanced.
    pub(crate) fn add(&self, engine: Engine) {
        self.shared.engines.lock().unwrap_or_else(PoisonError::into_inner).push(engine);
    }

    /// Marks the start of a call.
    pub(crate) fn begin(&self) -> ActiveCall<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.idle.swap(false, Ordering::SeqCst) {
            self.thread.thread().unpark();
        }
        ActiveCall(&self.shared)
    }
}

impl Drop for ActiveCall<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
    }
}

impl Shared {
    fn tick(&self) {
        let mut idle = 0;
        while !self.ended.load(Ordering::SeqCst) {
            idle = if self.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
            if idle > IDLE_TICKS {
                self.wait_for_call();
                idle = 0;
            }
            thread::sleep(PERIOD);
            for engine in &*self.engines.lock().unwrap_or_else(PoisonError::into_inner) {
                engine.increment_epoch();
            }
        }
    }

    /// Waits for a call. A call that starts now either sees the idle flag and wakes this thread, or this thread sees the
    /// call: each side stores its own flag before it reads the other's.
    fn wait_for_call(&self) {
        self.idle.store(true, Ordering::SeqCst);
        while self.idle.load(Ordering::SeqCst)
            && self.running.load(Ordering::SeqCst) == 0
            && !self.ended.load(Ordering::SeqCst)
        {
            thread::park();
        }
        self.idle.store(false, Ordering::SeqCst);
    }
}
