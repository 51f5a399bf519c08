//! The subcommands of `waft grants`.

use std::path::PathBuf;

use clap::Subcommand;

use super::ValueFlags;

/// An action on grants.
#[derive(Debug, Subcommand)]
pub(crate) enum GrantsCommand {
    /// Say which of what a flow asks for is granted, by which table, and what would grant the rest
    ///
    /// With a server, its workers say what they grant. Without one, or with --local, the settings of this machine do.
    Explain {
        /// The flow file
        flow: PathBuf,
        #[command(flatten)]
        values: ValueFlags,
        /// Use the settings of this machine, although there is a server
        #[arg(long)]
        local: bool,
        /// Print one JSON object per task that asks for something
        #[arg(long)]
        json: bool,
    },
}
