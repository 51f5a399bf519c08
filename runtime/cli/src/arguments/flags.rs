//! Flags that several commands share, and the flags of commands with many.

use std::path::PathBuf;

use clap::Args;

use super::Command;
use crate::{log::LogFormat, settings::Isolate};

/// Flags of all commands. They may hold a token, and are never shown.
#[derive(Args)]
pub(crate) struct Shared {
    /// The folder with the stored modules [env: WAFT_STORE]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) store: Option<PathBuf>,
    /// The database with the records of runs: sqlite:PATH, postgres://… or memory: [env: WAFT_LOGBOOK, WAFT_LOGBOOK_FILE]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) logbook: Option<String>,
    /// The server to connect to: http://host:port [env: WAFT_SERVER]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// The token of the server. Other users of this machine can see flags, so prefer a file [env: WAFT_TOKEN, WAFT_TOKEN_FILE]
    #[arg(long, global = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// The format of the lines of the log on standard error; text by default [env: WAFT_LOG_FORMAT]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// Log more details: -v, -vv, -vvv
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The broker, for commands that also work without one.
#[derive(Debug, Args)]
pub(crate) struct BrokerFlag {
    /// Use the workers at this broker: amqp://user:password@host:port/vhost [env: WAFT_BROKER, WAFT_BROKER_FILE]
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Option<String>,
    /// Also trust the certificates in this PEM file, for amqps://
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
}

/// Where guests are called, for commands that call them.
#[derive(Debug, Args)]
pub(crate) struct IsolateFlag {
    /// Where to call guests; the setting by default
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) isolate: Option<Isolate>,
}

/// Where spans are sent, for commands that drive runs or call guests for others.
#[derive(Debug, Args)]
pub(crate) struct TraceFlags {
    /// Send traces to the collector of OpenTelemetry at this address: http://host:4318 [env: OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub(crate) otlp: Option<String>,
}

impl TraceFlags {
    /// The name of a command in traces and its flag about them, if it sends traces.
    pub(crate) fn of(command: &Command) -> Option<(&'static str, &Self)> {
        if let Command::Run { traces, .. } = command {
            return Some(("waft-run", traces));
        }
        if let Command::Worker { traces, .. } = command {
            return Some(("waft-worker", traces));
        }
        if let Command::Serve { traces, .. } = command { Some(("waft-serve", traces)) } else { None }
    }
}

/// Values that a run starts with.
#[derive(Debug, Args)]
pub(crate) struct ValueFlags {
    /// Start with this value: JSON, or else a string
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Start with the bytes of this file as a value
    #[arg(long = "set-file", value_name = "NAME=PATH")]
    pub(crate) set_file: Vec<String>,
}

/// The labels of a new run.
#[derive(Debug, Args)]
pub(crate) struct LabelFlags {
    /// Give the run this label. It never changes; `waft list --label` finds the run by it
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
}

/// The run to submit to a server.
#[derive(Debug, Args)]
pub(crate) struct SubmitFlags {
    /// The flow file
    pub(crate) flow: PathBuf,
    #[command(flatten)]
    pub(crate) values: ValueFlags,
    #[command(flatten)]
    pub(crate) labels: LabelFlags,
    /// The run's id; a new one by default. A run that already exists is not started again
    #[arg(long, value_name = "ID")]
    pub(crate) run_id: Option<String>,
    /// Wait for the end of the run, and end with its exit code
    #[arg(long)]
    pub(crate) wait: bool,
    /// Print one JSON object; with --wait, one for every change
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which runs a command is about. All given conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct FilterFlags {
    /// Only runs of this flow
    #[arg(long, value_name = "NAME")]
    pub(crate) flow: Option<String>,
    /// Only runs of flows in this namespace
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Only runs with this label; NAME alone: with any value. Several may be given
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Only runs whose id begins with this text, or that have it as the value of a label or as an input
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<String>,
    /// Only runs in one of these states: pending, running, success, failure, rolled-back, suspending, suspended
    #[arg(long, value_name = "STATES", value_delimiter = ',')]
    pub(crate) state: Vec<String>,
    /// Only runs that started since a time such as 2026-01-31T08:00:00Z, or within a duration such as 2h
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only runs that started before a time, or longer ago than a duration
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
}

/// The runs to list.
#[derive(Debug, Args)]
pub(crate) struct ListFlags {
    #[command(flatten)]
    pub(crate) filter: FilterFlags,
    /// The maximum number of runs
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) limit: usize,
    /// Print one JSON object per run
    #[arg(long)]
    pub(crate) json: bool,
}

/// The schedules to list.
#[derive(Debug, Args)]
pub(crate) struct SchedulesFlags {
    /// Only schedules of this flow
    #[arg(long, value_name = "NAME")]
    pub(crate) flow: Option<String>,
    /// Only schedules of flows in this namespace
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// The maximum number of schedules
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) limit: usize,
    /// Print one JSON object per schedule
    #[arg(long)]
    pub(crate) json: bool,
}

/// One run, or all that a filter selects on a server.
#[derive(Debug, Args)]
pub(crate) struct RunsFlags {
    /// The run's id. Without it, the flags select runs on a server
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) filter: FilterFlags,
    /// Select all runs
    #[arg(long)]
    pub(crate) all: bool,
    /// Only print how many runs are selected, and the first of them
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask before the command is sent to several runs
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print one JSON object; for several runs, one for each thousand of them
    #[arg(long)]
    pub(crate) json: bool,
}
