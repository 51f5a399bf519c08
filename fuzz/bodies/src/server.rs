//! The targets that need the sandbox or the server.

pub(crate) mod description;
mod guest;
pub(crate) mod http;
pub(crate) mod memory;
pub(crate) mod module;

use std::sync::OnceLock;

use sandbox::{Config, Sandbox};

/// The sandbox of all inputs: its engines take longer to make than most inputs take to read.
fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| Sandbox::new(Config { slots: 1, ..Config::default() }).expect("wasmtime works here"))
}

/// Runs a future to its end. Time moves as soon as nothing else does, so that no input waits for a timer.
fn block_on<Output>(future: impl Future<Output = Output>) -> Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime starts");
    let output = runtime.block_on(future);
    // Its threads may be compiling.
    runtime.shutdown_background();
    output
}
