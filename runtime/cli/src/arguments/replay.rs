//! The options of `waft replay` and `waft verify`.

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

/// Which attempt is verified.
#[derive(Debug, Args)]
pub(crate) struct VerifyFlags {
    /// The run's id
    pub(crate) run: String,
    /// The task
    pub(crate) task: String,
    /// The firing; the last one by default
    #[arg(long, value_name = "N")]
    pub(crate) firing: Option<u64>,
    /// The attempt; the last one by default
    #[arg(long, value_name = "N")]
    pub(crate) attempt: Option<u32>,
    /// The element of the list, from 0, of a task with `for_each`
    #[arg(long, value_name = "I")]
    pub(crate) element: Option<u32>,
    /// Call it as if its task had `memo`: with another run, clock and randomness
    #[arg(long)]
    pub(crate) memo: bool,
    /// Let a worker call it, in a run of its own at the server, and not this machine
    #[arg(long)]
    pub(crate) worker: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl VerifyFlags {
    /// The attempt, for a replay.
    pub(crate) fn to_replay(&self) -> ReplayFlags {
        ReplayFlags {
            run: self.run.clone(),
            task: Some(self.task.clone()),
            firing: self.firing,
            attempt: self.attempt,
            element: self.element,
            rollback: false,
            module: None,
            bundle: None,
            json: self.json,
        }
    }
}
