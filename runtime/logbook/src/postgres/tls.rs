//! TLS to the server, with rustls and ring.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Builds the TLS connector. `require` checks the server's certificate against this machine's trusted ones, or those in
/// `SSL_CERT_FILE`. `prefer` accepts any certificate: an attacker in between could as well have refused to encrypt.
pub(super) fn connector(mode: SslMode) -> MakeRustlsConnect {
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = versions.expect("ring has the ciphers of both versions");
    let builder = match mode {
        SslMode::Disable | SslMode::Prefer => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(UnverifiedCertificates { provider }))
        }
        // The enum is open: any new mode checks the certificate.
        _ => {
            let mut roots = RootCertStore::empty();
            // Without roots, the handshake fails with an unknown issuer.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            builder.with_root_certificates(roots)
        }
    };
    MakeRustlsConnect::new(builder.with_no_client_auth())
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
