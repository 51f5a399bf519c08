//! The JSON types of the HTTP API between client and server.
//!
//! A field that holds one of a set of words is an open enum: a word of a newer server is kept as `Unknown`. Values of flows
//! keep their original text, so that no number loses a digit. Bytes and references to the store are separate from JSON, see
//! [`ValuesObject`].

mod check;
mod command;
mod edit;
mod list;
mod logs;
mod module;
mod open_enum;
mod problem;
mod run;
#[cfg(feature = "server")]
mod schema;
mod submit;
mod worker;

use std::collections::BTreeMap;

pub use check::{Check, Checks, Health, Outcome};
pub use command::{Notification, RunStateResponse, SkipRollback};
#[cfg(feature = "server")]
pub use edit::ModuleNames;
pub use edit::{Edit, EditResult, Edits, LinkJoin, LinkOutcome, LinkReach, Revision};
pub use flow::ValuesObject;
pub use list::{ListQuery, Runs, Summary};
pub use logs::{Action, AttemptLog, LogLevel, LogLine, RunLogs};
pub use module::{Module, Modules, StoredModule};
pub use problem::{Diagnostic, Problem, Severity};
pub use run::{
    AwaitedNotification, Backlog, ElementProgress, Failure, FailureKind, FiringState, LostWorker, NextTime, Node,
    NodeKind, NodeState, OutstandingCall, Run, RunState, SkipReason, SkippedTriggers,
};
use serde_json::value::RawValue;
pub use submit::Submission;
pub use worker::{Worker, Workers};

/// JSON objects by name, each as it was written.
pub type Object = BTreeMap<String, Box<RawValue>>;
