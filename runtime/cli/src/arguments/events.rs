//! The flags of `waft events`.

use clap::Args;

/// The events to print.
#[derive(Debug, Args)]
pub(crate) struct EventsFlags {
    /// Only events of runs of this flow
    #[arg(long, value_name = "NAME")]
    pub(crate) flow: Option<String>,
    /// Only events of runs of flows in this namespace
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Only events of runs with this label; NAME alone: with any value. Several may be given
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Only events about these: run, task, retry
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub(crate) kind: Vec<String>,
    /// Only events with one of these states, of runs or tasks
    #[arg(long, value_name = "STATES", value_delimiter = ',')]
    pub(crate) state: Vec<String>,
    /// Start after the event with this id, as far as the server still has the events
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
    /// Print one JSON object per event
    #[arg(long)]
    pub(crate) json: bool,
}
