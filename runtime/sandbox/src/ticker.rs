//! The clock by which running guests are looked at.
//!
//! Compiled code compares its engine's epoch with its own at every loop and call. One thread moves the epochs on
//! while calls run, and rests when none does: a thread and not a task, for a guest that holds the only runtime
//! thread must be stopped, too.

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

/// How often running guests are looked at: how late a stop may be, and how long a busy guest holds a thread.
const PERIOD: Duration = Duration::from_millis(5);

/// How many periods without a call the thread goes on before it rests: calls in a row need not wake it each time.
const IDLE_TICKS: u32 = 200;

/// Moves the epochs of its engines on while calls run.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// Calls that run now.
    running: AtomicUsize,
    idle: AtomicBool,
    ended: AtomicBool,
    engines: Mutex<Vec<Engine>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shared").field("running", &self.running).field("resting", &self.idle).finish()
    }
}

/// A call runs as long as this lives.
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

    /// Moves this engine's epoch on, too.
    pub(crate) fn add(&self, engine: Engine) {
        self.shared.engines.lock().unwrap_or_else(PoisonError::into_inner).push(engine);
    }

    /// A call begins.
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

    /// Waits for a call. One that begins either finds us resting and wakes us, or is seen by us here: of the two
    /// stores, each looks at the other's after its own.
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
