//! The TLS of a private server for tests.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The certificate of a server, and the authority whose certificates its clients must show: texts in PEM.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// The certificate of the server.
    pub certificate: String,
    /// The key of that certificate.
    pub key: String,
    /// The certificate of the authority.
    pub client_authority: String,
}

/// The files of a [`ServerTls`].
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_authority: PathBuf,
}

impl ServerTls {
    /// Writes the files. Only their owner may read them.
    pub(crate) fn write(&self, folder: &Path) -> Result<TlsFiles> {
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            let written =
                fs::write(&file, text).and_then(|()| fs::set_permissions(&file, Permissions::from_mode(0o600)));
            written.with_context(|| format!("could not write {}", file.display())).map(|()| file)
        };
        Ok(TlsFiles {
            certificate: write("server.pem", &self.certificate)?,
            key: write("server.key", &self.key)?,
            client_authority: write("authority.pem", &self.client_authority)?,
        })
    }
}
