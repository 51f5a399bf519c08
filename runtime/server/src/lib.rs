//! The HTTP API over an engine: starting and reading runs, their live events, modules, workers.
//!
//! It decides nothing. It passes run commands to the [`engine`], and reads the state of a run from its records, so every
//! server over the same logbook gives the same answers. The API types are in [`api`], and their description is in
//! `docs/openapi.json`. Start reading at `server.rs`, then `routes.rs`.

// Printing panics when the reader has left; only the binary prints, and handles that case.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod config;
mod connections;
mod direct;
mod server;
mod state;
mod shares;
mod shared_answers;
mod shared_reads;
mod bodies;
mod tls;
mod server_token;
mod tokens;

mod routes;
mod audit;
mod auth;
mod extract;
mod problem;
mod openapi;
mod dashboard;

mod runs;
mod events;
mod all_events;
mod recent_events;
mod webhooks;
mod stream_memory;
mod large_answers;
mod lines;
mod values;
mod modules;
mod workers;
mod engines;
mod quarantine;
mod permits;
mod queues;
mod grants;
mod health;
mod scrape;
mod metrics_server;
mod checks;

mod module_library;
mod turns;
mod namespace_storage;
mod wiring;

pub use checks::{LIMIT as CHECKS_LIMIT, Locations, RunningServer, check, is_healthy};
pub use config::Config;
pub use direct::{Answer, Request, Routes};
pub use lines::{Line, Lines, LinesError};
pub use metrics_server::{MetricsConfig, MetricsServer};
pub use module_library::{
    Component, DEFAULT_MODULE_SIZE, InspectedModule, LibraryError, LibraryLimits, ModuleLibrary, MovedTag,
};
pub use modules::{
    list::{ModulesPage, stored_modules},
    shown,
};
pub use openapi::description;
pub use problem::Problem;
pub use runs::{
    attempt::{AttemptError, WantedAttempt, read as attempt},
    edits::edit_alone,
    exchanges::read as exchanges,
    follow::LogFollow,
    list::read as list,
    live::{LiveError, LiveLines},
    logs::{attempt as attempt_log, read as logs, usage},
    show::read as run,
    value::{ValueError, WantedValue, read as value},
};
pub use server::{BindError, Server};
pub use server_token::Token;
pub use state::{Dependencies, QueueCoverage};
pub use stream_memory::StreamsTooLarge;
pub use tls::Tls;
pub use webhooks::config::{MAX_WEBHOOKS, Webhook, WebhookSettings};
pub use wiring::{WiredFlow, wire_draft};
