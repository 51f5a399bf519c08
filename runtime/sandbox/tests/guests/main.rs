//! Well-behaved and misbehaving guests, written as WebAssembly text and called through the crate's public API.

#![expect(clippy::unwrap_used, reason = "the values of a test are valid")]

mod support;
mod denied_capabilities;

mod completions;
mod commands;
mod determinism;
mod interrupts;
mod host_allocations;
mod isolation;
mod limits;
mod modules;
mod module_cache;
mod turns;
