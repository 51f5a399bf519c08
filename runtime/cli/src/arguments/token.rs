//! The subcommands of `waft token`.

use clap::Subcommand;

/// An action on the tokens of a server.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and print it; it is shown only once
    Create {
        /// Its name, which no other token has
        name: String,
        /// What it allows: read, submit, operate, push, metrics, admin
        #[arg(long, required = true, value_delimiter = ',', value_name = "SCOPES")]
        scope: Vec<String>,
        /// The namespace that it is limited to; without it, it reaches all flows and runs
        #[arg(long, value_name = "NAME")]
        namespace: Option<String>,
        /// The time after which it expires: 12h, 90d; without it, it is valid until it is revoked
        #[arg(long, value_name = "DURATION")]
        expires: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List the tokens, without their text
    List {
        /// Print one JSON object per token
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token: within a second, the server accepts it no more
    Revoke {
        /// The token's name
        name: String,
    },
}
