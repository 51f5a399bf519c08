//! Runs a guest in a fresh store until it ends, reaches a limit or is stopped.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use flow::{Failure, FailureKind, Values};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use wasmtime::{Engine, Store, StoreContextMut, UpdateDeadline};

use crate::{
    backtrace,
    call::{Call, CallReport, Completion, Observer, Stats},
    classify, command,
    compiled::{Compiled, Place},
    cpu_time,
    engines::EngineKind,
    guest,
    host_state::{CallOrigin, CapturedOutput, Denied, Files, HostState, MAX_HANDLES, Process, Seed},
    loaded::{LinkedModule, Loaded},
    mappings,
    sandbox::Shared,
    ticker::Ticker,
    transfer,
    waiting::{self, Code, Held, Lending, WaitingCalls},
};

/// The maximum time of a call for which it waits for slots while its timeout stands still. After that its timeout goes on, so that
/// it ends before its engine counts it as lost.
pub const MAX_SLOT_WAIT: Duration = Duration::from_secs(10 * 60);

/// Stops a guest from outside. Clones watch the same guest.
#[derive(Debug, Clone)]
pub(crate) struct Watchdog {
    started: Instant,
    timeout: Duration,
    /// The interrupt of one call, and that of all calls.
    interrupts: [CancellationToken; 2],
    pauses: Arc<Pauses>,
    yielding: Yielding,
    /// Whether this process may start threads beside the one of the guest.
    has_threads: bool,
}

/// The time for which a call has waited for a slot. Up to [`MAX_SLOT_WAIT`], it does not count for the timeout.
#[derive(Debug, Default)]
struct Pauses {
    state: Mutex<PauseState>,
    /// Notified when a pause ends.
    ended: Notify,
}

#[derive(Debug, Default)]
struct PauseState {
    /// The length of all pauses that have ended.
    ended: Duration,
    /// When the pause began that has not ended.
    since: Option<Instant>,
}

/// The timeout of a call stands still until this is dropped.
pub(crate) struct Pause<'a>(&'a Pauses);

/// Whether a guest that computes, or whose outputs are parsed, has only yielded to other tasks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Yielding(Arc<AtomicBool>);

/// Why a guest was stopped. It is passed through the guest as an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StopReason {
    #[error("it exceeded its timeout")]
    Timeout,
    #[error("it was interrupted")]
    Interrupt,
}

impl Watchdog {
    /// Starts the timeout now.
    pub(crate) fn start(timeout: Duration, interrupts: [CancellationToken; 2]) -> Self {
        let (pauses, yielding) = (Arc::default(), Yielding::default());
        Self { started: Instant::now(), timeout, interrupts, pauses, yielding, has_threads: true }
    }

    /// In a process that has one thread, and that its parent ends.
    pub(crate) fn without_threads(self) -> Self {
        Self { has_threads: false, ..self }
    }

    pub(crate) fn has_threads(&self) -> bool {
        self.has_threads
    }

    /// The time since the start that counts for the timeout.
    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed_and_credit().0
    }

    /// Also how long the timeout still stands still if it does now.
    fn elapsed_and_credit(&self) -> (Duration, Duration) {
        let PauseState { ended, since } = *self.pauses.lock();
        let now = Instant::now();
        let paused = ended + since.map_or(Duration::ZERO, |since| now - since);
        let credit = since.map_or(Duration::ZERO, |_| MAX_SLOT_WAIT.saturating_sub(paused));
        ((now - self.started).saturating_sub(paused.min(MAX_SLOT_WAIT)), credit)
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Lets the timeout stand still, while the call waits for a slot. One pause at a time.
    pub(crate) fn pause(&self) -> Pause<'_> {
        self.pauses.lock().since = Some(Instant::now());
        Pause(&self.pauses)
    }

    /// Whether the guest has yielded.
    pub(crate) fn yielding(&self) -> &Yielding {
        &self.yielding
    }

    /// Checks at every tick while the guest computes: the runtime's timers may then be late.
    fn check(&self) -> Result<(), StopReason> {
        if self.interrupts.iter().any(CancellationToken::is_cancelled) {
            return Err(StopReason::Interrupt);
        }
        if self.elapsed() >= self.timeout { Err(StopReason::Timeout) } else { Ok(()) }
    }

    /// Runs work until it ends or is stopped. This stops a waiting guest; [`Watchdog::check`] stops a computing guest.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
        let [one, all] = &self.interrupts;
        tokio::select! {
            // Biased, so that a finished guest is not stopped any more. The other branches drop the guest and its state,
            // which stops it.
            biased;
            result = work => result,
            () = one.cancelled() => Err(StopReason::Interrupt.into()),
            () = all.cancelled() => Err(StopReason::Interrupt.into()),
            () = self.expired() => Err(StopReason::Timeout.into()),
        }
    }

    /// Waits for the timeout.
    async fn expired(&self) {
        loop {
            // Before the check, so that it misses no end of a pause.
            let pause_ends = self.pauses.ended.notified();
            let (elapsed, credit) = self.elapsed_and_credit();
            let left = self.timeout.saturating_sub(elapsed).saturating_add(credit);
            if left.is_zero() {
                return;
            }
            // Both only wait. A pause that begins meanwhile is seen at the end.
            let _ = tokio::time::timeout(left, pause_ends).await;
        }
    }
}

