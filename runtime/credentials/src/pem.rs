//! Certificates and keys in PEM files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use crate::file::{self, FileError, Readers};

/// The PEM files of a certificate and of its key. The certificate comes first in its file, then those that lead to a trusted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The file of the certificate.
    pub certificate: PathBuf,
    /// The file of the key.
    pub key: PathBuf,
}

impl Identity {
    /// Reads both files, and checks that they belong together.
    pub(crate) fn read(&self) -> Result<Arc<CertifiedKey>, FileError> {
        const KEY: &str = "the key";
        let certificates = certificates("the certificate", &self.certificate)?;
        let unusable = |reason: String| FileError::new(KEY, &self.key, reason);
        let bytes = file::read(KEY, &self.key, Readers::Few)?;
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| unusable(error.to_string()))?;
        let certified = CertifiedKey::from_der(certificates, key, &ring::default_provider());
        certified.map(Arc::new).map_err(|error| unusable(error.to_string()))
    }
}

/// The certificates of the authorities in a file.
pub(crate) fn authorities(file: &Path) -> Result<RootCertStore, FileError> {
    const PART: &str = "the authority";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(PART, file)? {
        roots.add(certificate).map_err(|error| FileError::new(PART, file, error))?;
    }
    Ok(roots)
}

fn certificates(part: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = file::read(part, file, Readers::Anyone)?;
    let read = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let certificates = read.map_err(|error| FileError::new(part, file, error))?;
    if certificates.is_empty() {
        return Err(FileError::new(part, file, "it contains no certificate (PEM)"));
    }
    Ok(certificates)
}

/// The cryptography of all connections.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
