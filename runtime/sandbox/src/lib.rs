//! One guest call inside its limits.
//!
//! This crate alone knows wasmtime. It makes components of what compilers leave ([`Module`]), compiles them once a
//! machine ([`Compiled`]), asks what they hold, and calls them ([`Sandbox::call`]): a fresh instance each time, with
//! nothing but what [`flow::Limits`] grant, where the same job always sees the same world. It must not know of
//! stores, brokers or runs beyond the ids that it passes on. Start reading at `sandbox.rs`, then `call.rs`.

// Printing panics when the reader has left; only the binary prints, and knows how.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod module;

pub use module::{Module, ModuleError, imports};

mod call;
mod sandbox;

pub use call::{Action, Call, CallReport, Completion, Level, LogLine, Observer, Standard, Stats};
pub use sandbox::{Config, Sandbox, SandboxError};

mod cache;
mod compiled;
mod engines;
mod recent;
mod ticker;

pub use cache::CacheOwner;
pub use compiled::{CompileError, Compiled};

mod command;
mod describe;
mod guest;
mod limits;
mod run;
mod verdict;
mod world;

pub use describe::DescribeError;