impl Pauses {
    fn lock(&self) -> MutexGuard<'_, PauseState> {
        // Nothing panics while it is changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if let Some(since) = state.since.take() {
            state.ended += since.elapsed();
        }
        drop(state);
        self.0.ended.notify_waiters();
    }
}

impl Yielding {
    pub(crate) fn is_set(&self) -> bool {
        // The guest and its call run in one task.
        self.0.load(Ordering::Relaxed)
    }

    /// Yields to other tasks. Tokio's own yield polls timers and sockets before it returns, so that computing guests do not block
    /// the runtime's timers and sockets.
    async fn yield_now(self) {
        self.until(tokio::task::yield_now()).await;
    }

    /// Is set until other tasks, or other threads, have run.
    pub(crate) async fn until<T>(self, others_have_run: impl Future<Output = T>) -> T {
        self.0.store(true, Ordering::Relaxed);
        let result = others_have_run.await;
        self.0.store(false, Ordering::Relaxed);
        result
    }
}

/// A store for one guest, with all limits enabled.
pub(crate) fn store(engine: &Engine, state: HostState) -> Store<HostState> {
    let limits = *state.meter.limits();
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.meter);
    transfer::bound(&mut store, &limits);
    store.set_max_component_handles(MAX_HANDLES);
    store.epoch_deadline_callback(tick);
    store.set_epoch_deadline(1);
    store
}

/// Checks a computing guest, and yields to other tasks.
fn tick(context: StoreContextMut<'_, HostState>) -> wasmtime::Result<UpdateDeadline> {
    let watch = &context.data().watch;
    watch.check()?;
    Ok(UpdateDeadline::YieldCustom(1, Box::pin(watch.yielding.clone().yield_now())))
}

/// Calls a module, here or in a child.
pub(crate) async fn call(shared: &Shared, compiled: &Compiled, call: &Call, observer: Arc<dyn Observer>) -> CallReport {
    // Whoever sent the call chose its limits.
    if let Some(exceeded) = call.limits.exceeding(shared.max_limits()).into_iter().next() {
        let failure = Failure::new(FailureKind::Module, format!("it is not called: {exceeded}"));
        return CallReport::without_guest(Completion::Failed(failure));
    }
    let interrupts = [call.interrupt.clone(), shared.interrupts()];
    // The timeout of the call starts when it has a slot.
    let slot_watch = Watchdog::start(Duration::MAX, interrupts.clone());
    let slot = slot_watch.run(async { Ok(shared.slots().acquire().await?) }).await;
    let _slot = match slot {
        Ok(slot) => slot,
        Err(error) => return CallReport::without_guest(classify::without_guest(&error, &slot_watch)),
    };
    let loaded = match compiled.place() {
        Place::Here(loaded) => loaded,
        Place::Children(code) => return code.call(call, interrupts, observer).await,
    };
    let watch = Watchdog::start(call.limits.timeout, interrupts);
    let kind = EngineKind::of(&call.limits, loaded.allocation());
    match watch.run(ready(loaded, kind)).await {
        Ok(_) => run((kind, loaded.as_ref()), (shared.ticker(), shared.waiting()), watch, call, observer).await,
        Err(error) => CallReport::without_guest(classify::without_guest(&error, &watch)),
    }
}

