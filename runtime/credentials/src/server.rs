//! The TLS of a server: its certificate, and whose certificates its clients must show.

use std::{path::PathBuf, sync::Arc};

use rustls::{ServerConfig, server::WebPkiClientVerifier, sign::SingleCertAndKey};

use crate::{
    file::FileError,
    pem::{self, Identity, provider},
};

/// The TLS of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// Its certificate.
    pub identity: Identity,
    /// The PEM file of the authorities whose certificates clients must show. Without it, clients show none.
    pub client_authority: Option<PathBuf>,
}

impl ServerTls {
    /// Reads the files. It blocks. With `client_authority`, a handshake of a client without a valid certificate fails.
    ///
    /// # Errors
    /// [`FileError`] when a file cannot be used, or certificate and key do not belong together.
    pub fn config(&self) -> Result<ServerConfig, FileError> {
        let provider = provider();
        let versions = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = versions.expect("ring has the ciphers of both versions");
        let builder = match &self.client_authority {
            Some(file) => {
                let roots = Arc::new(pem::authorities(file)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.expect("there is an authority"))
            }
            None => builder.with_no_client_auth(),
        };
        Ok(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(self.identity.read()?))))
    }

    /// All files that it reads.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let Self { identity: Identity { certificate, key }, client_authority } = self;
        [Some(certificate), Some(key), client_authority.as_ref()].into_iter().flatten()
    }
}
