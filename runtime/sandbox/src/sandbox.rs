//! The sandbox: the state that all calls of a process share.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use flow::{Digest, Limits, ModuleContent, Namespace};
use futures::{FutureExt, future::BoxFuture};
use metrics::Cache;
use tokio::sync::Semaphore;
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::{
    Compiler, Isolation, Module, ModuleError,
    call::{Action, Call, CallReport, Observer},
    compiled::{CompileError, Compiled},
    compiler::MAX_WAITING,
    confined::Program,
    describe::{self, DescribeError},
    disk_cache::{CacheKey, Compatibility, DiskCache},
    engines::{Backtraces, Engines},
    isolation::{IsolatedCode, Pool},
    mappings,
    memory_cache::MemoryCache,
    permits::Permits,
    run,
    single_flight::SingleFlight,
    ticker::Ticker,
    waiting::{WaitingCalls, WaitingLimits},
};

/// The maximum number of concurrent describe calls, in addition to the other calls. A namespace has at most two of them.
pub(crate) const MAX_CONCURRENT_DESCRIBES: u32 = 3;

/// How long a module that the compiler has refused is refused at once. The cause may have been the machine.
const REFUSAL_LIFETIME: Duration = Duration::from_secs(600);

/// The maximum number of such modules.
const MAX_REFUSED: usize = 1_000;

/// The configuration of a cache of compiled code. What it names is created if missing, and other users get no access.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// The folder of the code.
    pub folder: PathBuf,
    /// The file with the key of this user and machine: code that was kept under another key is not run. It is not in the
    /// folder, so that a copy of the folder is of no use elsewhere.
    pub key_file: PathBuf,
    /// The maximum size of the folder, in bytes.
    pub max_bytes: u64,
}

/// The configuration of a sandbox.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cache of compiled code between processes; `None` for no cache.
    pub cache: Option<CacheConfig>,
    /// The maximum number of concurrent calls, besides those that wait without a slot; others start later. At least one.
    pub slots: u32,
    /// The maximum of what calls have that wait without a slot. With [`Isolation::Process`], none does.
    pub waiting: WaitingLimits,
    /// Where modules are checked and compiled.
    pub compiler: Compiler,
    /// Where guests are called.
    pub isolation: Isolation,
    /// The maximum of each limit of a call. A call with a higher limit fails. That of instances is lowered if the concurrent calls
    /// could use up the memory mappings of this process.
    pub max_limits: Limits,
    /// What the backtraces of guests have.
    pub backtraces: Backtraces,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cache: None,
            slots: 16,
            waiting: WaitingLimits::default(),
            compiler: Compiler::here(),
            isolation: Isolation::None,
            max_limits: Limits::maximum(),
            backtraces: Backtraces::default(),
        }
    }
}

/// Why a sandbox could not be created.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Wasmtime does not work on this machine.
    #[error("could not start the WebAssembly engine: {reason}")]
    Engine {
        /// Wasmtime's message.
        reason: String,
    },
    /// The thread that ticks running calls could not be started.
    #[error("could not start the thread that watches running guests")]
    Ticker(#[source] std::io::Error),
}

/// Compiles modules and calls them. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Sandbox(Arc<Shared>);

/// The shared state.
pub(crate) struct Shared {
    engines: Arc<Engines>,
    recent: MemoryCache,
    cache: Option<DiskCache>,
    /// The modules that are read from disk now. Each takes its code in memory, twice for a moment.
    loading: SingleFlight<Option<Compiled>>,
    compiling: SingleFlight<Result<Compiled, CompileError>>,
    compiler: Compiler,
    /// The children that call guests; `None` if guests are called in this process.
    children: Option<Arc<Pool>>,
    max_limits: Limits,
    compilations: TaskTracker,
    /// Modules that the compiler has refused a short time ago, some of them after a long time.
    refused: Mutex<HashMap<Digest, (Instant, CompileError)>>,
    /// For the calls with a slot and for those that wait without one.
    slots: Semaphore,
    waiting: WaitingCalls,
    describing: Permits,
    /// Cancelled, and replaced, to stop the running calls.
    interrupt: Mutex<CancellationToken>,
}

