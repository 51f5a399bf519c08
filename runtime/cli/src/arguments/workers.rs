//! The subcommands of `waft workers`.

use clap::Subcommand;

use super::BrokerFlag;

/// An action on a worker.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkersCommand {
    /// Let a worker take no new jobs, and end the calls that it has
    ///
    /// It stays until `waft workers resume`, or until it ends. A worker that starts again takes jobs.
    Drain {
        /// The worker's name
        name: String,
        /// Let the worker exit once its calls have ended
        #[arg(long)]
        exit: bool,
        #[command(flatten)]
        broker: BrokerFlag,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Let a drained worker take jobs again
    Resume {
        /// The worker's name
        name: String,
        #[command(flatten)]
        broker: BrokerFlag,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}
