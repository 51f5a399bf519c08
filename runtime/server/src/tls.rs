//! TLS for the connections of a server. A certificate that is replaced on disk is used without a restart.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use store::{FileStates, check_regularly};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

/// How often the files are compared with what was read. Certificates are replaced some weeks before they end.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Why the files of a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{part} in {} cannot be used: {reason}", .file.display())]
pub struct TlsError {
    part: &'static str,
    file: PathBuf,
    reason: String,
}

/// The certificate of a server.
pub struct Tls {
    files: Files,
    current: Arc<Current>,
    states: FileStates,
}

/// The files of a certificate, and of its key.
#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Tls {
    /// Reads a certificate and its key from PEM files. The certificate comes first in its file, then those that lead to one
    /// that clients trust.
    ///
    /// # Errors
    /// [`TlsError`] when a file cannot be read, or the two do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        let states = files.states();
        let current = Arc::new(Current { key: RwLock::new(files.read()?) });
        Ok(Self { files, current, states })
    }

    /// Makes the TLS connections of a server.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("ring has the ciphers of both versions");
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.current.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// Reads the files again whenever they change, for ever. Files that cannot be used change nothing.
    pub(crate) async fn follow_files(self) {
        match check_regularly("certificate", CHECK_INTERVAL, self, Self::check_files).await {}
    }

    fn check_files(&mut self) {
        let states = self.files.states();
        if states == self.states {
            return;
        }
        self.states = states;
        match self.files.read() {
            Ok(key) => {
                info!(file = %self.files.certificate.display(), "the certificate has changed: new connections use it");
                *self.current.key.write().unwrap_or_else(PoisonError::into_inner) = key;
            }
            // One of the files may have been replaced before the other.
            Err(error) => warn!(%error, "the certificate has changed: the one before it stays in use"),
        }
    }
}

impl Files {
    fn states(&self) -> FileStates {
        FileStates::of([&self.certificate, &self.key])
    }

    fn read(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let unusable = |part, file: &Path, reason: String| TlsError { part, file: file.to_owned(), reason };
        let of_certificate = |reason: String| unusable("the certificate", &self.certificate, reason);
        let of_key = |reason: String| unusable("the key", &self.key, reason);
        // Anything else may have no end.
        for (part, file) in [("the certificate", &self.certificate), ("the key", &self.key)] {
            if file.metadata().is_ok_and(|metadata| !metadata.is_file()) {
                return Err(unusable(part, file, "it is no regular file".into()));
            }
        }
        let read = CertificateDer::pem_file_iter(&self.certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certificates = read.map_err(|error| of_certificate(error.to_string()))?;
        if certificates.is_empty() {
            return Err(of_certificate("it contains no certificate (PEM)".into()));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| of_key(error.to_string()))?;
        let key = CertifiedKey::from_der(certificates, key, &ring::default_provider());
        Ok(Arc::new(key.map_err(|error| of_key(error.to_string()))?))
    }
}

/// The certificate in use.
#[derive(Debug)]
struct Current {
    key: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_replaced_certificate_is_used_once_its_key_belongs_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let mut seconds = 0;
        let mut write = |number: usize, text: String| {
            std::fs::write(&files[number], text).unwrap();
            // The clock of a file system may be coarse.
            seconds += 1;
            let changed = SystemTime::now() + Duration::from_secs(seconds);
            std::fs::File::options().write(true).open(&files[number]).unwrap().set_modified(changed).unwrap();
        };
        let made = || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let [first, second] = [made(), made()];
        assert!(Tls::read(&files[0], &files[1]).is_err_and(|error| error.to_string().contains("cert.pem")));
        write(0, first.cert.pem());
        write(1, second.signing_key.serialize_pem());
        assert!(Tls::read(&files[0], &files[1]).is_err_and(|error| error.to_string().contains("key.pem")));
        write(1, first.signing_key.serialize_pem());
        let mut tls = Tls::read(&files[0], &files[1]).unwrap();
        let in_use = |tls: &Tls| tls.current.key.read().unwrap().cert[0].clone();
        assert_eq!(in_use(&tls), *first.cert.der());
        write(0, second.cert.pem());
        tls.check_files();
        assert_eq!(in_use(&tls), *first.cert.der(), "the key is still the old one");
        write(1, second.signing_key.serialize_pem());
        tls.check_files();
        assert_eq!(in_use(&tls), *second.cert.der());
    }
}