impl Sandbox {
    /// Creates a sandbox. An unusable cache is logged and not used.
    ///
    /// # Errors
    /// [`SandboxError`] when wasmtime does not work on this machine.
    pub fn new(config: Config) -> Result<Self, SandboxError> {
        let engine_error = |error: wasmtime::Error| SandboxError::Engine { reason: format!("{error:#}") };
        let ticker = Ticker::start().map_err(SandboxError::Ticker)?;
        let slots = config.slots.max(1);
        let calls = slots.saturating_add(MAX_CONCURRENT_DESCRIBES);
        let mut waiting = WaitingCalls::none();
        let (children, pool_slots, max_limits) = match config.isolation {
            Isolation::None => {
                let max_limits = mappings::limit_instances(config.max_limits, calls);
                let max_mappings = mappings::left_by(&max_limits, calls);
                let waiting_calls = mappings::waiting_calls(config.waiting.calls, slots, max_mappings);
                let limits = WaitingLimits { calls: waiting_calls, ..config.waiting };
                waiting = WaitingCalls::new(limits, u16::try_from(slots).unwrap_or(u16::MAX), max_mappings);
                (None, calls.saturating_add(waiting.max_calls()), max_limits)
            }
            Isolation::Process { program, argument } => {
                // Each child has one call at a time.
                let max_limits = mappings::limit_instances(config.max_limits, 1);
                let program = Program { path: program, argument };
                let pool = Pool::new(program, permits(calls), &max_limits, config.backtraces);
                (Some(Arc::new(pool)), 0, max_limits)
            }
        };
        let engines = Engines::new(pool_slots, config.backtraces, ticker).map_err(engine_error)?;
        let engine = engines.linked_engine(engines.first()).map_err(engine_error)?;
        let compatibility = Compatibility::of(&engine.engine);
        let cache = config.cache.and_then(|cache| open_cache(cache, compatibility));
        Ok(Self(Arc::new(Shared {
            engines: Arc::new(engines),
            recent: MemoryCache::default(),
            cache,
            loading: SingleFlight::default(),
            compiling: SingleFlight::default(),
            compiler: config.compiler,
            children,
            max_limits,
            compilations: TaskTracker::new(),
            refused: Mutex::default(),
            slots: Semaphore::new(permits(slots.saturating_add(waiting.max_calls()))),
            waiting,
            describing: Permits::new(permits(MAX_CONCURRENT_DESCRIBES), MAX_WAITING),
            interrupt: Mutex::default(),
        })))
    }

    /// The module, if it is already compiled: in memory, or on the disk of this machine. Concurrent callers load it once.
    pub async fn cached(&self, digest: &Digest) -> Option<Compiled> {
        let metrics = metrics::global();
        if let Some(compiled) = self.0.recent.get(digest) {
            metrics.count_cache_hit(Cache::Memory);
            return Some(compiled);
        }
        let loaded = self.0.loading.join(*digest, || self.0.clone().load(*digest).boxed()).await;
        match loaded {
            Some(_) => metrics.count_cache_hit(Cache::Disk),
            None => metrics.count_cache_miss(),
        }
        loaded
    }

    /// Checks a component, or converts a core module to a component, where this sandbox compiles. `owner` is the namespace of
    /// whoever asks: namespaces take turns.
    ///
    /// # Errors
    /// [`ModuleError`] when the bytes are not a usable module, or checking them takes too much time or memory.
    pub async fn componentize(&self, bytes: Bytes, owner: Option<&Namespace>) -> Result<Module, ModuleError> {
        self.0.compiler.componentize(bytes, owner).await
    }

