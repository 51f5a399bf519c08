//! TLS to a server: ring, and the certificates that the machine trusts.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// How to speak TLS.
///
/// # Errors
/// Says why that cannot be done here.
pub(crate) fn config() -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    // A machine may have certificates that nobody can read, among others that are good.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
