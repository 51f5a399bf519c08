//! What the fuzzer does with an input: one function for each target.
//!
//! A body reads the input as waft reads such bytes from a user, a guest, a broker or a disk. It returns if the input is handled,
//! with success or with an error, and panics if a rule is broken. The fuzzing engine calls it from `fuzz/fuzz_targets/`, and an
//! ordinary test calls it with each file of `fuzz/corpus/`, so that an input that once broke waft is tried in every test run.
//! `docs/fuzzing.md` says how to run the fuzzer and how to add a target.

mod api_types;
mod condition;
mod cron;
mod drive;
mod edits;
mod flow_file;
mod history;
mod json;
mod message;
mod modules;
mod notification;
mod round_trip;
mod schema;
mod words;

#[cfg(feature = "server")]
mod server;

/// A body, and the name of its target, its corpus and its program.
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// The body. It panics for an input that breaks a rule.
    pub run: fn(&[u8]),
}

/// The targets, in the order of their names.
pub const TARGETS: &[Target] = &[
    Target { name: "api", run: api_types::run },
    Target { name: "condition", run: condition::run },
    Target { name: "cron", run: cron::run },
    #[cfg(feature = "server")]
    Target { name: "description", run: server::description::run },
    Target { name: "edits", run: edits::run },
    Target { name: "flow_file", run: flow_file::run },
    Target { name: "history", run: history::run },
    #[cfg(feature = "server")]
    Target { name: "http", run: server::http::run },
    Target { name: "json", run: json::run },
    Target { name: "message", run: message::run },
    #[cfg(feature = "server")]
    Target { name: "module", run: server::module::run },
    Target { name: "notification", run: notification::run },
    Target { name: "schema", run: schema::run },
    Target { name: "words", run: words::run },
];

pub use api_types::run as api;
pub use condition::run as condition;
pub use cron::run as cron;
pub use edits::run as edits;
pub use flow_file::run as flow_file;
pub use history::run as history;
pub use json::run as json;
pub use message::run as message;
pub use notification::run as notification;
pub use schema::run as schema;
#[cfg(feature = "server")]
pub use server::{
    description::run as description,
    http::run as http,
    memory::{Item, Memory, Task},
    module::run as module,
};
pub use words::run as words;

/// The line between two parts of an input.
const SEPARATOR: &str = "\n====\n";

/// The parts of a text input. Parts that the input does not have are empty. `None` for bytes that are no text: each target that
/// takes text gets it from a reader that has checked it.
fn parts<const COUNT: usize>(input: &[u8]) -> Option<[&str; COUNT]> {
    let mut parts = std::str::from_utf8(input).ok()?.splitn(COUNT, SEPARATOR);
    Some(std::array::from_fn(|_| parts.next().unwrap_or_default()))
}