/// Calls a module that is linked for an engine, in this process.
pub(crate) async fn run(
    (kind, loaded): (EngineKind, &Loaded),
    (ticker, waiting): (&Ticker, &WaitingCalls),
    watch: Watchdog,
    call: &Call,
    observer: Arc<dyn Observer>,
) -> CallReport {
    let module = loaded.ready(kind).expect("the caller has linked it");
    let process = match module {
        LinkedModule::Tasks { .. } => Process::default(),
        LinkedModule::Command { .. } => command::process(call),
    };
    let Call { run, task, firing, attempt, .. } = call;
    let seed = Seed::Attempt { run, task, firing: *firing, attempt: *attempt };
    let origin = CallOrigin { time: call.job_time, seed };
    let files = match watch.run(async { Ok(Files::open(&call.outside.directories, Denied::default()).await) }).await {
        Ok(Ok(files)) => files,
        Ok(Err(error)) => {
            let failure = Failure::new(FailureKind::Transient, error.to_string());
            return CallReport::without_guest(Completion::Failed(failure));
        }
        Err(stop) => return CallReport::without_guest(classify::without_guest(&stop, &watch)),
    };
    let state = HostState::new(call.limits, watch.clone(), origin, process, &call.outside, files, Some(observer));
    let _running = ticker.begin();
    let mappings = mappings::of_call(kind.allocation(), &call.limits);
    let inputs: u64 = call.inputs.values().map(|value| value.size() as u64).sum();
    // The engine may have a larger stack than the call asks for.
    let fixed = inputs.saturating_add(kind.stack() as u64);
    let (guest, streams, http) = (state.meter.held(), state.streams.clone(), state.http_memory());
    let held = move || {
        let changing = [guest.load(Ordering::Relaxed), streams.held(), http.held()];
        let memory = changing.into_iter().fold(fixed, u64::saturating_add);
        // The call has the module, so no other one has its address.
        Held { memory, code: Code { module: std::ptr::from_ref(loaded).addr(), bytes: loaded.size() as u64 } }
    };
    let mut store = store(module.component().engine(), state);
    let lending = Lending { slot: &*call.slot, waiting, watch: &watch, held: &held, mappings };
    let guest = waiting::in_slot(lending, act(module, &mut store, call));
    let (result, cpu) = cpu_time::measured(watch.run(guest)).await;
    let frames = result.as_ref().err().map(backtrace::frames).unwrap_or_default();
    let completion = classify::classify(result, store.data(), kind.stack());
    CallReport { backtrace: frames, ..CallReport::of(completion, store.into_data(), cpu) }
}

async fn act(
    ready: &LinkedModule,
    store: &mut Store<HostState>,
    call: &Call,
) -> wasmtime::Result<Result<Values, Failure>> {
    match ready {
        LinkedModule::Tasks { pre, .. } => {
            let task = pre.instantiate_async(&mut *store).await?;
            guest::call(&task, store, call).await
        }
        LinkedModule::Command { pre, .. } => {
            let program = pre.instantiate_async(&mut *store).await?;
            command::call(&program, store, call).await
        }
    }
}

/// The module linked for an engine; linked now if needed.
pub(crate) async fn ready(loaded: &Arc<Loaded>, kind: EngineKind) -> wasmtime::Result<&LinkedModule> {
    if let Some(ready) = loaded.ready(kind) {
        return Ok(ready);
    }
    let preparing = loaded.clone();
    tokio::task::spawn_blocking(move || preparing.prepare(kind)).await??;
    Ok(loaded.ready(kind).expect("it was just prepared"))
}

impl CallReport {
    fn of(completion: Completion, state: HostState, cpu: Duration) -> Self {
        let stats = Stats { duration: state.watch.elapsed(), cpu, memory: state.meter.memory() };
        let CapturedOutput { log, stdout, stderr } = state.streams.take();
        Self { completion, log, stdout: stdout.into(), stderr: stderr.into(), stats, backtrace: Vec::new() }
    }

    /// The report of a call that never reached the guest.
    pub(crate) fn without_guest(completion: Completion) -> Self {
        Self {
            completion,
            log: Vec::new(),
            stdout: bytes::Bytes::new(),
            stderr: bytes::Bytes::new(),
            stats: Stats::default(),
            backtrace: Vec::new(),
        }
    }
}
