//! TLS to the server, with rustls and ring: which certificates are trusted, and which certificate is shown to the server.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How a connection is encrypted: the parameters of the address that begin with `ssl`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TlsOptions {
    /// Whether the address sets the mode.
    pub(super) has_mode: bool,
    /// The file with the certificates to trust, in place of this machine's.
    pub(super) root_certificates: Option<PathBuf>,
    /// The file with this client's certificate.
    pub(super) certificate: Option<PathBuf>,
    /// The file with the key of this client's certificate.
    pub(super) key: Option<PathBuf>,
}

/// The mode of a connection whose address sets none: a server on another machine must show a certificate that is trusted, since
/// it is sent the password and all records.
pub(super) fn default_mode(config: &Config) -> SslMode {
    if config.get_hosts().iter().all(is_local) { SslMode::Prefer } else { SslMode::Require }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// Builds the TLS connector. `require` checks the server's certificate; `prefer` accepts any certificate: an attacker in
/// between could as well have refused to encrypt.
///
/// # Errors
/// Which file cannot be used, and why.
pub(super) fn connector(mode: SslMode, options: &TlsOptions) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = versions.expect("ring has the ciphers of both versions");
    let is_unverified = matches!(mode, SslMode::Disable | SslMode::Prefer) && options.root_certificates.is_none();
    let builder = if is_unverified {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(UnverifiedCertificates { provider }))
    } else {
        // The enum of modes is open: any new mode checks the certificate.
        builder.with_root_certificates(roots(options.root_certificates.as_deref())?)
    };
    let config = match (&options.certificate, &options.key) {
        (Some(certificate), Some(key)) => {
            let read_key = PrivateKeyDer::from_pem_file(key);
            let key = read_key.map_err(|error| unusable("the key", key, &error))?;
            let shown = builder.with_client_auth_cert(certificates(certificate)?, key);
            shown.map_err(|error| unusable("the certificate", certificate, &error))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err("sslcert and sslkey belong together: give both or none".into()),
    };
    Ok(MakeRustlsConnect::new(config))
}

/// The trusted certificates: those of a file, or of this machine, where `SSL_CERT_FILE` names others.
fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| unusable("a certificate", file, &error))?;
            }
        }
        // Without roots, the handshake fails with an unknown issuer.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    Ok(roots)
}

/// The certificates in a PEM file.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(format!("{} holds no certificate (PEM)", file.display())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unusable("the certificates", file, &error)),
    }
}

fn unusable(part: &str, file: &Path, error: &dyn std::error::Error) -> String {
    format!("{part} in {} cannot be used: {error}", file.display())
}

/// Accepts any certificate, but still verifies that the server has its key.
#[derive(Debug)]
struct UnverifiedCertificates {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for UnverifiedCertificates {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
