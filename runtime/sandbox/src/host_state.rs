//! The environment that a guest sees: its job's time, its job's randomness, its standard streams, what it is granted, and nothing
//! else.
//!
//! Further WASI interfaces (UDP, terminals) exist, since guests' standard libraries import them, but they are empty: no such socket
//! can be created, no stream is a terminal.

mod clock;
mod config;
mod denied;
mod files;
mod http;
mod process;
mod random;
mod sockets;
mod stdio;

use std::{collections::BTreeMap, sync::Arc};

use flow::{Limits, NodeName, RunId, Timestamp};
use wasmtime::component::{HasData, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{
    cli::{WasiCli, WasiCliCtx, WasiCliCtxView},
    p2::bindings::{cli, clocks, random as wasi_random},
};
use wasmtime_wasi_io::bindings::wasi::io;

use crate::{
    call::{Observer, Outside},
    meter::Meter,
    run::Watchdog,
};

pub use files::DirectoryUsages;
pub(crate) use files::Files;
pub(crate) use process::{Exited, Process};
pub(crate) use stdio::{CapturedOutput, Stdout, Streams};

use clock::Clock;
pub(crate) use denied::Denied;
use http::{Http, HttpMemory};
use random::Randomness;
use sockets::Sockets;

/// The maximum number of handles of a guest. Each costs the host some hundred bytes; a guest of the SDK has a dozen.
pub(crate) const MAX_HANDLES: usize = 10_000;

/// The maximum number of things of the host that a guest has handles of. Most cost some hundred bytes, and the headers of a request
/// up to 32 KiB. Bodies of requests and open files are more, and have bounds of their own.
const MAX_RESOURCES: usize = 1_000;

/// The host state in a guest's store.
pub(crate) struct HostState {
    pub(crate) meter: Meter,
    pub(crate) watch: Watchdog,
    pub(crate) streams: Streams,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    process: Process,
    clock: Clock,
    randomness: Randomness,
    http: Http,
    table: ResourceTable,
    terminals: WasiCliCtx,
    files: Files,
    sockets: Sockets,
    config: BTreeMap<String, Result<String, String>>,
    denied: Denied,
}

/// The data that distinguishes the environments of two calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallOrigin<'a> {
    /// The time of the wall clock.
    pub(crate) time: Timestamp,
    /// The seed of the randomness.
    pub(crate) seed: Seed<'a>,
}

/// The call for which randomness is generated.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Seed<'a> {
    /// One attempt of one task.
    Attempt { run: &'a RunId, task: &'a NodeName, firing: u64, attempt: u32 },
    /// A describe call of a module.
    Describe,
}

impl HostState {
    pub(crate) fn new(
        limits: Limits,
        watch: Watchdog,
        origin: CallOrigin<'_>,
        process: Process,
        outside: &Outside,
        files: Files,
        observer: Option<Arc<dyn Observer>>,
    ) -> Self {
        let denied = files.denied();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Self {
            meter: Meter::new(limits),
            watch,
            streams: Streams::new(&limits, process.stdout(), observer.clone()),
            observer,
            process: process.with_variables(&outside.settings.variables).with_arguments(&outside.arguments),
            clock: if outside.clock { Clock::of_machine() } else { Clock::of_job(origin.time) },
            randomness: match outside.random {
                true => Randomness::of_machine(),
                false => Randomness::of_attempt(&origin.seed),
            },
            http: Http::new(outside, limits.http_bytes, denied.clone()),
            table,
            terminals: WasiCliCtx::default(),
            files,
            sockets: Sockets::new(outside.sockets.clone(), limits.http_bytes, denied.clone()),
            config: outside.settings.config.clone(),
            denied,
        }
    }

    /// Why the first thing that was denied to the guest was denied.
    pub(crate) fn denied(&self) -> Option<String> {
        self.denied.first()
    }

    /// What the requests and responses of the guest have in memory.
    pub(crate) fn http_memory(&self) -> HttpMemory {
        self.http.memory().clone()
    }

    /// Whether the guest has a directory.
    pub(crate) fn has_files(&self) -> bool {
        self.files.is_granted()
    }
}

/// The interfaces that [`link`] offers, without their versions. No other interface can be imported.
pub(crate) const GRANTED: [&str; 32] = [
    "waft:task/host",
    "waft:task/types",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:config/store",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// Links everything that a guest may import.
pub(crate) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    link_own(linker)?;
    http::link(linker)?;
    config::link(linker)?;
    files::link(linker)?;
    sockets::link(linker)?;
    link_streams(linker)?;
    link_terminals(linker)
}

/// Links the interfaces whose results depend only on the job.
fn link_own(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    type Own = HasSelf<HostState>;
    crate::guest::link(linker)?;
    clocks::wall_clock::add_to_linker::<_, Own>(linker, |state| state)?;
    clocks::monotonic_clock::add_to_linker::<_, Own>(linker, |state| state)?;
    io::poll::add_to_linker::<_, Own>(linker, |state| state)?;
    wasi_random::random::add_to_linker::<_, Own>(linker, |state| state)?;
    wasi_random::insecure::add_to_linker::<_, Own>(linker, |state| state)?;
    wasi_random::insecure_seed::add_to_linker::<_, Own>(linker, |state| state)?;
    cli::environment::add_to_linker::<_, Own>(linker, |state| state)?;
    cli::exit::add_to_linker::<_, Own>(linker, |state| state)?;
    cli::stdin::add_to_linker::<_, Own>(linker, |state| state)?;
    cli::stdout::add_to_linker::<_, Own>(linker, |state| state)?;
    cli::stderr::add_to_linker::<_, Own>(linker, |state| state)
}

/// Links the interfaces of the host's own streams.
fn link_streams(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    struct Table;
    impl HasData for Table {
        type Data<'a> = &'a mut ResourceTable;
    }
    io::error::add_to_linker::<_, Table>(linker, |state| &mut state.table)?;
    io::streams::add_to_linker::<_, Table>(linker, |state| &mut state.table)
}

/// Links the interfaces of terminals, of which no guest has one: an empty context denies everything.
fn link_terminals(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    fn terminals(state: &mut HostState) -> WasiCliCtxView<'_> {
        WasiCliCtxView { ctx: &mut state.terminals, table: &mut state.table }
    }
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, terminals)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, terminals)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, terminals)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, terminals)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, terminals)
}
