//! Runs a guest in a fresh store until it ends, reaches a limit or is stopped.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use flow::{Failure, FailureKind, Values};
use tokio_util::sync::CancellationToken;
use wasmtime::{Engine, Store, StoreContextMut, UpdateDeadline};

use crate::{
    call::{Call, CallReport, Completion, Observer, Stats},
    classify, command,
    compiled::{Compiled, Place},
    cpu_time,
    engines::EngineKind,
    guest,
    host_state::{CallOrigin, CapturedOutput, Denied, Files, HostState, MAX_HANDLES, Process, Seed},
    loaded::{LinkedModule, Loaded},
    sandbox::Shared,
    ticker::Ticker,
};

/// The host memory allowance for a guest beyond twice the output limit, in bytes: lists of many small values take more
/// memory than the values.
const HOST_ALLOCATION_SLACK: usize = 1 << 20;

/// Stops a guest from outside.
#[derive(Debug, Clone)]
pub(crate) struct Watchdog {
    started: Instant,
    timeout: Duration,
    /// The interrupt of one call, and that of all calls.
    interrupts: [CancellationToken; 2],
}

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
        Self { started: Instant::now(), timeout, interrupts }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
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
            () = tokio::time::sleep(self.timeout.saturating_sub(self.elapsed())) => Err(StopReason::Timeout.into()),
        }
    }
}

/// A store for one guest, with all limits enabled.
pub(crate) fn store(engine: &Engine, state: HostState) -> Store<HostState> {
    let output = usize::try_from(state.meter.limits().output).unwrap_or(usize::MAX);
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.meter);
    store.set_hostcall_fuel(output.saturating_mul(2).saturating_add(HOST_ALLOCATION_SLACK));
    store.set_max_component_handles(MAX_HANDLES);
    store.epoch_deadline_callback(tick);
    store.set_epoch_deadline(1);
    store
}

/// Checks a computing guest, and yields to other tasks.
fn tick(context: StoreContextMut<'_, HostState>) -> wasmtime::Result<UpdateDeadline> {
    context.data().watch.check()?;
    // Tokio's own yield polls timers and sockets before it returns, so that computing guests do not block the runtime's
    // timers and sockets.
    Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
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
        Ok(module) => run((kind, module), shared.ticker(), watch, call, observer).await,
        Err(error) => CallReport::without_guest(classify::without_guest(&error, &watch)),
    }
}

/// Calls a module that is linked for an engine, in this process.
pub(crate) async fn run(
    (kind, module): (EngineKind, &LinkedModule),
    ticker: &Ticker,
    watch: Watchdog,
    call: &Call,
    observer: Arc<dyn Observer>,
) -> CallReport {
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
    let mut store = store(module.component().engine(), state);
    let (result, cpu) = cpu_time::measured(watch.run(act(module, &mut store, call))).await;
    let backtrace = result.as_ref().err().map(classify::frames).unwrap_or_default();
    let completion = classify::classify(result, store.data(), kind.stack());
    CallReport { backtrace, ..CallReport::of(completion, store.into_data(), cpu) }
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
