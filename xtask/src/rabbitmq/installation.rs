//! Finds RabbitMQ on this machine, or installs it.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::BROKER;
use crate::{
    packages,
    process::{self, Transcript},
};

/// Debian's package of RabbitMQ.
const PACKAGE: &str = "rabbitmq-server";

/// The folders where distributions install the server itself. The program of the same name in `PATH` is a wrapper on Debian
/// and others: it switches to the user and the folders of the machine's own node.
const FOLDERS: [&str; 3] = ["/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin"];

/// The programs of a node.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    pub(super) server: PathBuf,
    pub(super) epmd: PathBuf,
}

impl Installation {
    pub(super) fn find() -> Result<Self> {
        let own =
            FOLDERS.iter().map(|folder| PathBuf::from(folder).join("rabbitmq-server")).find(|file| file.is_file());
        let server = own.or_else(|| process::find("rabbitmq-server", &[]));
        match (server, process::find("epmd", &["/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"])) {
            (Some(server), Some(epmd)) => Ok(Self { server, epmd }),
            (Some(server), None) => {
                bail!("{} is there, but not the epmd of Erlang, which it needs", server.display())
            }
            (None, _) => bail!(
                "RabbitMQ is not installed: install it (Debian: `apt-get install {PACKAGE}`, macOS: `brew install rabbitmq`), \
                 or let {BROKER} name a broker: amqp://user:password@host:port/%2f"
            ),
        }
    }
}

/// Installs RabbitMQ if it is missing.
///
/// # Errors
///
/// When it may not be installed; the error says what the user can do.
pub fn install_if_missing(transcript: &Transcript) -> Result<()> {
    let missing = match Installation::find() {
        Ok(_) => return Ok(()),
        Err(missing) => missing,
    };
    if !packages::can_install() {
        return Err(missing);
    }
    packages::install(transcript, &[PACKAGE], "the tests talk to a real broker")?;
    Installation::find().map(drop)
}
