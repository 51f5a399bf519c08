//! The TLS of a client: which certificates of servers it trusts, and which certificate it shows.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::SingleCertAndKey,
};

use crate::{
    file::FileError,
    pem::{self, Identity, provider},
};

/// Which certificates of servers a client trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// The certificates of the authorities that this machine trusts. The variable `SSL_CERT_FILE` may name others.
    #[default]
    Machine,
    /// The certificates of the authorities that this machine trusts, and of those in a PEM file.
    MachineAnd(PathBuf),
    /// Only the certificates of the authorities in a PEM file.
    Only(PathBuf),
    /// No certificate: for connections without TLS. It saves the time to read the authorities of the machine.
    Nothing,
    /// Every certificate: whoever controls the network can read and change everything.
    Unverified,
}

/// The TLS of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Which certificates of servers it trusts.
    pub trust: Trust,
    /// The certificate that it shows to a server that asks for one.
    pub identity: Option<Identity>,
}

impl ClientTls {
    /// Reads the files. It blocks. Each call reads them again, so that a replaced file takes effect with the next connection.
    ///
    /// # Errors
    /// [`FileError`] when a file cannot be used, or certificate and key do not belong together.
    pub fn config(&self) -> Result<ClientConfig, FileError> {
        let provider = provider();
        let versions = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = versions.expect("ring has the ciphers of both versions");
        let builder = match &self.trust {
            Trust::Unverified => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(UnverifiedCertificates { provider }))
            }
            Trust::Machine => builder.with_root_certificates(with_those_of_the_machine(RootCertStore::empty())),
            Trust::MachineAnd(file) => {
                builder.with_root_certificates(with_those_of_the_machine(pem::authorities(file)?))
            }
            Trust::Only(file) => builder.with_root_certificates(pem::authorities(file)?),
            Trust::Nothing => builder.with_root_certificates(RootCertStore::empty()),
        };
        Ok(match &self.identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.read()?))),
            None => builder.with_no_client_auth(),
        })
    }
}

/// Adds the authorities that this machine trusts. Without any, each handshake fails with an unknown issuer.
fn with_those_of_the_machine(mut roots: RootCertStore) -> RootCertStore {
    // Some of a machine's certificates may be unreadable, while the others are good.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
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