    /// Compiles a component, only once for concurrent callers. The caller has verified that the bytes have this digest.
    ///
    /// # Errors
    /// [`CompileError`] when the bytes are not a callable component. Once the futures of all
    /// callers are dropped, a child that compiles is ended.
    pub async fn compile(&self, digest: Digest, bytes: Bytes) -> Result<Compiled, CompileError> {
        self.compile_for(None, digest, bytes).await
    }

    /// Like [`compile`](Self::compile), for a namespace: namespaces take turns. Concurrent callers for one module wait for the
    /// turn of the first.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub async fn compile_for(
        &self,
        owner: Option<&Namespace>,
        digest: Digest,
        bytes: Bytes,
    ) -> Result<Compiled, CompileError> {
        let start = || start_compiling(self.0.clone(), owner.cloned(), digest, bytes);
        self.0.compiling.join(digest, start).await
    }

    /// Describes a module, and validates the description. Two descriptions of one module may differ.
    ///
    /// # Errors
    /// [`DescribeError`] when the module fails, or its description is invalid.
    pub async fn describe(&self, compiled: &Compiled) -> Result<ModuleContent, DescribeError> {
        self.describe_for(None, compiled).await
    }

    /// Like [`describe`](Self::describe), for a namespace: namespaces take turns.
    ///
    /// # Errors
    /// As [`describe`](Self::describe).
    pub async fn describe_for(
        &self,
        owner: Option<&Namespace>,
        compiled: &Compiled,
    ) -> Result<ModuleContent, DescribeError> {
        Box::pin(describe::describe(&self.0, owner, compiled)).await
    }

    /// Calls a guest in a fresh instance, within its limits. Dropping the future stops the guest.
    pub async fn call(&self, compiled: &Compiled, call: Call, observer: Arc<dyn Observer>) -> CallReport {
        let limits = match call.action {
            Action::Apply => call.limits,
            // The maximum may be lower than when the task was applied, and what was applied has to be rolled back.
            Action::Rollback { .. } => call.limits.at_most(self.0.max_limits()),
        };
        let call = Call { limits, ..call };
        Box::pin(run::call(&self.0, compiled, &call, observer)).await
    }

    /// The maximum of each limit of a call.
    #[must_use]
    pub fn max_limits(&self) -> Limits {
        self.0.max_limits
    }

    /// Stops all running guests; their calls end as interrupted.
    pub fn interrupt_all(&self) {
        let mut interrupt = self.0.interrupt.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *interrupt).cancel();
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Sandbox").field("slots", &self.0.slots).finish_non_exhaustive()
    }
}

impl Shared {
    /// The maximum of each limit of a call.
    pub(crate) const fn max_limits(&self) -> &Limits {
        &self.max_limits
    }

    /// The permits for concurrent calls.
    pub(crate) fn slots(&self) -> &Semaphore {
        &self.slots
    }

    /// The calls that wait without a slot.
    pub(crate) const fn waiting(&self) -> &WaitingCalls {
        &self.waiting
    }

    /// The permits for concurrent describe calls.
    pub(crate) fn describing(&self) -> &Permits {
        &self.describing
    }

    pub(crate) fn ticker(&self) -> &Ticker {
        self.engines.ticker()
    }

