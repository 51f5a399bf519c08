//! The options of `waft rehearse`.

use std::path::PathBuf;

use clap::Args;

use super::ValueFlags;

/// What is rehearsed.
#[derive(Debug, Args)]
pub(crate) struct RehearseFlags {
    /// The flow file
    #[arg(required_unless_present = "against")]
    pub(crate) flow: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) values: ValueFlags,
    /// A file with results of tasks: {"task": {"value": 1}}, with the names of the flow file
    #[arg(long, value_name = "FILE")]
    pub(crate) results: Option<PathBuf>,
    /// Only the cases of this task
    #[arg(long, value_name = "TASK")]
    pub(crate) node: Option<String>,
    /// Continue from the present state of this run
    #[arg(long, value_name = "RUN", requires = "node", conflicts_with_all = ["flow", "set", "set_file"])]
    pub(crate) against: Option<String>,
    /// Also write a page with a picture of each case
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
