//! The subcommands of `waft edit`.

use std::path::PathBuf;

use clap::Subcommand;

/// An edit of a run's flow.
#[derive(Debug, Subcommand)]
pub(crate) enum EditCommand {
    /// Add the tasks, nested flows and links of a file, which is a flow file without a name
    Add {
        /// The file
        file: PathBuf,
    },
    /// Remove a task and its links; a task that has run can still be rolled back
    Remove {
        /// The task
        task: String,
    },
    /// Link two nodes; replaces an existing link between them
    Link {
        /// The source
        from: String,
        /// The target
        to: String,
        /// The outcome of the source that it waits for: success, failure or any
        #[arg(long)]
        on: Option<String>,
        /// A condition: if it is false, the target is skipped
        #[arg(long, value_name = "CONDITION")]
        when: Option<String>,
        /// Which nodes a false condition skips: all, flow, neighbors or task
        #[arg(long)]
        reach: Option<String>,
        /// How it joins the other links into the target: all or any
        #[arg(long)]
        join: Option<String>,
    },
    /// Remove the links between two nodes
    Unlink {
        /// The source
        from: String,
        /// The target
        to: String,
    },
    /// Make a task that has not run call something else
    Use {
        /// The task
        task: String,
        /// MODULE#TASK; the module is an alias of the flow, a tag, a digest or a file
        module: String,
    },
    /// Set a constant of a task
    Set {
        /// The task
        task: String,
        /// PARAMETER=VALUE; the value is JSON, or else a string
        value: String,
    },
    /// Make a parameter of a task take a named value of the flow
    Require {
        /// The task
        task: String,
        /// PARAMETER=VALUE, where VALUE is the name of the value in the flow
        value: String,
    },
    /// Make all edits of a file in one step: TOML with a table `edit` for each edit
    Apply {
        /// The file
        file: PathBuf,
    },
}