    /// Cancelled to stop all running calls.
    pub(crate) fn interrupts(&self) -> CancellationToken {
        self.interrupt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads a module from disk.
    async fn load(self: Arc<Self>, digest: Digest) -> Option<Compiled> {
        // Another caller may have loaded it in the meantime.
        if let Some(compiled) = self.recent.get(&digest) {
            return Some(compiled);
        }
        let reading = self.clone();
        let read = tokio::task::spawn_blocking(move || reading.cache.as_ref()?.load(&digest));
        let code = read.await.ok().flatten()?;
        match self.clone().place(digest, code.into()).await {
            Ok(compiled) => {
                self.recent.put(compiled.clone());
                Some(compiled)
            }
            // These say nothing of the code.
            Err(CompileError::Unavailable { .. } | CompileError::Interrupted { .. }) => None,
            Err(error) => {
                tracing::warn!(%error, "compiled code on disk cannot be used; it is compiled again");
                let _ = tokio::task::spawn_blocking(move || self.cache.iter().for_each(|cache| cache.discard(&digest)))
                    .await;
                None
            }
        }
    }

    /// Loads code where guests are called.
    async fn place(self: Arc<Self>, digest: Digest, code: Bytes) -> Result<Compiled, CompileError> {
        if let Some(children) = &self.children {
            return Ok(Compiled::isolated(digest, IsolatedCode::load(children, digest, code).await?));
        }
        let loading = tokio::task::spawn_blocking(move || Compiled::load(&self.engines, digest, &code));
        loading.await.unwrap_or(Err(CompileError::Interrupted { digest }))
    }

    async fn compile(
        self: Arc<Self>,
        owner: Option<Namespace>,
        digest: Digest,
        bytes: Bytes,
    ) -> Result<Compiled, CompileError> {
        // Another caller may have finished compiling it in the meantime.
        if let Some(compiled) = self.recent.get(&digest) {
            return Ok(compiled);
        }
        if let Some(error) = self.recently_refused(&digest) {
            return Err(error);
        }
        let began_at = Instant::now();
        let compiled = self.compiler.compile(&self.engines, digest, bytes, owner.as_ref()).await;
        metrics::global().observe_compile(began_at.elapsed());
        match compiled {
            Ok(code) => self.clone().load_and_store(digest, code).await,
            Err(error) => {
                // Other errors are found fast, or are not the module's.
                if matches!(error, CompileError::Refused { .. }) {
                    self.note_refused(digest, error.clone());
                }
                Err(error)
            }
        }
    }

    async fn load_and_store(self: Arc<Self>, digest: Digest, code: Vec<u8>) -> Result<Compiled, CompileError> {
        let code = Bytes::from(code);
        let compiled = self.clone().place(digest, code.clone()).await?;
        let storing = self.clone();
        // If it fails, the module is compiled again later.
        let _ = tokio::task::spawn_blocking(move || storing.cache.iter().for_each(|cache| cache.store(&digest, &code)))
            .await;
        self.recent.put(compiled.clone());
        Ok(compiled)
    }

    fn recently_refused(&self, digest: &Digest) -> Option<CompileError> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, error) = refused.get(digest)?;
        (at.elapsed() < REFUSAL_LIFETIME).then(|| error.clone())
    }

    fn note_refused(&self, digest: Digest, error: CompileError) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|_, (at, _)| at.elapsed() < REFUSAL_LIFETIME);
        if refused.len() < MAX_REFUSED {
            refused.insert(digest, (Instant::now(), error));
        }
    }
}

/// Starts the compiler. It is stopped once no caller waits any more: the next caller for the module may be another one, later.
fn start_compiling(
    shared: Arc<Shared>,
    owner: Option<Namespace>,
    digest: Digest,
    bytes: Bytes,
) -> BoxFuture<'static, Result<Compiled, CompileError>> {
    let compilations = shared.compilations.clone();
    let compiling = AbortOnDropHandle::new(compilations.spawn(shared.compile(owner, digest, bytes)));
    compiling.map(move |result| result.unwrap_or(Err(CompileError::Interrupted { digest }))).boxed()
}

fn open_cache(config: CacheConfig, compatibility: Compatibility) -> Option<DiskCache> {
    let CacheConfig { folder, key_file, max_bytes } = config;
    let key = match CacheKey::load_or_create(&key_file) {
        Ok(key) => key,
        Err(error) => {
            tracing::warn!(key = %key_file.display(), "compiled code is not kept on disk: {error}");
            return None;
        }
    };
    let path = folder.display().to_string();
    match DiskCache::open(folder, key, max_bytes, compatibility) {
        Ok(cache) => Some(cache),
        Err(error) => {
            let reason = std::error::Error::source(&error).map_or(String::new(), |source| format!(": {source}"));
            tracing::warn!(folder = path, "compiled code is not kept on disk: {error}{reason}");
            None
        }
    }
}

fn permits(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}
