//! The subcommands of `waft keys`, and those of `waft modules`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// An action on the keys that sign modules.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key pair: NAME.key, which only you can read, and NAME.pub
    Create {
        /// The name of the key
        name: String,
        /// The folder for the two files; waft/keys in your configuration folder by default
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        /// Encrypt the secret key with the password in this file, which others must not read
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// List your keys
    List {
        /// Print one JSON object per key
        #[arg(long)]
        json: bool,
    },
    /// Print the public key of a key
    Show {
        /// The name of the key
        name: String,
    },
}

/// An action on stored modules.
#[derive(Debug, Subcommand)]
pub(crate) enum ModulesCommand {
    /// Sign a stored module
    Sign {
        /// sha256: and 64 hex digits
        digest: String,
        /// The key: a name of `waft keys list`, or the file of a secret key
        #[arg(long, value_name = "KEY")]
        key: String,
        /// The only tag for which the module is signed; without it, it is signed for every use
        #[arg(long, value_name = "NAME")]
        tag: Option<String>,
        /// The file with the password of the key; others must not read it
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
}

/// The key that signs a pushed module.
#[derive(Debug, Args)]
pub(crate) struct SignFlags {
    /// Sign the module for its tag with this key: a name of `waft keys list`, or the file of a secret key
    #[arg(long, value_name = "KEY")]
    pub(crate) sign: Option<String>,
    /// The file with the password of the key; others must not read it
    #[arg(long, value_name = "FILE", requires = "sign")]
    pub(crate) password_file: Option<PathBuf>,
}
