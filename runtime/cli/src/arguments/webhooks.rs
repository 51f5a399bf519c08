//! The commands below `waft webhooks`.

use clap::Subcommand;

/// A command about the webhooks of a server.
#[derive(Debug, Subcommand)]
pub(crate) enum WebhooksCommand {
    /// List the webhooks of a server, with the numbers of events that wait, were delivered and were lost
    List {
        /// Print one JSON object per webhook
        #[arg(long)]
        json: bool,
    },
    /// Print the last tries to deliver events, the newest last
    Log {
        /// The name of the webhook
        name: String,
        /// Print one JSON object per try
        #[arg(long)]
        json: bool,
    },
    /// Send a test event now, and print what came of it
    Test {
        /// The name of the webhook
        name: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}
