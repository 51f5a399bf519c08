//! The subcommands of `waft quarantine`.

use clap::{Args, Subcommand};

use super::BrokerFlag;

/// An action on messages in quarantine.
#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List the messages in quarantine; they stay there
    List {
        #[command(flatten)]
        broker: BrokerFlag,
        /// Print one JSON object per message
        #[arg(long)]
        json: bool,
    },
    /// Send messages again, to the queue they came from
    ///
    /// A worker can put any message into the quarantine, also a forged job, and name any queue. So look at the list first, and release what
    /// you expect there.
    Release {
        #[command(flatten)]
        selection: MessageSelection,
        #[command(flatten)]
        broker: BrokerFlag,
        /// Print one JSON object per message
        #[arg(long)]
        json: bool,
    },
    /// Delete messages
    Drop {
        #[command(flatten)]
        selection: MessageSelection,
        #[command(flatten)]
        broker: BrokerFlag,
        /// Print one JSON object per message
        #[arg(long)]
        json: bool,
    },
}

/// The selected messages.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct MessageSelection {
    /// The id that `list` shows
    pub(crate) id: Option<String>,
    /// All messages
    #[arg(long)]
    pub(crate) all: bool,
}
