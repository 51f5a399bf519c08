//! One guest call inside its limits.
//!
//! This crate alone knows wasmtime. It makes components of compiler output ([`Module`]), compiles them once per machine
//! ([`Compiled`]) in a process of their own ([`Compiler`]), describes them, and calls them ([`Sandbox::call`]), here or in processes
//! of their own ([`Isolation`]). Each call gets a fresh instance with only the resources that [`flow::Limits`] grant, and the same
//! job always sees the same environment. The crate must not know of stores or brokers, nor of runs beyond the ids that it passes
//! on. Start reading at `sandbox.rs`, then `call.rs`.

// Printing panics when the reader has left; only the binary prints, and handles that.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod module;

pub use module::{Module, ModuleError, imports};

mod call;
mod call_slot;
mod sandbox;

pub use call::{
    Action, Call, CallReport, Completion, Directories, Directory, Frame, Level, LogLine, Observer, Outside, Settings,
    Sockets, Standard, Stats,
};
pub use call_slot::{CallSlot, KeptSlot};
pub use host_state::DirectoryUsages;
pub use sandbox::{CacheConfig, Config, Sandbox, SandboxError};

mod permits;
mod confined;
mod compiler;

pub use compiler::{Compiler, child::serve_compiler};
pub use permits::{Full, Owner, Permit, Permits};

mod disk_cache;
mod compiled;
mod loaded;
mod engines;
mod mappings;
mod memory_cache;
mod single_flight;
mod ticker;

pub use compiled::{CompileError, Compiled};
pub use disk_cache::CacheOwner;
pub use engines::Backtraces;

mod isolation;

pub use isolation::{Isolation, IsolationUnavailable, UNAVAILABLE_DELAY, serve_calls};

mod command;
mod describe;
mod guest;
mod meter;
mod cpu_time;
mod waiting;
mod run;
mod transfer;
mod host_work;
mod backtrace;
mod classify;
mod host_state;

pub use describe::DescribeError;
pub use host_work::parsed;
pub use run::MAX_SLOT_WAIT;
pub use waiting::WaitingLimits;
