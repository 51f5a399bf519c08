//! Guests that behave and guests that do not, written as WebAssembly text, through the crate's front door.

#![expect(clippy::unwrap_used, reason = "what a test makes up is lawful")]

mod support;
mod ungranted;

mod answers;
mod commands;
mod determinism;
mod interrupts;
mod limits;
mod modules;
mod module_cache;
