//! Permits of tasks that limit how many of their calls run at once, or how often they start.
//!
//! The coordinator of a task grants its permits; one engine at a time runs it. The client requests permits for the runs of an
//! engine's shards. Both are plain values; the service connects a coordinator with its queue.

pub(crate) mod calls;
pub(crate) mod client;
pub(crate) mod coordinator;
mod fair_queue;
mod paces;
pub(crate) mod service;
