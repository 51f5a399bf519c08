//! The options of `waft replay`.

use std::path::PathBuf;

use clap::Args;

/// Which attempt is replayed, and how.
#[derive(Debug, Args)]
pub(crate) struct ReplayFlags {
    /// The run's id; without a task, a file that --bundle has written
    #[arg(value_name = "RUN|FILE")]
    pub(crate) run: String,
    /// The task
    pub(crate) task: Option<String>,
    /// The firing; the last one by default
    #[arg(long, value_name = "N", requires = "task")]
    pub(crate) firing: Option<u64>,
    /// The attempt; the last one by default
    #[arg(long, value_name = "N", requires = "task")]
    pub(crate) attempt: Option<u32>,
    /// The element of the list, from 0, of a task with `for_each`
    #[arg(long, value_name = "I", requires = "task")]
    pub(crate) element: Option<u32>,
    /// Replay the rollback of the task
    #[arg(long, requires = "task")]
    pub(crate) rollback: bool,
    /// Run this module in place of the recorded one, with the same inputs
    #[arg(long, value_name = "FILE")]
    pub(crate) module: Option<PathBuf>,
    /// Write everything that the replay needs to a file, and run nothing
    #[arg(long, value_name = "FILE", requires = "task", conflicts_with = "module")]
    pub(crate) bundle: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
